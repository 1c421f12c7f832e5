"""What a change brings: the difference of scores on the same folds and seeds, and how far it could be off."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.recording import Array

ROUNDING = 1e-9
"""Differences of scores are alike where they differ by less."""

Finding = Literal["gain", "loss", "no gain", "unknown"]


@dataclass(frozen=True)
class Gain:
    """A mean difference, above 0 where the change is for the better.

    Attributes:
        value: mean over folds; nan without any pair.
        low: lower end of its interval; nan where there is none.
        high: upper end; likewise.
        folds: how many there are pairs of.
        each: difference by fold, means over seeds; nan where no seed has a pair.
        note: why there is no interval, or none to be trusted; else empty.
    """

    value: float
    low: float
    high: float
    folds: int
    each: tuple[float, ...]
    note: str = ""

    @property
    def finding(self) -> Finding:
        """``no gain`` where the interval covers 0; ``unknown`` where there is none to be trusted."""
        if self.note:
            return "unknown"
        if self.low > 0:
            return "gain"
        return "loss" if self.high < 0 else "no gain"


def paired_gain(
    changed: Float[np.ndarray, "fold seed"],
    plain: Float[np.ndarray, "fold seed"],
    *,
    ratio: float,
    level: float = 0.95,
    better: Literal["higher", "lower"] = "higher",
) -> Gain:
    r"""Compare scores fold by fold and seed by seed.

    Seeds of a fold have its test records in common and are averaged first: they are no observations of their own. The
    training parts of the :math:`J` folds overlap, too, so that the variance :math:`s^2` of the differences says too
    little; the corrected interval is

    .. math:: \bar d \pm t_{J-1} \sqrt{\left(\tfrac1J + \tfrac{n_{test}}{n_{train}}\right) s^2}

    Differences .02, .04, .06 and .08 of 4 folds (ratio 1/3) give .05 from -.0128 to .1128, no gain; without the
    correction it would be from .0089 to .0911. Where all folds differ by the same amount, which scores of a few records often
    do, the interval is that amount and says nothing.

    Args:
        changed: scores with the change, nan where there is none.
        plain: scores without it, likewise; a pair needs both.
        ratio: records that test for each that trains, of a fold of the split.
        level: of the interval.
        better: which direction of scores is.

    Raises:
        ConfigError: ``ratio`` or ``level`` is out of bounds.
        ShapeError: the scores are not of the same folds and seeds.

    Reference:
        Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003; of cross-validation:
        Bouckaert and Frank, PAKDD 2004.
    """
    if not (0 <= ratio < np.inf and 0 < level < 1):
        raise ConfigError(f"ratio must be 0 or more and level between 0 and 1, but got {ratio} and {level}")
    if changed.shape != plain.shape or changed.ndim != 2:
        raise ShapeError(f"scores must be of the same folds and seeds, but got {changed.shape} and {plain.shape}")
    difference = (changed - plain) * (1 if better == "higher" else -1)
    each = fold_means(difference)
    known = each[~np.isnan(each)]
    count, by_fold = len(known), tuple(float(one) for one in each)
    if not count:
        return Gain(np.nan, np.nan, np.nan, 0, by_fold, "no pair")
    mean = float(known.mean())
    if count == 1:
        return Gain(mean, np.nan, np.nan, 1, by_fold, "no interval: one fold only")
    error = np.sqrt((1 / count + ratio) * known.var(ddof=1))
    reach = float(student.ppf((1 + level) / 2, count - 1) * error)
    alike = reach < ROUNDING < abs(mean)
    return Gain(
        mean, mean - reach, mean + reach, count, by_fold, "no spread to tell by: all folds alike" if alike else ""
    )


def fold_means(scores: Float[np.ndarray, "fold seed"]) -> Float[np.ndarray, " fold"]:
    """Mean of every fold over the seeds that there are: (1, nan), (nan, nan) and (2, 4) give 1, nan and 3."""
    known = ~np.isnan(scores)
    total: Array = np.where(known, scores, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
