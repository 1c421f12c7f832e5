"""The smallest difference that an experiment of this size would have found: what "no difference shown" leaves open."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, t

from fusionkit.core.errors import ConfigError


def detectable_difference(error: float, freedom: float, *, level: float = 0.95, power: float = 0.8) -> float:
    r"""True difference that a two-sided t test finds with the given probability.

    The multiple :math:`\delta` of the standard error at which a noncentral t with that noncentrality falls beyond
    the critical value with probability ``power``. With many subjects it is 1.960 + 0.842 = 2.80 standard errors;
    with four folds 4.26.

    Args:
        error: standard error of the mean difference, as the test takes it (corrected, where that is).
        freedom: degrees of freedom of the test: folds or subjects less one.
        level: 1 less the chance of a false positive; with m comparisons, 1 - 0.05 / m.
        power: chance of finding it.

    Raises:
        ConfigError: ``level`` or ``power`` is out of bounds, or there is no degree of freedom.
    """
    if freedom < 1 or not 0 < level < 1 or not 1 - level < power < 1:
        raise ConfigError(
            "a detectable difference must have a degree of freedom and a power between 1 - level and 1, "
            f"but got {freedom:g}, {power:g} and {level:g}"
        )
    bar = float(t.ppf((1 + level) / 2, freedom))

    def excess(away: float) -> float:
        opposite = np.nan_to_num(nct.cdf(-bar, freedom, away))  # too small for scipy where it is nan
        return float(nct.sf(bar, freedom, away) + opposite) - power

    far = bar + 2
    while excess(far) < 0:
        far *= 1.5
    return float(error * brentq(excess, 0, far))
