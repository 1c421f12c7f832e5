"""Time that runs backwards."""

import torch

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import choose
from .series import Probability, SeriesAugmentation, real_samples, take


@augment.register("time_reverse")
class TimeReverse(SeriesAugmentation):
    """Play a window backwards, all channels together: power spectra and correlations stay what they were.

    Samples 1, 2, 3 become 3, 2, 1; padding stays at the end.

    Args:
        probability: share of samples that are changed.

    Reference:
        Rommel et al., CADDA, ICLR 2022.
    """

    def __init__(self, *, probability: Probability = 0.5) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Reverse some samples of one batch."""
        values = stream.values
        chosen = choose(len(values), self.probability, values, generator)
        step = torch.arange(values.shape[-1], device=values.device).expand(len(values), -1)
        turned = real_samples(stream) & chosen[:, None]
        return stream._replace(values=take(values, torch.where(turned, stream.length[:, None] - 1 - step, step)))
