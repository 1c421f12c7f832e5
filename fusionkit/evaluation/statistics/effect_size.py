"""How large a difference is, in units that do not depend on the number of subjects."""

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln
from scipy.stats import rankdata

from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import ratio
from fusionkit.evaluation.statistics.ties import levels, without_rounding


def cohen_dz(differences: Float[np.ndarray, "*test subject"]) -> Array:
    """Mean over standard deviation of the differences: 1, 2, 3 give 2. nan where they do not vary, or of one subject.

    Reference:
        Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.3.5.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.shape[-1] < 2:
        return np.full(differences.shape[:-1], np.nan)
    mean, spread = differences.mean(-1), differences.std(-1, ddof=1)
    return ratio(mean, without_rounding(spread, np.abs(mean)))


def hedges_gz(differences: Float[np.ndarray, "*test subject"]) -> Array:
    r"""`cohen_dz` without its bias, which makes it too large for few subjects.

    .. math:: g = d \, \Gamma(\nu / 2) / \left(\sqrt{\nu / 2} \, \Gamma((\nu - 1) / 2)\right), \quad \nu = n - 1

    about 1 - 3 / (4 nu - 1) times d: 0.80 of it with five subjects; nan with fewer than three.

    Reference:
        Hedges, Distribution Theory for Glass's Estimator of Effect Size, Journal of Educational Statistics 1981.
    """
    freedom = np.asarray(differences).shape[-1] - 1
    if freedom < 2:
        return np.full(np.asarray(differences).shape[:-1], np.nan)
    shrink = np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    return np.asarray(cohen_dz(differences) * shrink)


def rank_biserial(differences: Float[np.ndarray, "*test subject"]) -> Array:
    """Share of the signed ranks that is positive less the share that is negative: what the signed-rank test tests.

    Differences 1, 2, -3 give (3 - 3) / 6 = 0; all positive give 1; all zero, nan.

    Reference:
        Kerby, The Simple Difference Formula, Comprehensive Psychology 2014.
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = without_rounding(differences, np.abs(differences).max(-1, keepdims=True, initial=0))
    zeros = (differences == 0).sum(-1, keepdims=True)
    ranks = np.where(differences == 0, 0, rankdata(levels(np.abs(differences)), axis=-1) - zeros)
    return ratio((ranks * np.sign(differences)).sum(-1), ranks.sum(-1))


def cliffs_delta(first: Float[np.ndarray, "*test subject"], second: Float[np.ndarray, "*test other"]) -> Array:
    """Chance that a subject of the first scores above one of the second, less the chance that it scores below.

    It takes no account of pairs, and so compares whole distributions: (1, 2) against (1, 0) give 3/4.

    Reference:
        Cliff, Dominance Statistics, Psychological Bulletin 1993.
    """
    count, other = np.shape(first)[-1], np.shape(second)[-1]
    ranks = rankdata(levels(np.concatenate([first, second], axis=-1)), axis=-1)[..., :count].sum(-1)
    above = ranks - count * (count + 1) / 2  # and half of what is equal
    return np.asarray(2 * above / (count * other) - 1)
