"""Squared near the truth, linear far from it."""

from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import losses
from fusionkit.losses.loss import Loss, Taken


@losses.register("huber")
class Huber(Loss):
    r"""Half the squared difference up to ``delta``, a straight line beyond: outliers pull with bounded force.

    .. math:: L = \tfrac{1}{2} d^2 \text{ if } |d| \le \delta, \text{ else } \delta (|d| - \tfrac{1}{2} \delta),
              \quad d = \hat y - y

    With ``delta`` 1, a difference of 0.5 gives 0.125 and one of 3 gives 2.5.

    Args:
        delta: where the line begins; in regression tasks the unit is one standard deviation of the label.

    Raises:
        ConfigError: class weights are given, which numbers do not have.

    Reference:
        Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 1964.
    """

    takes: ClassVar[Taken] = "value"

    def __init__(
        self, *, delta: Annotated[float, Field(gt=0, allow_inf_nan=False, description="where the line begins")] = 1.0
    ) -> None:
        super().__init__()
        self.delta = delta

    def forward(
        self, decision: Float[Tensor, " batch"], target: Float[Tensor, " batch"], weights: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Score one batch of numbers."""
        if weights is not None:
            raise ConfigError("huber takes no class weights: a number has no class")
        return F.huber_loss(decision, target, reduction="none", delta=self.delta)
