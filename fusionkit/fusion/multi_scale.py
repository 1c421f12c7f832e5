"""Multi-scale: a tower of convolutions a sensor, whose scales are added on the way down, then joined."""

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Tokens, pool, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.vectors import one_token


class Tower(nn.Module):
    r"""Convolutions over steps, each halving their number, and a companion stream that adds them up.

    .. math:: c_k = \mathrm{relu}(\mathrm{conv}_k(c_{k-1})), \qquad f_1 = c_1, \quad f_k = \mathrm{half}(f_{k-1}) + c_k

    where half averages two neighbours, counting real ones. Convolutions have three taps and stride 2.
    """

    def __init__(self, width: int, dim: int, scales: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width if scale == 0 else dim, dim, 3, stride=2, padding=1) for scale in range(scales)
        )

    def forward(
        self, values: Float[Tensor, "batch step width"], mask: Bool[Tensor, "batch step"]
    ) -> tuple[Float[Tensor, "batch short dim"], Bool[Tensor, "batch short"]]:
        """The sum of all scales at the coarsest one. What is not real must be zero, and comes out as zero."""
        padding = 2 ** len(self.convolutions)  # two steps at the end at least: a graph takes one step for a constant
        state, fused = F.pad(values, (0, 0, 0, padding)), None
        mask = F.pad(mask, (0, padding))
        for convolution in self.convolutions:
            halved, mask_after = halve(state if fused is None else fused, mask)
            state = convolution(state.transpose(1, 2)).relu().transpose(1, 2)
            state = torch.where(mask_after[..., None], state, torch.zeros_like(state))
            fused, mask = state if fused is None else halved + state, mask_after
        assert fused is not None
        return fused, mask


def halve(
    values: Float[Tensor, "batch step dim"], mask: Bool[Tensor, "batch step"]
) -> tuple[Float[Tensor, "batch half dim"], Bool[Tensor, "batch half"]]:
    """Mean of every two neighbouring steps that are real, and whether any is: 1, 3, 8 become 2 and 8.

    As pooling after a step of padding, so that an exported graph knows that its length is that of the tower's.
    """
    weight = mask[..., None].to(values.dtype)
    counted = F.pad(torch.cat([values * weight, weight], -1), (0, 0, 0, 1)).transpose(1, 2)
    sums = 2 * F.avg_pool1d(counted, 2, 2).transpose(1, 2)
    count = sums[..., -1:]
    return sums[..., :-1] / count.clamp_min(1), count.squeeze(-1) > 0


@fusion.register("multi_scale")
class MultiScale(IntermediateFusion):
    r"""Sum what a sensor looks like at several scales, then put the sensors side by side.

    Each stream goes through a `Tower`: ``scales`` convolutions that halve its steps, with a companion stream that
    adds each scale to the halved sum of the finer ones, so that fine and coarse features reach the end by a short
    way. Sums are averaged over steps, put side by side (an absent sensor is zero) and refined,
    :math:`W_2 \, \mathrm{relu}(W_1 x)`, to one token of width ``dim``.

    In the paper one stream, the image, has a tower of a ResNet's stages and tags have two fully connected layers;
    a stream of one token is what its tower makes of a vector. That every sensor has a tower, which works on tokens
    and not inside the encoder, widths, masks and the refinement are our reconstruction. The paper's second head,
    which predicts how many labels to emit, belongs to the task: ``{kind: multi_label, quantity: true}``.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: not used; steps count, whatever time they take.

    Reference:
        Niu, Lu, Wen, Xiang and Chang, "Multi-Modal Multi-Scale Deep Learning for Large-Scale Image Annotation",
        IEEE TIP 28(4), 2019.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        scales: Annotated[int, Field(ge=1, description="convolutions, each halving the steps")] = 3,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.towers = nn.ModuleList(Tower(width, dim, scales) for width in self.inputs.values())
        self.refine = nn.Linear(len(self.inputs) * dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch into one token."""
        vectors, masks = [], []
        for name, tower in zip(self.inputs, self.towers, strict=True):
            clean = scrub(inputs[name])
            values, mask = tower(clean.values, clean.mask)
            vectors.append(pool(Tokens(values, mask, inputs[name].present)))
            masks.append(mask.any(1))
        refined = self.out(self.refine(torch.cat(vectors, 1)).relu())
        return one_token(refined, inputs, torch.stack(masks).any(0))
