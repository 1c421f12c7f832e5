"""Convolutions over time and channels, for spectrograms and whatever else is a picture with a clock."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders
from fusionkit.encoders.encoder import FeatureEncoder


class PlaneNorm(nn.Module):
    """Bring each plane to mean 0 and variance 1, by the batch's real steps in training, by running statistics later.

    Batch norm, but steps that are padding or absent are not counted: two real values 1 and 3 become -1 and 1 whatever
    stands beside them. In evaluation nothing of another record or of padding reaches an answer. Statistics are kept
    in float32 or better.

    Args:
        planes: how many.
        momentum: weight of a batch in the running statistics.

    Reference:
        Ioffe and Szegedy, Batch Normalization, ICML 2015.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, planes: int, *, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(planes))
        self.bias = nn.Parameter(torch.zeros(planes))
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(planes))
        self.register_buffer("variance", torch.ones(planes))

    def forward(
        self, x: Float[Tensor, "batch plane time channel"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch plane time channel"]:
        """Normalise one batch."""
        mean, variance = self._learn(x, mask) if self.training else (self.mean, self.variance)
        scale = self.weight * torch.rsqrt(variance + 1e-5)
        shift = self.bias - mean * scale
        return x * scale[:, None, None].to(x.dtype) + shift[:, None, None].to(x.dtype)

    def _learn(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics of this batch, which also enter the running ones; none where the batch has no real step."""
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        real = mask[:, None, :, None].to(values.dtype)
        count = (real.sum() * x.shape[3]).clamp_min(1)
        mean = (values * real).sum((0, 2, 3)) / count
        variance = ((values - mean[:, None, None]).square() * real).sum((0, 2, 3)) / count
        with torch.no_grad():
            weight = self.momentum * mask.any().to(self.mean.dtype)
            self.mean.lerp_(mean.to(self.mean.dtype), weight)
            self.variance.lerp_(variance.to(self.variance.dtype), weight)
        return mean, variance


class SpectrumBlock(nn.Module):
    """One convolution with a stride over time and channels, a `PlaneNorm` and a ReLU.

    Args:
        planes: in.
        out: planes out.
        kernel: odd side of the kernel.
        time_stride: over time; channels are always halved.
        dropout: share of whole planes dropped in training.
    """

    def __init__(self, planes: int, out: int, kernel: int, time_stride: int, dropout: float) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(planes, out, kernel, stride=(time_stride, 2), padding=kernel // 2, bias=False)
        self.norm = PlaneNorm(out)
        self.dropout = nn.Dropout2d(dropout)
        self.time_stride = time_stride

    def forward(
        self, x: Float[Tensor, "batch plane time channel"], mask: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch out step left"], Bool[Tensor, "batch step"]]:
        """Encode one batch; what the mask hides is zero before the convolution."""
        x = torch.where(mask[:, None, :, None], x, torch.zeros_like(x))
        mask = bin_mean(mask.float(), self.time_stride) > 0
        return self.dropout(F.relu(self.norm(self.convolve(x), mask))), mask


@encoders.register("cnn")
class CNNEncoder(FeatureEncoder):
    """Features as a picture, time by channel, with subchannels as colours; one token for some steps in a row.

    Convolutions that halve channels and, in the first ``halvings`` blocks, time. Then all that is left of a step goes
    through one linear map. The default for spectrograms; learns from a few hundred records. Padding is zero before
    every convolution and uncounted in every norm, so that longer padding changes nothing. The last token is padding.

    Args:
        shape: what is known of the features.
        dim: width of a token.
        width: planes of the first block; then 2, 4 and 4 times as many.
        blocks: how many there are.
        halvings: how many of them, from the first on, halve time: a token covers ``2 ** halvings`` steps.
        dropout: share of a token's numbers dropped in training.
        plane_dropout: share of planes dropped behind every block, in training.
    """

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        width: Annotated[int, Field(ge=1, description="planes of the first block")] = 16,
        blocks: Annotated[int, Field(ge=1, le=8, description="convolutions")] = 4,
        halvings: Annotated[int, Field(ge=0, le=8, description="blocks that halve time")] = 3,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share of a token dropped in training")] = 0.2,
        plane_dropout: Annotated[float, Field(ge=0, lt=1, description="share of planes dropped in training")] = 0.0,
    ) -> None:
        super().__init__(shape, dim)
        planes = [shape.subchannel, *(width * min(2**i, 4) for i in range(blocks))]
        self.blocks = nn.ModuleList(
            SpectrumBlock(planes[i], planes[i + 1], 5 if i == 0 else 3, 2 if i < halvings else 1, plane_dropout)
            for i in range(blocks)
        )
        self.covers = 2 ** min(halvings, blocks)
        left = -(-shape.channel // 2**blocks)
        self.project = nn.Linear(planes[-1] * left, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = self._lengthen(scrub(features))
        x, mask = clean.values.permute(0, 3, 1, 2), clean.mask
        for block in self.blocks:
            x, mask = block(x, mask)
        values = self.dropout(self.project(x.transpose(1, 2).flatten(2)))
        return scrub(Tokens(values, mask, clean.present, self._times(clean)))

    def _lengthen(self, clean: Features) -> Features:
        """Add padding for one more token: an exported graph fixes an axis that may have one step only."""
        extra = self.covers if self.covers > 1 else 0
        time = None if clean.time is None else F.pad(clean.time, (0, extra))
        values = F.pad(clean.values, (0, 0, 0, 0, 0, extra))
        return Features(values, F.pad(clean.mask, (0, extra)), clean.present, time)

    def _times(self, clean: Features) -> Float[Tensor, "batch step"] | None:
        """Mean time of the real steps under each token."""
        if clean.time is None:
            return None
        real = clean.mask.to(clean.time.dtype)
        total = bin_mean(torch.where(clean.mask, clean.time, torch.zeros_like(clean.time)), self.covers)
        return total / bin_mean(real, self.covers).clamp_min(1e-6)


def bin_mean(x: Float[Tensor, "batch time"], stride: int) -> Float[Tensor, "batch step"]:
    """Mean of every ``stride`` numbers in a row, the last filled up with zeros: 1 2 3 by 2 gives 1.5 1.5."""
    if stride == 1:
        return x
    return F.avg_pool1d(F.pad(x, (0, stride - 1))[:, None], stride)[:, 0]
