"""Holm's step-down correction: of many comparisons, chance alone makes some look good."""

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array


def holm(p: Float[np.ndarray, "*family test"]) -> Float[np.ndarray, "*family test"]:
    r"""Adjusted p-values: the chance of any false positive stays under the level, whatever the tests share.

    With m tests and the p-values in ascending order,

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    (0.01, 0.04, 0.03) give (0.03, 0.06, 0.06). Tests that are not defined (nan) stay so and are not counted.

    Reference:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, axis=-1)  # nan last
    ascending = np.take_along_axis(p, order, axis=-1)
    left = (~np.isnan(p)).sum(-1, keepdims=True) - np.arange(p.shape[-1])
    adjusted: Array = np.minimum(1, np.maximum.accumulate(left * ascending, axis=-1))
    return np.take_along_axis(adjusted, np.argsort(order, axis=-1), axis=-1)
