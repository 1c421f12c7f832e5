"""Silence of a stretch of time."""

from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import choose
from .series import Probability, SeriesAugmentation, across, real_samples, stretch


@augment.register("time_mask")
class TimeMask(SeriesAugmentation):
    """Set a random stretch of time to 0 in all channels, as a recording that dropped out.

    Of a window of 100 samples with ``most=0.2``, 1 to 20 are hidden, from a random one on.

    Args:
        most: longest stretch, as a share of the real samples.
        probability: share of samples that are changed.

    Reference:
        Mohsenvand et al., Contrastive Representation Learning for EEG Classification, ML4H 2020.
    """

    def __init__(
        self,
        *,
        most: Annotated[float, Field(gt=0, le=1, description="longest stretch, share of the window")] = 0.2,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Hide a stretch of some samples of one batch."""
        values, length = stream.values, stream.length.clamp_min(1)
        chosen = choose(len(values), self.probability, values, generator)
        longest = (self.most * length).long().clamp_min(1)
        start, count = stretch(torch.ones_like(longest), longest, length, generator)
        step = torch.arange(values.shape[-1], device=values.device)
        hidden = (step >= start[:, None]) & (step < (start + count)[:, None]) & chosen[:, None] & real_samples(stream)
        return stream._replace(values=torch.where(across(hidden, values), torch.zeros_like(values), values))
