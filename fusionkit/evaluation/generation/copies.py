"""Whether generated records are training records once more."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fusionkit.evaluation.generation.distances import nearest_distance

TIGHT = 0.01  # share of training records that are this near to another one


class Copies(NamedTuple):
    """Distances to the nearest training record.

    Attributes:
        ratio: median of generated records, over that of training records to the nearest other one; 1 is as far apart
            as real records are, 0 a copy.
        held_out: the same over the median of held-out real records; nan without any.
        near: share of generated records that are nearer to a training record than 99 % of training records are to
            another.
        expected: that share of records of the same distribution: a little over 0.01, 0.05 where the scale is 24 records.
    """

    ratio: float
    held_out: float
    near: float
    expected: float


def find_copies(
    training: Float[np.ndarray, "one width"],
    held_out: Float[np.ndarray, "other width"],
    made: Float[np.ndarray, "more width"],
    among: Float[np.ndarray, "some width"] | None = None,
) -> Copies:
    """Compare how near generated records come to training records with how near real ones come.

    Training records 0, 1, 2, 3 and a generated 0.25: the ratio is 0.25 and all are near. Held-out records may be other
    people's and so far from all training records, hence both ratios.

    Args:
        training: all of the training records, for one left out may be the one that is copied.
        held_out: real records that no generator saw.
        made: generated records.
        among: training records whose own nearest others give the scale; by default all.
    """
    queries = training if among is None else among
    own = nearest_distance(queries, None) if among is None else nearest_distance(queries, training, neighbour=2)
    far, reach = float(np.median(own)), np.quantile(own, TIGHT)
    apart = nearest_distance(made, training)
    others = float(np.median(nearest_distance(held_out, training))) if len(held_out) else np.nan
    near = float(((apart < reach) | (apart == 0)).mean())
    expected = (TIGHT * (len(own) - 1) + 1) / (len(own) + 1)  # of the rank of the quantile
    return Copies(_ratio(float(np.median(apart)), far), _ratio(float(np.median(apart)), others), near, expected)


def _ratio(above: float, below: float) -> float:
    """A quotient; nan where below is 0 or unknown."""
    return above / below if below > 0 else float("nan")
