"""A linear support vector machine, its cost chosen and its probabilities learned within the training records."""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC
from torch import Tensor

from fusionkit.core.modality import Array
from fusionkit.evaluation.classifiers.examples import Examples, Probabilities

COSTS = tuple(2.0**power for power in range(-14, 1, 2))
COST = 2.0**-8
"""Where there is one group, so that nothing can be chosen."""
PARTS = 3


def tune_svm(examples: Examples) -> dict[str, float]:
    """Choose on real records alone, which are cut into three parts by whole groups, each answered by the other two.

    The cost is the one with the best mean recall of classes (the smallest of equals). The slope is what scores are
    multiplied by before a softmax, so that what was answered is most probable (temperature scaling; Guo et al.,
    ICML 2017): a machine has no probabilities of its own, and those of its training records would be too sure.

    Returns:
        ``cost`` and ``slope``.
    """
    real = examples.of(examples.real)
    found, group = np.unique(real.group.cpu().numpy(), return_inverse=True)
    values = real.standardiser()(real.values).double().cpu().numpy()
    label, share = real.label.cpu().numpy(), real.share.double().cpu().numpy()
    parts = _parts(label, group, min(PARTS, len(found), np.bincount(label).max()))
    if not parts:
        return {"cost": COST, "slope": 1.0}
    held = np.concatenate([rows for _, rows in parts])
    best, cost, said = -1.0, COST, np.empty(0)
    for candidate in COSTS:
        scores = np.concatenate(
            [
                _scores(_machine(values[train], label[train], share[train], candidate), values[rows], examples.classes)
                for train, rows in parts
            ]
        )
        recall = _mean_recall(scores.argmax(1), label[held])
        if recall > best + 1e-12:
            best, cost, said = recall, candidate, scores
    return {"cost": cost, "slope": _slope(said, label[held])}


def fit_svm(examples: Examples, tuned: dict[str, float]) -> Probabilities:
    """Fit to all records: squared hinge loss, one class against the others; nothing is random.

    Args:
        examples: real and generated, standardised as the real ones are.
        tuned: of `tune_svm`.

    Reference:
        Fan et al., "LIBLINEAR: A Library for Large Linear Classification", JMLR 2008: the machine that the
        literature of emotion recognition from EEG compares by.
    """
    standardise = examples.standardiser()
    machine = _machine(
        standardise(examples.values).double().cpu().numpy(),
        examples.label.cpu().numpy(),
        examples.share.double().cpu().numpy(),
        tuned["cost"],
    )

    def answer(values: Float[Tensor, "query width"]) -> Float[Tensor, "query class_"]:
        entering = standardise(values).double().cpu().numpy()
        probable = softmax(tuned["slope"] * _scores(machine, entering, examples.classes), axis=1)
        return torch.from_numpy(probable).to(values.device, torch.float32)

    return answer


def _parts(label: Array, group: Array, count: int) -> list[tuple[Array, Array]]:
    """Records that train and records that are held out, classes spread over the parts as evenly as groups let them."""
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(StratifiedGroupKFold(count).split(label, label, group))
    return [(train, held) for train, held in parts if len(held) and len(np.unique(label[train])) > 1]


def _machine(values: Array, label: Array, share: Array, cost: float) -> LinearSVC:
    return LinearSVC(C=cost, dual=False, max_iter=10000, random_state=0).fit(values, label, sample_weight=share)


def _scores(machine: LinearSVC, values: Array, classes: int) -> Array:
    """Distances from the planes by class; minus infinity where the machine saw none of a class."""
    found = machine.decision_function(values)
    found = np.stack([-found, found], 1) if found.ndim == 1 else found
    scores = np.full((len(values), classes), -np.inf)
    scores[:, machine.classes_] = found
    return scores


def _mean_recall(said: Int[np.ndarray, " record"], label: Int[np.ndarray, " record"]) -> float:
    return float(np.mean([(said[label == one] == one).mean() for one in np.unique(label)]))


def _slope(scores: Float[np.ndarray, "record class_"], label: Int[np.ndarray, " record"]) -> float:
    """The factor between 1/32 and 4096 under which the classes are most probable."""
    known = np.isfinite(scores[np.arange(len(label)), label])
    if not known.any():
        return 1.0
    scores, label = np.where(np.isfinite(scores), scores, -1e9)[known], label[known]

    def surprise(power: float) -> float:
        return float(-log_softmax(2**power * scores, axis=1)[np.arange(len(label)), label].mean())

    return float(2 ** minimize_scalar(surprise, bounds=(-5, 12), method="bounded").x)
