"""How many generated records look real, and how many real ones could have been generated."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fusionkit.evaluation.generation.distances import nearest_distance, within_reach

NEIGHBOURS = 3


class Manifold(NamedTuple):
    """Precision falls where records are not real ones; recall, where real ones are never made (mode collapse)."""

    precision: float
    recall: float


def precision_and_recall(
    real: Float[np.ndarray, "one width"], made: Float[np.ndarray, "other width"], neighbours: int = NEIGHBOURS
) -> Manifold:
    """Shares of records inside the other sample's manifold: balls around its records that reach their k-th neighbour.

    With k = 1, real {0, 1, 10} and made {0.5, 0.6, 19.5, 30}: two of four made ones are within 1 of 0 or 1, and one of
    three real ones, 10, within 10.5 of 19.5: precision 1/2, recall 1/3.

    Args:
        real: more records than neighbours.
        made: likewise; both shares depend on how many there are, so samples of one size are comparable.
        neighbours: k.

    Reference:
        Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019 (k = 3).
    """
    precision = within_reach(made, real, nearest_distance(real, neighbour=neighbours)).mean()
    recall = within_reach(real, made, nearest_distance(made, neighbour=neighbours)).mean()
    return Manifold(float(precision), float(recall))
