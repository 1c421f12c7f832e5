"""Cross entropy of several yes-or-no labels per record."""

from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.registry import losses
from fusionkit.losses.loss import Loss, Taken


@losses.register("bernoulli")
class Bernoulli(Loss):
    r"""How unlikely the right yes or no was, averaged over labels.

    With :math:`\log p_{l,o}` for label ``l`` and outcome ``o`` (0 no, 1 yes) and weights :math:`w_{l,o}`,

    .. math:: L = -\tfrac{1}{n} \sum_{l=1}^{n} w_{l,y_l} \log p_{l,y_l}

    Even chances for every label give log 2 = 0.693, however many labels there are.
    """

    takes: ClassVar[Taken] = "labels"

    def forward(
        self,
        decision: Float[Tensor, "batch label 2"],
        target: Int[Tensor, "batch label"],
        weights: Float[Tensor, "label 2"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Score one batch of log-probabilities (no, yes)."""
        unlikely = -decision if weights is None else -decision * weights
        return unlikely.gather(2, target[..., None])[..., 0].mean(1)
