"""How far mass must be moved to make one sample of the other: exactly, number by number and along random lines."""

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array


def wasserstein(x: Float[np.ndarray, "one line"], y: Float[np.ndarray, "other line"]) -> Float[np.ndarray, " line"]:
    r"""The exact 1-Wasserstein distance of two samples in every column.

    .. math:: W_1 = \int_0^1 |F_x^{-1}(u) - F_y^{-1}(u)|\, du

    {0, 1} and {1, 2} are 1 apart; {0} and {0, 3}, 1.5.

    Args:
        x, y: samples of any two sizes; a column each is compared with the same column of the other.

    Reference:
        Villani, Topics in Optimal Transportation, 2003, theorem 2.18.
    """
    one, other = len(x), len(y)
    steps = np.union1d(np.arange(1, one + 1) * other, np.arange(1, other + 1) * one)  # of both quantile functions
    moved = np.abs(np.sort(x, 0)[(steps - 1) // other] - np.sort(y, 0)[(steps - 1) // one])
    return np.asarray(np.diff(steps, prepend=0) @ moved / (one * other))


def sliced_wasserstein(
    x: Float[np.ndarray, "one width"],
    y: Float[np.ndarray, "other width"],
    generator: np.random.Generator,
    lines: int = 128,
) -> float:
    """Mean of `wasserstein` along random directions, which sees how numbers go together, as single numbers cannot.

    Moved by a vector of length 1 in the plane, it is the mean of |cos|: 2 / pi = 0.637.

    Args:
        x, y: two samples.
        generator: draws the directions.
        lines: how many there are.

    Reference:
        Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures", J. Math. Imaging Vis. 2015.
    """
    direction = generator.normal(size=(x.shape[1], lines))
    direction /= np.linalg.norm(direction, axis=0)
    distances: Array = wasserstein(x @ direction, y @ direction)
    return float(distances.mean())
