"""All frequencies moved by some hertz."""

import math
from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import choose, uniform
from .series import Probability, SeriesAugmentation, across, centre, real_samples
from .spectrum import analytic, spectrum


@augment.register("frequency_shift")
class FrequencyShift(SeriesAugmentation):
    r"""Move all frequencies up or down by the same few hertz, as rhythms differ between people.

    With the analytic signal :math:`z` of a channel without its mean, sample ``n`` becomes
    :math:`\mathrm{Re}(z_n e^{2 \pi i \Delta n / f_s})`, :math:`\Delta \sim U[-m, m]`, one of each sample for all
    channels: a sine of 10 Hz shifted by 1 becomes one of 11 Hz. The mean stays.

    Args:
        most: :math:`m`, largest shift either way, in hertz.
        probability: share of samples that are changed.

    Reference:
        Rommel et al., CADDA, ICLR 2022.
    """

    def __init__(
        self,
        *,
        most: Annotated[float, Field(gt=0, description="largest shift either way, hertz")] = 1.0,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Shift some samples of one batch."""
        values, length, time = stream.values, stream.length, stream.values.shape[-1]
        chosen = choose(len(values), self.probability, values, generator)
        shift = self.most * (2 * uniform((len(values), 1), values, generator) - 1)
        centred, mean = centre(stream)
        circling = analytic(spectrum(centred, length), length, time)
        seconds = torch.arange(time, device=values.device, dtype=values.dtype) / self.sample_rate
        angle = 2 * math.pi * shift.to(values.dtype) * seconds
        changed = (circling * across(torch.polar(torch.ones_like(angle), angle), values)).real + mean
        return stream._replace(
            values=torch.where(across(real_samples(stream) & chosen[:, None], values), changed, values)
        )
