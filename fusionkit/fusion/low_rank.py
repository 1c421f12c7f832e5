"""Low-rank fusion (LMF): the tensor product and a linear map of it, never written out."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.registry import fusion
from fusionkit.fusion.pooled import VectorFusion


@fusion.register("low_rank")
class LowRankFusion(VectorFusion):
    r"""Low-rank Multimodal Fusion: a linear map of `tensor`'s products whose weights are a sum of few outer products.

    With :math:`z_m = [1; h_m]` and factors :math:`W_m \in R^{r \times (d_m + 1) \times o}`,

    .. math:: y = \sum_{i=1}^{r} a_i \bigodot_m z_m^T W_m[i] + b

    which is `tensor_product` times the dense weights :math:`\sum_i a_i \bigotimes_m W_m[i]`. The paper has
    :math:`a_i = 1`; public code learns it. An absent sensor is :math:`[1; 0; \dots]` (ours): it multiplies by the
    first row of its factors. Cost and parameters, :math:`r o \sum_m (d_m + 1) + r + o`, grow with the sum of widths.

    ``paper`` draws every factor and :math:`a` Xavier-normal, so that each sensor more makes the answer about six
    times smaller (at width 64). ``scaled`` is ours: a factor's first row starts at 1, so that an absent sensor multiplies by 1; the rest
    has variance :math:`(2^{1/M} - 1) / d_m`, and :math:`a_i = \pm r^{-1/2}` in turn: for inputs of unit variance the
    answer has unit variance with any number of sensors.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: length of the window in seconds; every stream is averaged over it.

    Reference:
        Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL 2018.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        rank: Annotated[int, Field(ge=1, description="how many outer products make the weights")] = 4,
        init: Annotated[
            Literal["scaled", "paper"], Field(description="start so that the answer keeps its size, or as published")
        ] = "scaled",
    ) -> None:
        super().__init__(inputs, dim, duration)
        sensors = len(self.inputs)
        self.rank = rank
        self.factors = nn.Parameter(torch.empty(sensors, dim + 1, rank, dim))  # sensor, number in, rank, number out
        self.a = nn.Parameter(torch.empty(1, rank))
        self.b = nn.Parameter(torch.zeros(1, dim))
        if init == "paper":
            for factor in self.factors.data:
                nn.init.xavier_normal_(factor.transpose(0, 1))
            nn.init.xavier_normal_(self.a)
        else:
            nn.init.normal_(self.factors, std=((2 ** (1 / sensors) - 1) / dim) ** 0.5)
            with torch.no_grad():
                self.factors[:, 0] = 1.0
                self.a.copy_((1.0 - 2.0 * (torch.arange(rank) % 2)) * rank**-0.5)

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        wide = self.factors.flatten(2)
        parts = torch.baddbmm(wide[:, :1], vectors, wide[:, 1:]).unbind(0)  # the 1 before h takes the first row
        product = parts[0]
        for part in parts[1:]:
            product = product * part
        joined: Tensor = (self.a[0, :, None] * product.reshape(-1, self.rank, self.dim)).sum(1) + self.b
        return joined
