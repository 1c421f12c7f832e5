"""A band of frequencies taken out."""

from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored
from fusionkit.core.registry import augment

from .augmentation import choose, uniform
from .series import Probability, SeriesAugmentation, across, centre, real_samples
from .spectrum import frequencies, signal, spectrum


@augment.register("band_stop")
class BandStop(SeriesAugmentation):
    """Take a random band of frequencies out of all channels, so that no answer hangs on one band.

    The band ``[f, f + width)`` starts at a frequency drawn evenly from 0 to ``highest - width``, one of each sample;
    its bins of the window's DFT become 0. The mean stays.

    Args:
        width: of the band, in hertz.
        highest: where the highest band ends, in hertz; default: half the sampling rate.
        probability: share of samples that are changed.

    Raises:
        ConfigError: (`bind`) the band does not fit below ``highest``, or that is above half the sampling rate.

    Reference:
        Cheng et al., Subject-Aware Contrastive Learning for Biosignals, 2020; Rommel et al., CADDA, ICLR 2022.
    """

    def __init__(
        self,
        *,
        width: Annotated[float, Field(gt=0, description="hertz that are taken out")] = 5.0,
        highest: Annotated[float | None, Field(gt=0, description="end of the highest band, hertz")] = None,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.width = width
        self.highest = highest
        self.probability = probability

    def bind(self, stored: Stored) -> None:
        super().bind(stored)
        if self.highest is not None and self.highest > self.sample_rate / 2:
            raise ConfigError(
                f"highest must be at most half the sampling rate of {self.sample_rate:g} Hz, but got {self.highest:g}"
            )
        if self.width > self._end:
            raise ConfigError(f"width must be at most the {self._end:g} Hz that are there, but got {self.width:g}")

    @property
    def _end(self) -> float:
        return self.sample_rate / 2 if self.highest is None else self.highest

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Take a band out of some samples of one batch."""
        values, length, time = stream.values, stream.length, stream.values.shape[-1]
        chosen = choose(len(values), self.probability, values, generator)
        low = uniform((len(values), 1), values, generator) * (self._end - self.width)
        hertz = frequencies(length, time, self.sample_rate)
        centred, mean = centre(stream)
        bins = spectrum(centred, length)
        lost = across((hertz >= low) & (hertz < low + self.width), values)
        changed = signal(torch.where(lost, torch.zeros_like(bins), bins), length, time) + mean
        return stream._replace(
            values=torch.where(across(real_samples(stream) & chosen[:, None], values), changed, values)
        )
