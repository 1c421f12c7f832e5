"""Cross entropy of one class per record."""

from typing import Annotated, ClassVar

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import losses
from fusionkit.losses.loss import Loss, Taken


@losses.register("negative_log_likelihood")
class NegativeLogLikelihood(Loss):
    r"""How unlikely the right class was; with smoothing, a little of every class is called right.

    With log-probabilities :math:`\log p_c`, class weights :math:`w_c`, ``K`` classes and smoothing
    :math:`\epsilon`,

    .. math:: L = -(1 - \epsilon)\, w_y \log p_y - \tfrac{\epsilon}{K} \sum_c w_c \log p_c

    Equal chances of two classes give log 2 = 0.693, whatever the smoothing; a sure and right answer gives 0.

    Args:
        label_smoothing: the share spread evenly over all classes. Some tames over-confidence; 0 is the plain loss.

    Reference:
        Smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016.
    """

    takes: ClassVar[Taken] = "class"

    def __init__(
        self, *, label_smoothing: Annotated[float, Field(ge=0, lt=1, description="share spread over all classes")] = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(
        self,
        decision: Float[Tensor, "batch class_"],
        target: Int[Tensor, " batch"],
        weights: Float[Tensor, " class_"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Score one batch of log-probabilities."""
        unlikely = -decision if weights is None else -decision * weights
        right = unlikely.gather(1, target[:, None])[:, 0]
        if not self.label_smoothing:
            return right
        return (1 - self.label_smoothing) * right + self.label_smoothing * unlikely.mean(1)
