"""EEG windows to features: an estimate of every band's variance, what is said of it, and electrodes that say nothing."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from fusionkit.core.framing import Frames, zero_padding
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd

from .asymmetry import Asymmetry
from .bands import MICRO

CHUNK_BYTES = 2**20
"""Samples that a processor works on at a time, so that they stay in its cache."""


class BandFeatures(FrontEnd):
    """Features of every band and electrode: ``estimate``, then ``measure``, then ``asymmetry``.

    A channel whose samples are all exactly 0, or of which any is NaN, in the steps that count was not measured: its
    features are NaN, and so are those of every pair it is in. Samples beyond ``length`` count for nothing.

    Args:
        estimate: makes ``(batch, channel, step, band)`` of windows, and ``(batch, channel, step)`` that is 0 where a
            step holds nothing but zeros and NaN where it holds a NaN.
        frames: the steps that ``estimate`` cuts.
        measure: what is said of the estimates.
        channels: electrodes.
        bands: how many.
        asymmetry: compares pairs of electrodes instead.
        places: where the electrodes sit.
    """

    lacks = True

    def __init__(
        self,
        estimate: nn.Module,
        frames: Frames,
        measure: nn.Module,
        channels: int,
        bands: int,
        *,
        asymmetry: Asymmetry | None = None,
        places: tuple[tuple[float, float, float], ...] | None = None,
    ) -> None:
        super().__init__()
        self.estimate = estimate
        self.frames = frames
        self.measure = measure
        self.asymmetry = asymmetry
        if asymmetry is not None:
            channels, places = asymmetry.channels, None
        self.shape = FeatureShape(channels, bands, places=places)

    def forward(
        self, values: Shaped[Tensor, "batch channel *band sample"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch step feature band"], Bool[Tensor, "batch step"]]:
        """Features of every step; a step counts only if it lies wholly inside ``length``."""
        seen = eager_on_cpu(values)  # what the values are may decide what is done
        full = seen and not bool((length < values.shape[-1]).any())
        estimate, size = self.estimate(values if full else zero_padding(values, length))
        if full:
            mask = torch.ones(len(values), estimate.shape[2], dtype=torch.bool)
        else:
            mask = self.frames.mask(length, estimate)
        features = self.measure(estimate)
        if self.asymmetry is not None:
            features = self.asymmetry(features)
        if not seen or not bool((size > 0).all()):
            measured = torch.where(mask[:, None], size, torch.zeros_like(size)).sum(2) > 0  # no NaN is
            if self.asymmetry is not None:
                measured = self.asymmetry.both(measured)
            lacking = mask[:, None] & ~measured[:, :, None]
            features = features.masked_fill(lacking[..., None], torch.nan)
        return features.transpose(1, 2), mask

    def times(self, steps: int) -> Float[Tensor, " time"]:
        """Centres of the steps in seconds."""
        return self.frames.times(steps)

    def stepwise(self) -> Frames:
        """Every step by itself."""
        return self.frames


class FourierVariance(nn.Module):
    """Squares of the coefficients of a short Fourier transform, summed by band: two matrix products.

    The first sample of a step is taken off before, for float32 has 7 digits, and an offset of 4 mV on 10 uV takes 3 of
    them. Where the rows are not blind to offsets, its part of every coefficient is put back.

    Args:
        frames: the steps.
        rows: coefficients of a step of volts.
        share: weight of every squared coefficient in every band.
    """

    rows: Float[Tensor, "sample row"]
    share: Float[Tensor, "band row"]
    level: Float[Tensor, " row"]

    def __init__(self, frames: Frames, rows: Float[Tensor, "sample row"], share: Float[Tensor, "row band"]) -> None:
        super().__init__()
        self.frames = frames
        level = rows.sum(0)
        self.blind = bool(level.abs().max() < 1e-9 * rows.abs().max())
        self.register_buffer("rows", rows.float(), persistent=False)
        self.register_buffer("share", share.T.float().contiguous(), persistent=False)
        self.register_buffer("level", level.float(), persistent=False)

    def forward(
        self, values: Shaped[Tensor, "batch channel sample"]
    ) -> tuple[Float[Tensor, "batch channel step band"], Float[Tensor, "batch channel step"]]:
        """Variances in square microvolts, and the root of every step's sum of squares."""
        record = values.shape[1] * values.shape[2] * self.rows.element_size()
        if not eager_on_cpu(values) or len(values) * record <= CHUNK_BYTES:
            return self._estimate(self.frames.cut(values))
        some = max(1, CHUNK_BYTES // record)
        pieces = [self._pieces(part, record) for part in torch.split(values, some)]
        return torch.cat([variance for variance, _ in pieces]), torch.cat([size for _, size in pieces])

    def _pieces(self, values: Shaped[Tensor, "some channel sample"], record: int) -> tuple[Tensor, Tensor]:
        """The same for records that fit the cache together, or for one that does not, some steps at a time."""
        frames = self.frames.cut(values)
        most = max(1, frames.shape[2] * CHUNK_BYTES // record)
        if frames.shape[2] <= most:
            return self._estimate(frames)
        pieces = [self._estimate(some) for some in torch.split(frames, most, 2)]
        return torch.cat([variance for variance, _ in pieces], 2), torch.cat([size for _, size in pieces], 2)

    def _estimate(self, frames: Shaped[Tensor, "batch channel step sample"]) -> tuple[Tensor, Tensor]:
        frames = frames.to(self.rows.dtype)
        first = frames[..., :1]
        coefficients = (frames - first) @ self.rows
        if not self.blind:
            coefficients = coefficients + first * self.level
        return linear(coefficients.square(), self.share), torch.linalg.vector_norm(frames, dim=-1)


class FilteredVariance(nn.Module):
    """Mean square of every step of signals that were filtered before.

    A band that starts above 0 Hz has no mean to take off.

    Args:
        frames: the steps.
        gain: what the filter of every band lets through of white noise, over what sharp edges would; divided by.
    """

    scale: Float[Tensor, " band"]

    def __init__(self, frames: Frames, gain: Float[Tensor, " band"]) -> None:
        super().__init__()
        self.frames = frames
        self.register_buffer("scale", (MICRO / (gain * frames.samples).sqrt()).float(), persistent=False)

    def forward(
        self, values: Shaped[Tensor, "batch channel band sample"]
    ) -> tuple[Float[Tensor, "batch channel step band"], Float[Tensor, "batch channel step"]]:
        """Variances in square microvolts, and the sum over bands of the root of every step's sum of squares."""
        frames = self.frames.cut(values.to(self.scale.dtype))
        size = torch.linalg.vector_norm(frames, dim=-1).transpose(2, 3).contiguous()  # else it exports not
        return (size * self.scale).square(), size.sum(-1)


class Samples(nn.Module):
    """Every sample as it is: a step each.

    Args:
        scale: what it is multiplied by, 1e6 for microvolts.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, values: Shaped[Tensor, "batch channel *band step"]
    ) -> tuple[Float[Tensor, "batch channel step band"], Float[Tensor, "batch channel step"]]:
        """The samples, bands last, and the sum over bands of their size."""
        values = values if values.is_floating_point() else values.float()
        values = (values * self.scale)[:, :, None] if values.ndim == 3 else values * self.scale
        return values.transpose(2, 3), values.abs().sum(2)


def eager_on_cpu(values: Tensor) -> bool:
    """Whether this is no graph, and looking at values waits for no device."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()
