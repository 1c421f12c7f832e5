"""The corrected resampled t test over folds: training sets overlap, and so folds say less than their number."""

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.evaluation.statistics.tested import Tested
from fusionkit.evaluation.statistics.ties import without_rounding
from fusionkit.evaluation.statistics.trained_t import alike


def corrected_t(differences: Float[np.ndarray, "*test fold"], *, test_share: float) -> Tested:
    r"""Student's t of the mean difference over folds, its variance multiplied by `correction`.

    .. math:: \frac{\bar d}{\sqrt{\left(\frac{1}{k} + \frac{\rho}{1 - \rho}\right) s^2}}

    with k - 1 degrees of freedom. Differences .02, .04, .06 and .08 with a test share of a quarter give
    .05 / sqrt(7/12 * .000667) = 2.54 and p = 0.085, not shown; without the correction t would be 3.87. It keeps its
    level under every null study of `fusionkit.evaluation.statistics.null_study`, and finds little with four folds.
    `fusionkit.evaluation.paired` gives its interval.

    Args:
        differences: first strategy less second in each fold, seeds averaged before.
        test_share: of the records that a fold trains on or tests, the share that it tests.

    Raises:
        ConfigError: the share is not between 0 and 1.
        ShapeError: there are fewer than two folds.

    Reference:
        As `correction`; over folds of one cross-validation: Bouckaert and Frank, PAKDD 2004.
    """
    differences = np.asarray(differences, dtype=np.float64)
    folds = differences.shape[-1]
    if folds < 2:
        raise ShapeError(f"a t test must be of two folds or more, but got {folds}")
    mean = np.asarray(differences.mean(-1))
    error = np.sqrt(correction(folds, test_share) * differences.var(-1, ddof=1))
    error = without_rounding(error, np.abs(mean))  # all folds agree, but for rounding
    statistic = np.divide(mean, error, out=np.where(mean == 0, 0.0, np.copysign(np.inf, mean)), where=error > 0)
    p = np.where(np.isinf(statistic), alike(np.asarray(folds - 1.0)), 2 * t.sf(np.abs(statistic), folds - 1))
    return Tested(statistic, np.asarray(p))


def correction(folds: int, test_share: float) -> float:
    r"""What the variance over folds is multiplied by to become that of their mean, as training sets overlap.

    .. math:: \frac{1}{k} + \frac{\rho}{1 - \rho}, \quad \frac{\rho}{1 - \rho} = \frac{n_\mathrm{test}}{n_\mathrm{train}}

    Four folds of a quarter each give 1/4 + 1/3 = 7/12; without overlap it would be 1/4. Where a fifth of the rest is
    put aside for validation, n_train is 0.6 of all, and it is 1/4 + 0.25 / 0.6 = 2/3.

    Raises:
        ConfigError: the share is not between 0 and 1.

    Reference:
        Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 2003.
    """
    if not 0 <= test_share < 1:
        raise ConfigError(f"the share of records tested in a fold must be from 0 to below 1, got {test_share:g}")
    return 1 / folds + test_share / (1 - test_share)
