"""Fit a classifier by its name."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.errors import DataError
from fusionkit.evaluation.classifiers.examples import Examples, Probabilities
from fusionkit.evaluation.classifiers.network import fit_network
from fusionkit.evaluation.classifiers.svm import fit_svm, tune_svm

ClassifierKind = Literal["svm", "network"]
CLASSIFIERS: tuple[ClassifierKind, ...] = get_args(ClassifierKind)


def tune_classifier(kind: ClassifierKind, examples: Examples) -> dict[str, float]:
    """What a classifier chooses by itself, on real records alone: nothing for the network.

    It is the same whatever generated records come beside, so that a comparison of additions needs it once.
    """
    return tune_svm(examples) if kind == "svm" else {}


def fit_classifier(
    kind: ClassifierKind,
    values: Float[Tensor, "record width"],
    label: Int[Tensor, " record"],
    share: Float[Tensor, " record"] | None = None,
    *,
    classes: int,
    seed: int,
    group: Int[Tensor, " record"] | None = None,
    tuned: Mapping[str, float] | None = None,
) -> Probabilities:
    """Learn classes from vectors.

    Args:
        kind: ``svm`` or ``network``.
        values: on any device and of any scale, finite.
        label: class of each.
        share: weight of each; 1 by default.
        classes: how many there are; one without records gets probability 0.
        seed: of the network.
        group: whom each record is of, `MADE` for generated ones; by default every record is real and its own group.
        tuned: what `tune_classifier` said; by default it is asked.

    Returns:
        Probabilities ``(query, class_)`` of vectors ``(query, width)``, on their device.

    Raises:
        DataError: there is no record, or one is not finite.
    """
    if not len(values):
        raise DataError("a classifier must have records to learn from, but got none")
    if not bool(torch.isfinite(values).all()):
        raise DataError("a classifier must learn from finite values, but some are not")
    share = torch.ones(len(values), device=values.device) if share is None else share
    group = torch.arange(len(values), device=values.device) if group is None else group
    examples = Examples(values.float(), label, share.float(), group, classes)
    certain = examples.only_class()
    if certain is not None:
        return certain
    if kind == "network":
        return fit_network(examples, seed)
    return fit_svm(examples, dict(tune_svm(examples) if tuned is None else tuned))
