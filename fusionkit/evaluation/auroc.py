"""The area under the ROC curve: how often a positive record scores above a negative one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Better, Metric, Resampler, defined_mean, ratio


@dataclass(frozen=True)
class Auroc(Metric):
    r"""Chance that a random positive record scores above a random negative one, ties counting half.

    .. math:: A = \tfrac{1}{PN} \sum_{i \in +} \sum_{j \in -} [s_i > s_j] + \tfrac{1}{2} [s_i = s_j]

    Of two classes it is that of the second; of more, the mean over classes, each against the rest; of several
    labels, the mean over labels. A class without both positive and negative records is left out; nan where none
    remains. Positive scores (0.9, 0.4) against a negative 0.5 give 1/2.

    Reference:
        Hanley and McNeil, Radiology 1982.
    """

    name: str = "auroc"
    better: Better = "higher"

    def resampler(self, prediction: Array, target: Array, group: Array, groups: int) -> Resampler:
        each = [
            area_resampler(score, positive, group, groups) for score, positive in _one_against_rest(prediction, target)
        ]
        return lambda draws: defined_mean(np.stack([area(draws) for area in each], axis=-1))


def _one_against_rest(prediction: Array, target: Array) -> list[tuple[Array, Array]]:
    if prediction.ndim == 3:
        return [(prediction[:, label, 1], target[:, label] > 0) for label in range(prediction.shape[1])]
    classes = range(1, 2) if prediction.shape[1] == 2 else range(prediction.shape[1])
    return [(prediction[:, number], target == number) for number in classes]


def area_resampler(
    score: Float[np.ndarray, " record"], positive: Bool[np.ndarray, " record"], group: Array, groups: int
) -> Resampler:
    """Choose the cheaper way: over pairs of groups, or over records."""
    if groups**2 <= 8 * len(score):
        return over_pairs(score, positive, group, groups)
    return over_records(score, positive, group)


def over_pairs(score: Array, positive: Array, group: Array, groups: int) -> Resampler:
    """Count wins of group against group once: a resample is then a quadratic form of how often each was drawn."""
    wins = np.zeros((groups, groups))
    for other in range(groups):
        negative = np.sort(score[~positive & (group == other)])
        below = np.searchsorted(negative, score[positive], side="left")
        not_above = np.searchsorted(negative, score[positive], side="right")
        wins[:, other] = np.bincount(group[positive], weights=(below + not_above) / 2, minlength=groups)
    positives = np.bincount(group[positive], minlength=groups).astype(float)
    negatives = np.bincount(group[~positive], minlength=groups).astype(float)

    def resample(draws: Array) -> Array:
        return ratio(((draws @ wins) * draws).sum(1), (draws @ positives) * (draws @ negatives))

    return resample


def over_records(score: Array, positive: Array, group: Array) -> Resampler:
    """Sort records once: a resample is then a cumulative sum of weights."""
    order = np.argsort(score, kind="stable")
    score, positive, group = score[order], positive[order], group[order]
    ties = np.flatnonzero(np.append(True, score[1:] != score[:-1])) if len(score) else np.zeros(0, dtype=np.int64)

    def resample(draws: Array) -> Array:
        if not len(score):
            return np.full(len(draws), np.nan)
        weight = draws[:, group]
        positives = np.add.reduceat(np.where(positive, weight, 0), ties, axis=1)
        negatives = np.add.reduceat(np.where(positive, 0, weight), ties, axis=1)
        wins = (positives * (negatives.cumsum(1) - negatives / 2)).sum(1)
        return ratio(wins, positives.sum(1) * negatives.sum(1))

    return resample
