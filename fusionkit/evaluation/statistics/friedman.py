"""Friedman's test: do any of several strategies differ, by their ranks within subjects?"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2, f, rankdata

from fusionkit.core.errors import ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Better
from fusionkit.evaluation.statistics.ties import levels

FEW, ORDERS = 10, 6  # subjects and strategies up to which orders are counted out
STEPS = 100_000  # unless one subject more made that many rank sums


@dataclass(frozen=True)
class Friedman:
    """Ranks of strategies and whether they differ by more than chance; of many tables at once, arrays.

    Attributes:
        ranks: mean rank of each strategy, 1 for the best, ``(..., strategy)``.
        chi_square: Friedman's statistic, corrected for ties.
        f: Iman and Davenport's, which is less conservative; infinite where all subjects agree.
        chi_square_p: of the first, by its limit for many subjects.
        p: counted out where subjects are few, for both limits fail there; else of the second.
    """

    ranks: Array
    chi_square: Array
    f: Array
    chi_square_p: Array
    p: Array


def friedman(scores: Float[np.ndarray, "*test subject strategy"], better: Better = "higher") -> Friedman:
    r"""Rank strategies within each subject and compare their mean ranks.

    With n subjects, k strategies and mean ranks R,

    .. math:: \chi^2 = \frac{12 n}{k (k + 1)} \sum_j \left(R_j - \tfrac{k + 1}{2}\right)^2, \quad
              F = \frac{(n - 1) \chi^2}{n (k - 1) - \chi^2}

    the first divided by what ties leave of the spread of ranks. Three subjects that all rank three strategies alike
    give 6, and p = 1 / 3!^2 = 1/36: as many as that agree by chance, where F is infinite. Of two strategies use `fusionkit.evaluation.statistics.signed_rank`.

    Raises:
        ShapeError: there are fewer than two strategies or subjects.

    Reference:
        Friedman, JASA 1937; Iman and Davenport, Communications in Statistics 1980; Demsar, Statistical Comparisons
        of Classifiers over Multiple Data Sets, JMLR 2006.
    """
    scores = np.asarray(scores, dtype=np.float64)
    subjects, strategies = scores.shape[-2:]
    if subjects < 2 or strategies < 2:
        raise ShapeError(f"ranks must be of two strategies and subjects or more, but got {strategies} and {subjects}")
    ranks = rankdata(levels(-scores if better == "higher" else scores), axis=-1)
    spread = ((ranks - (strategies + 1) / 2) ** 2).sum((-2, -1)) / (subjects * (strategies - 1))
    mean = ranks.mean(-2)
    between = np.asarray(subjects * ((mean - (strategies + 1) / 2) ** 2).sum(-1))
    statistic = np.divide(between, spread, out=np.zeros_like(between), where=spread > 0)
    rest = np.maximum(subjects * (strategies - 1) - statistic, 0)
    rest = np.where(rest < 1e-9 * subjects * strategies, 0, rest)
    ratio = np.divide((subjects - 1) * statistic, rest, out=np.full_like(statistic, np.inf), where=rest > 0)
    chi_square_p = chi2.sf(statistic, strategies - 1)
    p = f.sf(ratio, strategies - 1, (strategies - 1) * (subjects - 1))
    p = _counted(np.rint(2 * ranks).astype(np.int64) - (strategies + 1), np.asarray(p))
    return Friedman(mean, *map(np.asarray, (statistic, ratio, chi_square_p, p)))


def _counted(ranks: Int[np.ndarray, "*test subject strategy"], otherwise: Array) -> Array:
    """Chance of rank sums as far apart when each subject's ranks are shuffled; doubled ranks, less their mean."""
    if ranks.shape[-2] > FEW or ranks.shape[-1] > ORDERS:
        return otherwise
    tables = ranks.reshape(-1, *ranks.shape[-2:])
    p, spread = otherwise.reshape(-1).copy(), (tables.sum(1) ** 2).sum(1)
    kinds, kind = np.unique(np.sort(tables, axis=2), axis=0, return_inverse=True)
    for number, rows in enumerate(kinds):
        law = _law(tuple(sorted(map(tuple, rows.tolist()))))
        if law is not None:
            here = kind.reshape(-1) == number
            p[here] = law[1][np.searchsorted(law[0], spread[here])]
    return p.reshape(otherwise.shape)


@lru_cache(maxsize=64)
def _law(rows: tuple[tuple[int, ...], ...]) -> tuple[Array, Array] | None:
    """Sums of squared rank sums that shuffling can give, and the chance of each or more; None where that is too long.

    Rank sums are kept in order: what is added to them is shuffled anyway.
    """
    sums: Array = np.zeros((1, len(rows[0])), dtype=np.int64)
    chance: Array = np.ones(1)
    for row in rows:
        orders = np.array(sorted(set(permutations(row))))
        if len(sums) * len(orders) > STEPS:
            return None
        every = np.sort((sums[:, None] + orders).reshape(-1, len(row)), axis=1)
        sums, place = np.unique(every, axis=0, return_inverse=True)
        chance = np.bincount(place.reshape(-1), weights=np.repeat(chance / len(orders), len(orders)))
    spread, place = np.unique((sums**2).sum(1), return_inverse=True)
    return spread, np.bincount(place.reshape(-1), weights=chance)[::-1].cumsum()[::-1]
