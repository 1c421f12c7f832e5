"""What generated records teach a classifier about real ones, and the other way round."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fusionkit.core.recording import Array
from fusionkit.evaluation.embeddings import linear_probe
from fusionkit.evaluation.formula import balanced_accuracy
from fusionkit.evaluation.metrics import confusion_matrix


class Transfer(NamedTuple):
    """Balanced accuracies of linear classifiers.

    Attributes:
        made_real: trained on generated records, tested on held-out real ones (TSTR).
        real_real: trained on as many real records, tested on the same: what TSTR could be.
        real_made: trained on real records, tested on generated ones (TRTS): whether they are of the class they should
            be. High where a classifier chose them.
        chance: what guessing gives.
    """

    made_real: float
    real_real: float
    real_made: float
    chance: float


def transfer(
    real: Float[np.ndarray, "record width"],
    real_label: Int[np.ndarray, " record"],
    held_out: Float[np.ndarray, "other width"],
    held_out_label: Int[np.ndarray, " other"],
    made: Float[np.ndarray, "more width"],
    made_label: Int[np.ndarray, " more"],
    classes: int,
) -> Transfer:
    """Train logistic regressions (`fusionkit.evaluation.embeddings.linear_probe`) on one kind and test on the other.

    Where classes are told apart by all of them, all three are 1; generated records with labels of no meaning leave TSTR
    and TRTS at chance.

    Args:
        real: training records, as many as generated ones, for the comparison to be fair.
        real_label: their classes.
        held_out: real records that nothing trained on.
        held_out_label: their classes; without records, what is tested on them is nan.
        made: generated records.
        made_label: the classes they should have.
        classes: how many there are.

    Reference:
        Esteban, Hyland and Ratsch, "Real-valued (Medical) Time Series Generation with Recurrent Conditional GANs",
        2017, section 4.2.
    """

    return Transfer(
        made_real=_score(made, made_label, held_out, held_out_label, classes),
        real_real=_score(real, real_label, held_out, held_out_label, classes),
        real_made=_score(real, real_label, made, made_label, classes),
        chance=1 / len(np.unique(real_label)),
    )


def _score(values: Array, label: Array, test: Array, right: Array, classes: int) -> float:
    """Balanced accuracy on ``test``; nan without records."""
    if not len(test):
        return float("nan")
    return float(balanced_accuracy(confusion_matrix(linear_probe(values, label, test, classes), right)))
