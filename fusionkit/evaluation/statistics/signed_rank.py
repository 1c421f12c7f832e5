"""Wilcoxon's signed-rank test over subjects: does one strategy tend to score above another?"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata

from fusionkit.core.recording import Array
from fusionkit.evaluation.statistics.tested import Tested
from fusionkit.evaluation.statistics.ties import levels, without_rounding

EXACT = 100  # subjects; above, the normal approximation is good to four digits


def signed_rank(differences: Float[np.ndarray, "*test subject"]) -> Tested:
    r"""Sum of the ranks of positive differences, ranked by size; zeros are left out, ties share their mean rank.

    .. math:: W = \sum_i \mathrm{rank}(|d_i|) \, [d_i > 0]

    Under the null every sign is a fair coin. Its distribution is counted out up to 100 subjects, with ties too,
    and normal above. Five differences all positive give W = 15 and p = 2 / 2^5 = 0.0625: with five subjects no
    two-sided test of signs says more. Subjects have to be independent: those tested by one trained model share its
    luck, and then p is too small.

    Args:
        differences: first strategy less second, by subject, seeds averaged before.

    Reference:
        Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1945.
    """
    differences = np.asarray(differences, dtype=np.float64)
    rows = differences.reshape(-1, differences.shape[-1])
    rows = without_rounding(rows, np.abs(rows).max(1, keepdims=True, initial=0))
    zeros = (rows == 0).sum(1, keepdims=True)
    ranks = np.where(rows == 0, 0, rankdata(levels(np.abs(rows)), axis=-1) - zeros)
    statistic = np.where(rows > 0, ranks, 0).sum(1)
    p = _exact(ranks, statistic) if rows.shape[1] <= EXACT else _normal(ranks, statistic)
    return Tested(statistic.reshape(differences.shape[:-1]), p.reshape(differences.shape[:-1]))


def _exact(ranks: Array, statistic: Array) -> Array:
    doubled = np.sort(np.rint(2 * ranks).astype(np.int64), axis=1)  # mean ranks are halves at worst
    kinds, kind = np.unique(doubled, axis=0, return_inverse=True)
    p = np.empty(len(ranks))
    for number, one in enumerate(kinds):
        here = kind.reshape(-1) == number
        below = _cumulative(tuple(one[one > 0].tolist()))
        at = np.rint(2 * statistic[here]).astype(np.int64)
        above = below[len(below) - 1 - at]  # the distribution is symmetric
        p[here] = np.minimum(1, 2 * np.minimum(below[at], above))
    return p


@lru_cache(maxsize=64)
def _cumulative(doubled: tuple[int, ...]) -> Array:
    """Chance that the sum of the ranks whose coin falls on heads is no larger than 0, 1, 2, ..., in half ranks."""
    chance = np.zeros(sum(doubled) + 1)
    chance[0] = 1
    for rank in doubled:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: len(chance) - rank]
        chance = (chance + shifted) / 2
    return chance.cumsum()


def _normal(ranks: Array, statistic: Array) -> Array:
    spread = np.sqrt((ranks**2).sum(1)) / 2
    away = np.abs(statistic - ranks.sum(1) / 2)
    z = np.divide(away, spread, out=np.zeros(len(away)), where=spread > 0)
    p: Array = 2 * norm.sf(z)
    return p
