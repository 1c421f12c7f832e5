"""The square of a difference."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import losses
from fusionkit.losses.loss import Loss, Taken


@losses.register("squared_error")
class SquaredError(Loss):
    r"""Squared difference of numbers; its best answer is the mean.

    .. math:: L = (\hat y - y)^2

    Answering 3 where 1 is right gives 4.

    Raises:
        ConfigError: class weights are given, which numbers do not have.
    """

    takes: ClassVar[Taken] = "value"

    def forward(
        self, decision: Float[Tensor, " batch"], target: Float[Tensor, " batch"], weights: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Score one batch of numbers."""
        if weights is not None:
            raise ConfigError("squared_error takes no class weights: a number has no class")
        return (decision - target) ** 2
