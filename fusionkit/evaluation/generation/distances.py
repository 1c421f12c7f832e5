"""Distances between records, a part at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from fusionkit.core.recording import Array

CELLS = 2**22  # distances held at a time


def nearest_distance(
    x: Float[np.ndarray, "one width"], others: Float[np.ndarray, "other width"] | None = None, neighbour: int = 1
) -> Float[np.ndarray, " one"]:
    """How far each record's ``neighbour``-th nearest of the others is; without others, among the rest of its own.

    Of 0, 1 and 5 the nearest other is 1, 1 and 4 away.
    """
    given, skipped = (x, 1) if others is None else (others, 0)
    parts = [
        np.partition(part, neighbour + skipped - 1, axis=1)[:, neighbour + skipped - 1] for part in _parts(x, given)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def within_reach(
    x: Float[np.ndarray, "one width"], balls: Float[np.ndarray, "other width"], radius: Float[np.ndarray, " other"]
) -> Array:
    """Whether each record lies in any of the balls."""
    parts = [(part <= radius).any(1) for part in _parts(x, balls)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def median_distance(x: Float[np.ndarray, "one width"]) -> float:
    """Median over all pairs of different records, 1 where it is 0. Of 0, 1 and 5: 4."""
    apart = cdist(x, x)[np.triu_indices(len(x), 1)]
    return float(np.median(apart)) or 1.0


def _parts(x: Array, y: Array) -> Iterator[Array]:
    size = max(1, CELLS // max(1, len(y)))
    for start in range(0, len(x), size):
        yield cdist(x[start : start + size], y)
