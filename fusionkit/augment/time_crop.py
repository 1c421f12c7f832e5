"""A stretch of a window in place of the whole."""

from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import choose
from .series import Probability, SeriesAugmentation, across, real_samples, stretch, take


@augment.register("time_crop")
class TimeCrop(SeriesAugmentation):
    """Keep a random stretch of a window and forget the rest.

    The stretch moves to the start of the window, and what is left over becomes padding: ``length`` shrinks, so that
    no frequency is stretched and no made-up silence is taken for signal. Of 100 samples with ``least=0.5``, 50 to 100
    stay. A front end counts only steps that lie wholly in what is kept, so windows should be several steps long.

    Args:
        least: shortest stretch, as a share of the real samples.
        probability: share of samples that are changed.

    Reference:
        Cropped training: Schirrmeister et al., Human Brain Mapping 2017.
    """

    def __init__(
        self,
        *,
        least: Annotated[float, Field(gt=0, lt=1, description="shortest stretch, share of the window")] = 0.5,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.least = least
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Crop some samples of one batch; shapes stay."""
        values, length = stream.values, stream.length
        chosen = choose(len(values), self.probability, values, generator)
        shortest = (self.least * length).ceil().long().minimum(length)
        start, count = stretch(shortest, length, length, generator)
        start, count = torch.where(chosen, start, 0), torch.where(chosen, count, length)
        step = torch.arange(values.shape[-1], device=values.device)
        moved = take(values, (step + start[:, None]).clamp_max(values.shape[-1] - 1))
        forgotten = across((step >= count[:, None]) & real_samples(stream), values)
        moved = torch.where(across(step < count[:, None], values), moved, values)
        return stream._replace(values=torch.where(forgotten, torch.zeros_like(values), moved), length=count)
