"""CCA: an objective that makes sensors agree, by the canonical correlations of what they say."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.pooled import ConcatLinear

RIDGE = 1e-3  # on covariances and on squared correlations


def correlation_loss(
    left: Float[Tensor, "pair row width"],
    right: Float[Tensor, "pair row width"],
    both: Bool[Tensor, "pair row"],
    top: int | None = None,
) -> Float[Tensor, " pair"]:
    r"""Minus the sum of the ``top`` canonical correlations (all, if None) over the rows that have both.

    With centred rows :math:`\bar H`, :math:`\Sigma_{12} = \bar H_1^T \bar H_2 / (n - 1)` and
    :math:`\Sigma_{11} = \bar H_1^T \bar H_1 / (n - 1) + r I`, r = 0.001, the correlations are those of
    :math:`T = \Sigma_{11}^{-1/2} \Sigma_{12} \Sigma_{22}^{-1/2}`, and the loss :math:`-\sum \sqrt{\mathrm{eig}(T^T T + r I)}`.
    Two equal streams of unit variance give about -1 for each of their numbers.

    Cholesky factors stand for the roots, since they give the same singular values and have a gradient where
    eigenvalues coincide: with fewer rows than numbers, covariances have the eigenvalue r many times. All in float64.
    """
    device = torch.device("cpu") if left.device.type == "mps" else left.device  # MPS has no float64
    left, right = left.to(device, torch.float64), right.to(device, torch.float64)
    weight = both.to(device, torch.float64)[..., None]
    count = weight.sum(1, keepdim=True)
    left, right = ((x - (x * weight).sum(1, keepdim=True) / count.clamp_min(1)) * weight for x in (left, right))
    ridge = RIDGE * torch.eye(left.shape[-1], device=device, dtype=torch.float64)
    free = (count - 1).clamp_min(1)
    one, two = (torch.linalg.cholesky_ex(x.mT @ x / free + ridge).L for x in (left, right))
    whitened = torch.linalg.solve_triangular(one, left.mT @ right / free, upper=False)
    whitened = torch.linalg.solve_triangular(two, whitened.mT, upper=False)
    squares = torch.linalg.eigvalsh((whitened @ whitened.mT).nan_to_num() + ridge)  # smallest first
    kept: Tensor = squares[:, -(top or squares.shape[1]) :].clamp_min(0).sqrt().sum(1)
    loss: Tensor = whitened.sum((1, 2)) * 0.0 - kept  # nan if a number was, so that training can say in which batch
    return loss


@fusion.register("cca")
class CCAFusion(ConcatLinear):
    r"""Concatenate and map linearly, and learn views of the sensors that are correlated.

    :math:`y = W [h_1; \dots; h_M] + b`. Each sensor has a view :math:`A_m h_m` of ``components`` numbers, and
    ``weight`` times `correlation_loss` of the views is added to the loss: deep canonical correlation analysis, whose
    networks are the encoders. The views (the paper's last layer) are narrow since with B samples in a batch about
    B - 1 correlations are 1 whatever the sensors say; keep ``components`` well below the batch size. With more than
    two sensors the mean over all pairs is taken (ours: SUMCOR); the objective's cost then grows with the square of
    their number, that of the answer does not. A pair's correlations are over samples that have both.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: length of the window in seconds; every stream is averaged over it.

    Raises:
        ConfigError: there is one input only.

    Reference:
        Andrew et al., "Deep Canonical Correlation Analysis", ICML 2013.
    """

    least = 2

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        components: Annotated[int, Field(ge=1, description="numbers of each sensor's view, all of which count")] = 8,
        weight: Annotated[float, Field(gt=0, description="of the sum of correlations in the loss")] = 0.001,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.weight = weight
        self.views = BranchLinear(len(self.inputs), dim, components, bias=False)

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch, and say how little its sensors are correlated."""
        vectors, real = self.vectors(inputs)
        tokens = self.tokens(self.join(vectors, real), real.any(0), self.present(inputs))
        if torch.compiler.is_exporting():
            return Fused(tokens, vectors.new_zeros(()))
        views = self.views(vectors[:, :, None])[:, :, 0]
        pairs = list(combinations(range(len(self.inputs)), 2))
        left, right = (torch.stack([views[pair[side]] for pair in pairs]) for side in (0, 1))
        both = torch.stack([real[i] & real[j] for i, j in pairs])
        loss = correlation_loss(left, right, both).mean()
        return Fused(tokens, self.weight * loss.float().to(vectors.device))
