"""RefNet: what is fused must give every sensor's vector back."""

from collections.abc import Mapping
from typing import Annotated

import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.pooled import ConcatLinear


def cosine_loss(
    found: Float[Tensor, "branch row dim"], wanted: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
) -> Float[Tensor, ""]:
    """One less the cosine between two vectors: mean over the rows that a sensor has, summed over sensors.

    Equal directions cost 0, right angles 1, opposite ones 2.
    """
    apart = 1 - F.cosine_similarity(found, wanted, dim=-1, eps=1e-3)
    weight = real.to(apart.dtype)
    return ((apart * weight).sum(1) / weight.sum(1).clamp_min(1)).sum()


@fusion.register("refnet")
class RefNet(ConcatLinear):
    r"""Concatenate and map linearly, and learn to undo it: a refiner rebuilds every sensor's vector from the answer.

    :math:`y = W [h_1; \dots; h_M] + b`; a network of one hidden layer makes :math:`[r_1; \dots; r_M]` from y, and
    :math:`\lambda \sum_m (1 - \cos(r_m, h_m))` is added to the loss, the mean over the samples that have sensor m. So
    the answer must keep something of each sensor. Gradients reach the sensors' encoders through both sides. The
    paper puts a refiner behind any fusion; that behind concatenation, and the masks, are ours.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: length of the window in seconds; every stream is averaged over it.

    Reference:
        Sankaran et al., "Multimodal Fusion Refiner Networks", arXiv 2104.03435, 2021.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        weight: Annotated[float, Field(gt=0, description="of the refiner's loss")] = 0.1,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.weight = weight
        self.refiner = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, len(self.inputs) * dim))

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch, and say how well it can be undone."""
        vectors, real = self.vectors(inputs)
        joined = self.join(vectors, real)
        refined = self.refiner(joined).reshape(-1, len(self.inputs), self.dim).transpose(0, 1)
        loss = self.weight * cosine_loss(refined, vectors, real)
        return Fused(self.tokens(joined, real.any(0), self.present(inputs)), loss)
