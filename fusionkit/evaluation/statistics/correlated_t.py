"""Bayesian comparison over folds: how probable is it that one strategy is better, worse, or no different in practice?"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.evaluation.statistics.corrected_t import correction


@dataclass(frozen=True)
class Posterior:
    """What is believed of a mean difference once the folds are seen.

    Attributes:
        worse: probability that the first strategy is worse by more than the region of practical equivalence.
        same: probability that the difference lies in that region.
        better: probability that the first is better by more.
        mean: of the difference.
        low, high: the middle 95 % of it.
    """

    worse: float
    same: float
    better: float
    mean: float
    low: float
    high: float


def correlated_t(
    differences: Float[np.ndarray, " fold"], *, test_share: float, rope: float, level: float = 0.95
) -> Posterior:
    r"""Posterior of the mean difference under a flat prior: Student's t, with the corrected variance.

    .. math:: \mathrm{St}\!\left(k - 1, \; \bar d, \; \left(\tfrac{1}{k} + \tfrac{\rho}{1 - \rho}\right) s^2\right)

    Differences of mean 0 share their probability evenly between worse and better. Where all folds differ by the
    same amount the posterior is that amount.

    Args:
        differences: first strategy less second in each fold, seeds averaged before.
        test_share: of the records that a fold trains on or tests, the share that it tests.
        rope: half the width of the region of practical equivalence: differences as small do not matter.
        level: probability between ``low`` and ``high``.

    Raises:
        ConfigError: ``rope`` is negative, or the share is not between 0 and 1.
        ShapeError: there are fewer than two folds.

    Reference:
        Benavoli, Corani, Demsar, Zaffalon, Time for a Change: a Tutorial for Comparing Multiple Classifiers Through
        Bayesian Analysis, JMLR 2017, section 3.
    """
    if not rope >= 0:
        raise ConfigError(f"the region of practical equivalence must be 0 or wider, got {rope:g}")
    if len(differences) < 2:
        raise ShapeError(f"a posterior must be of two folds or more, but got {len(differences)}")
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    scale = math.sqrt(correction(len(differences), test_share) * variance)
    if scale <= 1e-12 * abs(mean):  # rounding, or none at all
        same = float(-rope <= mean <= rope)
        return Posterior(float(mean < -rope), same, float(mean > rope), mean, mean, mean)
    law = t(len(differences) - 1, loc=mean, scale=scale)
    low, high = law.interval(level)
    worse, better = float(law.cdf(-rope)), float(law.sf(rope))
    return Posterior(worse, max(0.0, 1 - worse - better), better, mean, float(low), float(high))
