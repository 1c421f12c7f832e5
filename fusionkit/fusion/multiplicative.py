"""Multiplicative interactions: one sensor's vector makes the linear map of the next one's."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.registry import fusion
from fusionkit.fusion.pooled import VectorFusion


class MatrixInteraction(nn.Module):
    r"""x makes a matrix for z: :math:`y = z^T (x W + V) + x^T U + b`, all bilinear terms there are.

    ``d1 d2 o + (d1 + d2) o + o`` parameters: 34,320 for 32 and 64 numbers to 16.

    Args:
        condition: width of x.
        width: width of z.
        out: width of y.
    """

    def __init__(self, condition: int, width: int, out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_normal_(torch.empty(condition, width, out)))
        self.V = nn.Parameter(nn.init.xavier_normal_(torch.empty(width, out)))
        self.U = nn.Parameter(nn.init.xavier_normal_(torch.empty(condition, out)))
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "row condition"], z: Float[Tensor, "row width"]) -> Float[Tensor, "row out"]:
        """Join two vectors a row, each row by itself."""
        made = (x @ self.W.flatten(1)).reshape(-1, *self.V.shape) + self.V
        joined: Tensor = (z[:, None] @ made)[:, 0] + x @ self.U + self.b
        return joined


class VectorInteraction(nn.Module):
    r"""x makes a scale and a shift for every number of z: :math:`y = (x^T W + V) \odot z + x^T U + b`.

    Args:
        condition: width of x.
        width: width of z and of y.
    """

    def __init__(self, condition: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(nn.init.xavier_normal_(torch.empty(condition, width)))
        self.U = nn.Parameter(nn.init.xavier_normal_(torch.empty(condition, width)))
        self.V = nn.Parameter(torch.zeros(width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "row condition"], z: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Join two vectors a row."""
        return (x @ self.W + self.V) * z + x @ self.U + self.b


class ScalarInteraction(nn.Module):
    r"""x makes one scale and one shift for all of z: :math:`y = (w \cdot x + v)\, z + (u \cdot x + b)`.

    With w = (1, 0), u = (0, 1), v = b = 0: x = (2, 3) and z = (1, 5) give (5, 13).

    Args:
        condition: width of x.
    """

    def __init__(self, condition: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(condition).normal_(std=condition**-0.5))
        self.u = nn.Parameter(torch.empty(condition).normal_(std=condition**-0.5))
        self.v = nn.Parameter(torch.zeros(1))
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "row condition"], z: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Join two vectors a row."""
        return ((x * self.w).sum(1, keepdim=True) + self.v) * z + (x * self.u).sum(1, keepdim=True) + self.b


@fusion.register("multiplicative")
class MultiplicativeFusion(VectorFusion):
    r"""Multiplicative interactions: the first sensor's vector x conditions the second's, z.

    ``matrix`` is :math:`y = z^T (x W + V) + x^T U + b`, a network that makes the weights of a layer; ``vector`` is
    :math:`y = (x^T W + V) \odot z + x^T U + b`, a gate; ``scalar`` is :math:`y = (w \cdot x + v) z + (u \cdot x + b)`.
    With more sensors y conditions the third, and so on from left to right, each time with weights of its own, so
    that cost grows with the number of sensors (the paper's form for three makes a matrix of matrices, ``dim`` times
    larger). An absent sensor is a vector of zeros in the formula (ours): of ``matrix`` there remains
    :math:`z^T V + b` or :math:`x^T U + b`. Biases, ``V`` of the two small forms among them, start at 0; public code
    draws them from N(0, 1).

    Args:
        inputs: width of each token stream; their order is that of the recipe.
        dim: width of the token that comes out.
        duration: length of the window in seconds; every stream is averaged over it.

    Reference:
        Jayakumar et al., "Multiplicative Interactions and Where to Find Them", ICLR 2020.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        form: Annotated[
            Literal["matrix", "vector", "scalar"], Field(description="what a sensor makes for the next one")
        ] = "matrix",
    ) -> None:
        super().__init__(inputs, dim, duration)
        made: list[nn.Module] = []
        for _ in range(len(self.inputs) - 1):
            if form == "matrix":
                made.append(MatrixInteraction(dim, dim, dim))
            else:
                made.append(VectorInteraction(dim, dim) if form == "vector" else ScalarInteraction(dim))
        self.interactions = nn.ModuleList(made)

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        first, *others = vectors.unbind(0)
        for interact, vector in zip(self.interactions, others, strict=True):
            first = interact(first, vector)
        return first
