"""White noise on the channels of a time series."""

from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import WindowAugmentation, choose, normal
from .series import Probability, across, centre, real_samples


@augment.register("channel_noise")
class ChannelNoise(WindowAugmentation):
    """Add white noise to every channel of a time series, in proportion to the channel's own standard deviation.

    For EEG and any signal ``(batch, *item, time)``. A vector, one sample per channel, has no deviation and stays
    as it is.

    Args:
        spread: standard deviation of the noise over that of the channel.
        probability: share of samples that are changed.
    """

    def __init__(
        self,
        *,
        spread: Annotated[float, Field(gt=0, description="noise over signal, standard deviations")] = 0.1,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.spread = spread
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Add noise to the real samples of one batch."""
        values = stream.values
        chosen = choose(len(values), self.probability, values, generator)
        noise = normal(tuple(values.shape), values, generator)
        centred, _ = centre(stream)
        count = across(stream.length.clamp_min(1), values)
        std = (centred.square().sum(-1, keepdim=True) / count).sqrt()
        changed = across(real_samples(stream) & chosen[:, None], values)
        return stream._replace(values=torch.where(changed, values + self.spread * std * noise, values))
