"""Scores that are the same but for rounding: ranks and signs must not tell them apart."""

import numpy as np
from jaxtyping import Float, Int

ROUNDING = 1e-12
"""Share of the largest number below which a difference is rounding."""


def levels(values: Float[np.ndarray, "*test value"]) -> Int[np.ndarray, "*test value"]:
    """The place of each value among the different ones, from 0; equal where they differ by rounding alone.

    ``0.8 - 0.75``, 0.05 and 0.3 have the levels 0, 0 and 1, though the first is 0.05000000000000004.
    """
    order = np.argsort(values, axis=-1)
    ascending = np.take_along_axis(values, order, axis=-1)
    limit = ROUNDING * np.abs(values).max(-1, keepdims=True, initial=0)
    steps = np.diff(ascending, axis=-1, prepend=ascending[..., :1]) > limit
    return np.take_along_axis(steps.cumsum(-1), np.argsort(order, axis=-1), axis=-1)


def without_rounding(
    differences: Float[np.ndarray, "*test"] | float, scale: Float[np.ndarray, "*size"] | float
) -> Float[np.ndarray, "*test"]:
    """Differences of numbers of that size, 0 where rounding alone made them: 1e-17 of scores near 1."""
    return np.where(np.abs(differences) <= ROUNDING * np.asarray(scale), 0.0, differences)
