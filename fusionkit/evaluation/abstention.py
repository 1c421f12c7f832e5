"""What is gained by staying silent: mistakes among the answers a model is surest of."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array


@dataclass(frozen=True)
class AbstentionCurve:
    """Risk against coverage.

    Attributes:
        coverage: share of records answered, from one of them to all.
        risk: share of mistakes among those.
    """

    coverage: Float[np.ndarray, " record"]
    risk: Float[np.ndarray, " record"]

    @property
    def area(self) -> float:
        """Mean risk over coverages: the less the better; nan without records."""
        return float(self.risk.mean()) if len(self.risk) else float("nan")

    @property
    def excess(self) -> float:
        """How much of the area a better order of the same answers would save; 0 where all mistakes come last."""
        records = len(self.risk)
        if not records:
            return float("nan")
        wrong = round(self.risk[-1] * records)
        mistakes = np.maximum(np.arange(1, records + 1) - (records - wrong), 0)
        return self.area - float((mistakes / np.arange(1, records + 1)).mean())


def abstention_curve(probabilities: Float[np.ndarray, "record class_"], target: Array) -> AbstentionCurve:
    r"""Answer the surest record first, then the next, and count mistakes.

    .. math:: \mathrm{risk}(k) = \tfrac{1}{k} \sum_{i \le k} [\hat y_i \ne y_i], \quad
              \mathrm{area} = \tfrac{1}{n} \sum_k \mathrm{risk}(k)

    Sure is the probability of the answered class; records that are as sure come in no order, and their mistakes are
    spread evenly. A right answer at 0.9 and a wrong one at 0.6 have risks 0 and 1/2, and an area of 1/4. Missing
    targets (nan) are left out.

    Reference:
        El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010; area and excess:
        Geifman, Uziel, El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019.
    """
    known = ~np.isnan(target)
    probabilities, target = probabilities[known], target[known]
    sure = probabilities.max(axis=1, initial=0)
    wrong = (probabilities.argmax(axis=1) != target).astype(float)
    _, tie = np.unique(-sure, return_inverse=True)  # surest first
    spread = np.bincount(tie, weights=wrong) / np.maximum(np.bincount(tie), 1)
    answered = np.arange(1, len(target) + 1)
    return AbstentionCurve(answered / max(len(target), 1), spread[np.sort(tie)].cumsum() / answered)
