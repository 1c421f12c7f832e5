"""Statistics of short windows of a time series, its samples themselves, or a vector as it is."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fusionkit.core.framing import Frames, zero_padding
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd

STATISTICS = ("mean", "deviation", "minimum", "maximum", "slope", "activity")


class StatisticsFeatures(BaseModel):
    """Six statistics of every channel in short windows; a vector is taken as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["statistics"] = "statistics"
    window: Annotated[float, Field(gt=0, description="seconds of one step")] = 1.0
    step: Annotated[float | None, Field(gt=0, description="seconds from step to step; default: window")] = None


class RawFeatures(BaseModel):
    """Every sample a step; a vector is taken as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["raw"] = "raw"


class Statistics(FrontEnd):
    r"""Six numbers that say most of what a slow or irregular signal does in a step.

    ``mean``; ``deviation``, the standard deviation; ``minimum`` and ``maximum``; ``slope``, of the least-squares line,
    per second; ``activity``, the mean absolute change from sample to sample, per second. Samples 0, 1, 2, 3 at 1 Hz
    have 1.5, 1.118, 0, 3, 1 and 1.

    Args:
        channels: channels of the signal.
        frames: the steps.
        factor: what samples are multiplied by first (1e6 for volts, whose squares would be lost in half precision).
    """

    line: Float[Tensor, " sample"]

    def __init__(self, channels: int, frames: Frames, *, factor: float = 1.0) -> None:
        super().__init__()
        self.frames = frames
        self.factor = factor
        self.names = STATISTICS
        self.shape = FeatureShape(channels, len(STATISTICS))
        second = torch.arange(frames.samples, dtype=torch.float64) / frames.sample_rate
        second = second - second.mean()
        line = second / second.square().sum().clamp_min(1e-12)
        self.register_buffer("line", line.float(), persistent=False)

    def forward(
        self, values: Shaped[Tensor, "batch channel sample"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel statistic"], Bool[Tensor, "batch time"]]:
        """Statistics of every step; a step counts only if it lies wholly inside ``length``."""
        frames = self.frames.cut(zero_padding(values.to(self.line.dtype), length) * self.factor)
        mean = frames.mean(-1)
        centred = frames - mean[..., None]
        deviation = (centred.square().mean(-1) + 1e-24).sqrt()  # its slope at 0 would be infinite
        slope = centred @ self.line
        activity = (frames[..., 1:] - frames[..., :-1]).abs().sum(-1) * (
            self.frames.sample_rate / max(self.frames.samples - 1, 1)
        )
        found = [mean, deviation, frames.amin(-1), frames.amax(-1), slope, activity]
        return torch.stack(found, -1).transpose(1, 2), self.frames.mask(length, frames)

    def times(self, steps: int) -> Float[Tensor, " time"]:
        """Centres of the steps in seconds."""
        return self.frames.times(steps)

    def stepwise(self) -> Frames:
        """Every step by itself."""
        return self.frames


class Samples(FrontEnd):
    """Every sample is a step with one subchannel.

    Args:
        channels: channels of the signal.
        sample_rate: hertz; None for a vector, which is one step without a time.
        factor: what samples are multiplied by.
    """

    def __init__(self, channels: int, sample_rate: float | None, *, factor: float = 1.0) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.factor = factor
        self.shape = FeatureShape(channels, 1, steps=1 if sample_rate is None else None, timed=sample_rate is not None)

    def forward(
        self, values: Shaped[Tensor, "batch channel time"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel 1"], Bool[Tensor, "batch time"]]:
        """Samples, time first."""
        clean = zero_padding(values, length) * self.factor
        real = torch.arange(values.shape[-1], device=values.device) < length[:, None]
        return clean.transpose(1, 2)[..., None], real

    def times(self, steps: int) -> Float[Tensor, " time"] | None:
        """Centres of the samples in seconds; None for a vector."""
        if self.sample_rate is None:
            return None
        return Frames(1, 1, self.sample_rate).times(steps)

    def stepwise(self) -> Frames | str:
        """Every sample by itself."""
        return "a vector has no time" if self.sample_rate is None else Frames(1, 1, self.sample_rate)
