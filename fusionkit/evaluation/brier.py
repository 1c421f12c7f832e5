"""What a Brier score is made of."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array
from fusionkit.evaluation.calibration import BINS
from fusionkit.evaluation.formula import brier
from fusionkit.evaluation.metric import ratio


@dataclass(frozen=True)
class BrierParts:
    """Terms of a Brier score: ``score = reliability - resolution + uncertainty + within``.

    Attributes:
        score: squared distance between probabilities and the truth over all classes, 0 to 2.
        reliability: how far probabilities are from the shares they promise; 0 at best.
        resolution: how far those shares are from what is so on average; the more the better.
        uncertainty: how hard the task is, whatever the model.
        within: what bins hide; 0 where all probabilities of a bin are the same.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(probabilities: Float[np.ndarray, "record class_"], target: Array, bins: int = BINS) -> BrierParts:
    r"""Decompose a Brier score class by class, over bins of the class's probability.

    .. math:: \sum_c \sum_b \tfrac{n_b}{n} (\bar p_b - \bar o_b)^2 - \tfrac{n_b}{n} (\bar o_b - \bar o)^2
              + \bar o (1 - \bar o)

    with the share :math:`\bar o` of records of the class, and the rest within bins. Four records answered (0.75,
    0.25) of which three are of the first class: reliability 0, resolution 0, uncertainty 2 * 3/4 * 1/4 = 0.375, which
    is the score. Missing targets (nan) are left out; without records all is nan.

    Reference:
        Murphy, A New Vector Partition of the Probability Score, J. Applied Meteorology 1973; within bins: Stephenson,
        Coelho, Jolliffe, Two Extra Components in the Brier Score Decomposition, Weather and Forecasting 2008.
    """
    known = ~np.isnan(target)
    probabilities, target = probabilities[known], target[known]
    if not len(target):
        return BrierParts(*(5 * [float("nan")]))
    reliability = resolution = uncertainty = 0.0
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    for class_, forecast in enumerate(probabilities.T):
        truth = (target == class_).astype(float)
        bin_ = np.searchsorted(edges, forecast, side="left")
        count = np.bincount(bin_, minlength=bins)
        said = ratio(np.bincount(bin_, weights=forecast, minlength=bins), count)
        was = ratio(np.bincount(bin_, weights=truth, minlength=bins), count)
        share = truth.mean()
        reliability += float(np.nansum(count * (said - was) ** 2) / len(target))
        resolution += float(np.nansum(count * (was - share) ** 2) / len(target))
        uncertainty += float(share * (1 - share))
    score = float(brier(probabilities, target).mean())
    return BrierParts(score, reliability, resolution, uncertainty, score - reliability + resolution - uncertainty)
