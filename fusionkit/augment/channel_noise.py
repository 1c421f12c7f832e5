"""White noise on the channels of a time series."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import WindowAugmentation, choose, normal


@augment.register("channel_noise")
class ChannelNoise(WindowAugmentation):
    """Add white noise to every channel of a time series, in proportion to the channel's own standard deviation.

    For EEG and any signal ``(batch, channel, time)``. A vector, one sample per channel, has no deviation and stays
    as it is.

    Args:
        spread: standard deviation of the noise over that of the channel.
        probability: share of samples that are changed.
    """

    axes: ClassVar[int] = 2

    def __init__(
        self,
        *,
        spread: Annotated[float, Field(gt=0, description="noise over signal, standard deviations")] = 0.1,
        probability: Annotated[float, Field(ge=0, le=1, description="share of samples that are changed")] = 0.5,
    ) -> None:
        super().__init__()
        self.spread = spread
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Add noise to the real samples of one batch."""
        values = stream.values
        chosen = choose(values.shape[0], self.probability, values, generator)
        noise = normal(tuple(values.shape), values, generator)
        real = (torch.arange(values.shape[2], device=values.device) < stream.length[:, None])[:, None]
        count = stream.length.clamp_min(1)[:, None, None]
        mean = torch.where(real, values, torch.zeros_like(values)).sum(2, keepdim=True) / count
        deviation = torch.where(real, values - mean, torch.zeros_like(values))
        std = (deviation.square().sum(2, keepdim=True) / count).sqrt()
        changed = values + self.spread * std * noise
        return stream._replace(values=torch.where(real & chosen[:, None, None], changed, values))
