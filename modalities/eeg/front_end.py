"""EEG windows in volts to differential entropy per band, or to microvolts."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.framing import Frames, zero_padding
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd

BANDS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "seed": {
        "delta": (1.0, 4.0),
        "theta": (4.0, 8.0),
        "alpha": (8.0, 14.0),
        "beta": (14.0, 31.0),
        "gamma": (31.0, 50.0),
    },
    "classic": {
        "delta": (1.0, 4.0),
        "theta": (4.0, 8.0),
        "alpha": (8.0, 13.0),
        "beta": (13.0, 30.0),
        "gamma": (30.0, 45.0),
    },
}
_MICRO = 1e6  # files and windows hold volts


class DifferentialEntropy(FrontEnd):
    r"""Differential entropy of each band and electrode, as two matrix products.

    A band's signal is taken as Gaussian with the band's variance :math:`s^2` in square microvolts,

    .. math:: h = \tfrac12 \ln(2 \pi e s^2), \quad s^2 = \frac{2}{N \sum_n w_n^2} \sum_{lo \le f_k < hi} |X_k|^2,

    with :math:`X` the DFT of :math:`N` samples under a Hann window :math:`w`. A band of variance 1 has 1.4189 nats.
    The bands are half-open, so that no frequency counts twice. The mean of a step is removed inside the rows of
    the DFT, each of which is then rescaled to its exact gain for white noise: an offset changes nothing, and the
    variance of white noise comes out unbiased in every band.

    Args:
        channels: electrodes.
        frames: the steps.
        bands: name to lower (inside) and upper edge (outside) in hertz; taken in rising order.
        log: base of the logarithm.
        floor: least variance, in square microvolts.

    Raises:
        ConfigError: a band ends above half the sampling rate, or no frequency of the DFT lies in it.

    Reference:
        Duan, Zhu, Lu, IEEE EMBS NER 2013; Zheng, Lu, IEEE TAMD 2015.
    """

    rows: Float[Tensor, "sample row"]
    share: Float[Tensor, "row band"]

    def __init__(
        self,
        channels: int,
        frames: Frames,
        bands: Mapping[str, tuple[float, float]],
        *,
        log: Literal["e", 2] = "e",
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.bands = tuple(sorted(bands, key=lambda name: tuple(bands[name])))
        self.shape = FeatureShape(channels, len(self.bands))
        self.floor = floor
        self.unit = 1.0 if log == "e" else 1 / math.log(2)
        rows, share = _band_matrices(frames, [bands[name] for name in self.bands], self.bands)
        self.register_buffer("rows", rows.float(), persistent=False)
        self.register_buffer("share", share.float(), persistent=False)

    def forward(
        self, values: Shaped[Tensor, "batch channel sample"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel band"], Bool[Tensor, "batch time"]]:
        """Entropy of every step; a step counts only if it lies wholly inside ``length``."""
        frames = self.frames.cut(zero_padding(values.to(self.rows.dtype), length) * _MICRO)
        frames = frames - frames.mean(-1, keepdim=True)  # the rows do that too; here it saves digits of float32
        variance = (frames @ self.rows).square() @ self.share
        entropy = 0.5 * torch.log(variance.clamp_min(self.floor)) + 0.5 * math.log(2 * math.pi * math.e)
        return (entropy * self.unit).transpose(1, 2), self.frames.mask(length, frames)

    def times(self, steps: int) -> Float[Tensor, " time"]:
        """Centres of the steps in seconds."""
        return self.frames.times(steps)


class Microvolts(FrontEnd):
    """Every sample is a step with one subchannel, its voltage in microvolts: 1e-6 V becomes 1.

    Args:
        channels: electrodes.
        sample_rate: hertz.
    """

    def __init__(self, channels: int, sample_rate: float) -> None:
        super().__init__()
        self.frames = Frames(1, 1, sample_rate)
        self.shape = FeatureShape(channels, 1)

    def forward(
        self, values: Shaped[Tensor, "batch channel time"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel 1"], Bool[Tensor, "batch time"]]:
        """Microvolts of every sample."""
        clean = zero_padding(values, length) * _MICRO
        return clean.transpose(1, 2)[..., None], self.frames.mask(length, clean[..., None])

    def times(self, steps: int) -> Float[Tensor, " time"]:
        """Centres of the samples in seconds."""
        return self.frames.times(steps)


def _band_matrices(
    frames: Frames, bands: list[tuple[float, float]], names: tuple[str, ...]
) -> tuple[Float[Tensor, "sample row"], Float[Tensor, "row band"]]:
    """Rows of the DFT that lie in some band (cosines, then sines), and which row belongs to which band."""
    samples, rate = frames.samples, frames.sample_rate
    frequency = torch.arange(samples // 2 + 1, dtype=torch.float64) * rate / samples
    inside = torch.zeros(len(frequency), len(bands), dtype=torch.float64)
    edge = 1e-9 * rate  # against rounding
    for i, (name, (low, high)) in enumerate(zip(names, bands, strict=True)):
        if not 0 <= low < high <= rate / 2 + edge:
            raise ConfigError(
                f"features.bands: a band must rise and end at or below half the sampling rate, {rate / 2:g} Hz, "
                f"but {name!r} is {low:g} to {high:g} Hz"
            )
        inside[:, i] = (frequency >= low - edge) & (frequency < high - edge)
        if not inside[:, i].any():
            raise ConfigError(
                f"features.bands: a band must hold a multiple of {rate / samples:g} Hz (1 / window), "
                f"but {name!r} is {low:g} to {high:g} Hz"
            )
    used = inside.any(1)
    sample = torch.arange(samples, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(sample, frequency[used] / rate)
    window = torch.hann_window(samples, periodic=True, dtype=torch.float64)
    rows = torch.cat([angle.cos(), angle.sin()], 1) * window[:, None]
    rows = rows - rows.mean(0)
    gain = rows.square().sum(0)
    real = gain > 1e-9 * gain.max()  # the sine at 0 Hz, and at half the rate, is nothing
    # 2 / (N sum w^2) and the white-noise gain sum w^2 / 2 of a row leave rows of length 1 / sqrt(N)
    return rows[:, real] / (gain[real] * samples).sqrt(), torch.cat([inside[used]] * 2)[real]
