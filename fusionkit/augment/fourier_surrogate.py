"""Other signals of the same spectrum."""

import math
from typing import Annotated

import torch
from pydantic import Field

from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .augmentation import choose, uniform
from .series import Probability, SeriesAugmentation, across, centre, real_samples
from .spectrum import frequencies, signal, spectrum


@augment.register("fourier_surrogate")
class FourierSurrogate(SeriesAugmentation):
    r"""Turn the phase of every frequency by a random angle; how strong each frequency is stays exactly the same.

    :math:`X_k \to X_k e^{i \theta_k}`, :math:`\theta_k \sim U[0, 2 \pi)` for :math:`0 < k < n / 2`; the mean and half
    the sampling rate, which have no phase, stay. All channels turn together, so that cross-spectra and correlations
    stay too.

    Args:
        independent: turn every channel by angles of its own: what channels had in common is lost.
        probability: share of samples that are changed.

    Reference:
        Schwabedal et al., Addressing Class Imbalance in Classification Problems of Noisy Signals by using Fourier
        Transform Surrogates, 2018; Theiler et al., Physica D 1992.
    """

    def __init__(
        self,
        *,
        independent: Annotated[bool, Field(description="other angles for every channel")] = False,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.independent = independent
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Turn the phases of some samples of one batch."""
        values, length, time = stream.values, stream.length, stream.values.shape[-1]
        chosen = choose(len(values), self.probability, values, generator)
        centred, mean = centre(stream)
        bins = spectrum(centred, length)
        item = tuple(values.shape[1:-1]) if self.independent else (1,) * (values.ndim - 2)
        angle = 2 * math.pi * uniform((len(values), *item, bins.shape[-1]), values, generator).to(values.dtype)
        place = frequencies(length, time, 1.0)
        angle = torch.where(across((place > 0) & (place < 0.5), values), angle, torch.zeros_like(angle))
        changed = signal(bins * torch.polar(torch.ones_like(angle), angle), length, time) + mean
        return stream._replace(
            values=torch.where(across(real_samples(stream) & chosen[:, None], values), changed, values)
        )
