"""Whether probabilities mean what they say."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import group_sums, ratio

BINS = 15


@dataclass(frozen=True)
class ReliabilityCurve:
    """How often answers are right against how sure they are.

    Attributes:
        edges: of the bins of confidence; a bin holds its upper edge, not its lower one.
        confidence: mean probability of the answered class in each bin; nan where a bin is empty.
        accuracy: share of right answers in each bin; nan where a bin is empty.
        count: records in each bin.
    """

    edges: Float[np.ndarray, " edge"]
    confidence: Float[np.ndarray, " bin"]
    accuracy: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between the two, over records; nan without records."""
        gap = np.where(self.count > 0, np.abs(self.confidence - self.accuracy), 0)
        records = self.count.sum()
        return float((gap * self.count).sum() / records) if records else float("nan")


def reliability_curve(
    probabilities: Float[np.ndarray, "record class_"], target: Array, bins: int = BINS
) -> ReliabilityCurve:
    """Sort records into bins of equal width by the probability of the answered class.

    Two answers at 0.9, one right, make a bin with confidence 0.9, accuracy 0.5 and count 2. Missing targets (nan)
    are left out.
    """
    known = ~np.isnan(target)
    bin_, confidence, right = _binned(probabilities[known], target[known], bins)
    count = np.bincount(bin_, minlength=bins)
    return ReliabilityCurve(
        edges=np.linspace(0, 1, bins + 1),
        confidence=ratio(np.bincount(bin_, weights=confidence, minlength=bins), count),
        accuracy=ratio(np.bincount(bin_, weights=right, minlength=bins), count),
        count=count,
    )


def calibration_sums(probabilities: Array, target: Array, group: Array, groups: int) -> Array:
    """For each group: how much confidence exceeds accuracy in each bin, summed over records; then their number."""
    bin_, confidence, right = _binned(probabilities, target, BINS)
    excess = np.zeros((len(target), BINS + 1))
    excess[np.arange(len(target)), bin_] = confidence - right
    excess[:, BINS] = 1
    return group_sums(excess, group, groups)


def calibration_error(sums: Array) -> Array:
    r"""Expected calibration error from `calibration_sums`.

    .. math:: \mathrm{ECE} = \sum_b \tfrac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|

    Four answers at 0.9 of which three are right give 0.15. Few records in a bin make it larger than it is.

    Reference:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017 (15 bins).
    """
    return ratio(np.abs(sums[..., :-1]).sum(-1), sums[..., -1])


def _binned(probabilities: Array, target: Array, bins: int) -> tuple[Array, Array, Array]:
    confidence = probabilities.max(axis=1, initial=0)
    bin_ = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    return bin_, confidence, (probabilities.argmax(axis=1) == target).astype(float)
