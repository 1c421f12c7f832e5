"""The tasks' gradients as they are."""

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.core.registry import surgery
from fusionkit.losses.balancing.surgery import Surgery


@surgery.register("none")
class NoSurgery(Surgery):
    """Add the gradients up: one backward pass of the sum of all losses."""

    def __call__(
        self, gradients: Float[Tensor, "task parameter"], generator: torch.Generator | None = None
    ) -> Float[Tensor, " parameter"]:
        """The sum."""
        return gradients.sum(0)
