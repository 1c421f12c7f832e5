"""Tensor fusion (TFN): every product of one feature of each sensor, then a small network."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.pooled import VectorFusion


def lead_with_one(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows more"]:
    """Put a 1 before each vector: (2, 3) becomes (1, 2, 3), and what is absent (1, 0, 0)."""
    return torch.cat([torch.ones_like(vectors[..., :1]), vectors], -1)


def tensor_product(vectors: Sequence[Float[Tensor, "row _"]]) -> Float[Tensor, "row product"]:
    r"""All products :math:`z_1 \otimes \dots \otimes z_M` of :math:`z_m = [1; h_m]`, the last sensor's index fastest.

    Of (2) and (3, 5) it is (1, 3, 5, 2, 6, 10): the first is 1, and products with a single factor that is not a 1
    are the sensors' own features. Widths 64 and 32 give 2,145 products, and 16 more 36,465.
    """
    product = lead_with_one(vectors[0])
    for vector in vectors[1:]:
        product = (product[:, :, None] * lead_with_one(vector)[:, None]).flatten(1)
    return product


@fusion.register("tensor")
class TensorFusion(VectorFusion):
    r"""Tensor Fusion Network: the outer product of all sensors' vectors, each led by a 1, then two layers.

    :math:`z_m = [1; h_m]`, :math:`Z = z_1 \otimes \dots \otimes z_M`, and
    :math:`y = \mathrm{relu}(W_2\, \mathrm{relu}(W_1\, \mathrm{drop}(Z) + b_1) + b_2)`; the paper's last layer is the
    task's head. So there are terms of one sensor, of each pair and of all together. An absent sensor is
    :math:`[1; 0; \dots]`, which leaves the products of the others as they are (ours; the paper has no absence).
    The number of products, :math:`\prod_m (d_m + 1)`, multiplies with every sensor: 4,225 for two of width 64,
    274,625 for three; `low_rank` grows with their sum.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: length of the window in seconds; every stream is averaged over it.

    Raises:
        ConfigError: there are more products than ``limit``.

    Reference:
        Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        width: Annotated[
            int | None, Field(ge=1, description="project each sensor to so many numbers first; None leaves all")
        ] = None,
        limit: Annotated[int, Field(ge=1, description="the most products that are not refused")] = 50_000,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share of products dropped in training")] = 0.1,
    ) -> None:
        super().__init__(inputs, dim, duration)
        sensors, kept = len(self.inputs), dim if width is None else width
        products = (kept + 1) ** sensors
        if products > limit:
            fits = next(small for small in range(kept, -1, -1) if small == 0 or (small + 1) ** sensors <= limit)
            raise ConfigError(
                f"a tensor product may have {limit:,} products (limit), but {sensors} sensors of width {kept} have "
                f"{products:,}; " + (f"a width of {fits} fits, or " if fits else "") + "low_rank has none"
            )
        self.reduce = None if width is None else BranchLinear(sensors, dim, width)
        self.network = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(products, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU()
        )

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        if self.reduce is not None:
            reduced = self.reduce(vectors[:, :, None])[:, :, 0]
            vectors = reduced * real[..., None].to(reduced.dtype)
        joined: Tensor = self.network(tensor_product(vectors.unbind(0)))
        return joined
