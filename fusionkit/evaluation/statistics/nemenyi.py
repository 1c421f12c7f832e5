"""Nemenyi's test: which pairs of strategies differ, once ranks say that some do?"""

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import studentized_range


def critical_difference(strategies: int, subjects: int, level: float = 0.95) -> float:
    r"""How far mean ranks must lie apart to differ, all pairs held at once.

    .. math:: \mathrm{CD} = \frac{q}{\sqrt 2} \sqrt{\frac{k (k + 1)}{6 n}}

    with q the quantile of the studentised range of k values with infinite degrees of freedom. Ten subjects and two
    strategies give 1.960 sqrt(1/10) = 0.620; 14 and four, 2.569 sqrt(20/84) = 1.25.

    Reference:
        Nemenyi, Distribution-free Multiple Comparisons, PhD thesis, Princeton 1963; Demsar, JMLR 2006 (table 5).
    """
    quantile = studentized_range.ppf(level, strategies, np.inf) / math.sqrt(2)
    return float(quantile * _error(strategies, subjects))


def nemenyi(ranks: Float[np.ndarray, " strategy"], subjects: int) -> Float[np.ndarray, "strategy strategy"]:
    """Probability, for each pair, that chance alone sets some pair's mean ranks as far apart.

    They are below 0.05 where ranks differ by more than `critical_difference`; 1 on the diagonal.
    """
    apart = np.abs(ranks[:, None] - ranks)
    p = studentized_range.sf(apart * math.sqrt(2) / _error(len(ranks), subjects), len(ranks), np.inf)
    return np.asarray(np.clip(p, 0, 1))


def cliques(ranks: Float[np.ndarray, " strategy"], difference: float) -> list[list[int]]:
    """Largest sets of two strategies or more that lie no further apart than the critical difference, best first.

    Ranks 1, 2, 3 with a difference of 1.5 give (0, 1) and (1, 2).
    """
    order = np.argsort(ranks, kind="stable")
    found: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        last = int(np.searchsorted(ranks[order], ranks[order[start]] + difference, side="right"))
        if last > max(end, start + 1):
            found.append([int(strategy) for strategy in order[start:last]])
        end = max(end, last)
    return found


def _error(strategies: int, subjects: int) -> float:
    return math.sqrt(strategies * (strategies + 1) / (6 * subjects))
