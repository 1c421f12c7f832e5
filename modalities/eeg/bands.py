"""Bands of frequency: named sets, the rows of a DFT that estimate their variance, and filters that let them through."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.core.errors import ConfigError

Bands = Mapping[str, tuple[float, float]]

BANDS: Mapping[str, Bands] = {
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

MICRO = 1e6
"""Microvolts in a volt: recordings hold volts, variances are in square microvolts."""


def rising(bands: Bands) -> dict[str, tuple[float, float]]:
    """The same bands in the order of their edges."""
    return dict(sorted(bands.items(), key=lambda band: tuple(band[1])))


def dft_matrices(
    samples: int, sample_rate: float, bands: Bands
) -> tuple[Float[Tensor, "sample row"], Float[Tensor, "row band"]]:
    r"""Matrices that turn a step :math:`x` in volts into the variance of each band: ``(x @ rows) ** 2 @ share``.

    A row is a cosine or sine of the DFT at a frequency inside some band (``lo <= f < hi``, so that no frequency
    counts twice) under a Hann window, less its own mean and scaled to its exact gain for white noise: an offset
    changes nothing, and white noise of variance 1 has :math:`2 / N` in each frequency, as in each of the sines that
    it is made of. Of 200 samples at 200 Hz, the bands of SEED take 49 frequencies, 98 rows.

    Raises:
        ConfigError: a band falls, ends above half the sampling rate, or no frequency of the DFT lies in it.
    """
    frequency = torch.arange(samples // 2 + 1, dtype=torch.float64) * sample_rate / samples
    inside = torch.zeros(len(frequency), len(bands), dtype=torch.float64)
    edge = 1e-9 * sample_rate  # against rounding
    for i, (name, (low, high)) in enumerate(bands.items()):
        _check(name, low, high, sample_rate)
        inside[:, i] = (frequency >= low - edge) & (frequency < high - edge)
        if not inside[:, i].any():
            raise ConfigError(
                f"features.bands: a band must hold a multiple of {sample_rate / samples:g} Hz (1 / window), "
                f"but {name!r} is {low:g} to {high:g} Hz"
            )
    used = inside.any(1)
    window = torch.hann_window(samples, periodic=True, dtype=torch.float64)
    rows = _waves(samples, frequency[used] / sample_rate) * window[:, None]
    rows = rows - rows.mean(0)
    gain = rows.square().sum(0)
    real = gain > 1e-9 * gain.max()  # the sine at 0 Hz, and at half the rate, is nothing
    # 2 / (N sum w^2) and the white-noise gain sum w^2 / 2 of a row leave rows of length 1 / sqrt(N)
    return MICRO * rows[:, real] / (gain[real] * samples).sqrt(), torch.cat([inside[used]] * 2)[real]


def seed_matrices(
    samples: int, sample_rate: float, points: int, bands: Bands
) -> tuple[Float[Tensor, "sample row"], Float[Tensor, "row band"]]:
    r"""Matrices of the SEED laboratory's short-time Fourier transform: ``(x @ rows) ** 2 @ share`` is a band's mean
    :math:`|X_k|^2`.

    :math:`X` is the FFT of ``points`` samples under MATLAB's ``hanning``, and :math:`k` runs from
    ``fix(lo * points / rate)`` to ``fix(hi * points / rate)`` *counted from 1*, which makes every band one frequency
    low: "1 to 4 Hz" of a second takes 0, 1, 2 and 3 Hz, the offset with them.

    Raises:
        ConfigError: there are fewer points than samples, or a band falls, starts below the first frequency or ends
            above half the sampling rate.
    """
    if points < samples:
        raise ConfigError(f"features.points must hold a window of {samples} samples, but is {points}")
    inside = torch.zeros(points // 2, len(bands), dtype=torch.float64)
    for i, (name, (low, high)) in enumerate(bands.items()):
        _check(name, low, high, sample_rate)
        first, last = (int(edge * points / sample_rate + 1e-9) for edge in (low, high))
        if first < 1:
            raise ConfigError(
                f"features.bands: a band of the seed kind must start at {sample_rate / points:g} Hz or above, "
                f"but {name!r} is {low:g} to {high:g} Hz"
            )
        inside[first - 1 : last, i] = 1 / (last - first + 1)
    used = inside.any(1)
    window = torch.hann_window(samples + 2, periodic=False, dtype=torch.float64)[1:-1]  # hanning has no zeros
    frequency = torch.arange(len(inside), dtype=torch.float64)[used] / points
    return MICRO * _waves(samples, frequency) * window[:, None], torch.cat([inside[used]] * 2)


def filter_bank(sample_rate: float, bands: Bands, order: int) -> list[Any]:
    """Second-order sections of a Butterworth band-pass per band; its edges are 3 dB down.

    Raises:
        ConfigError: a band falls, starts at 0 Hz, or does not end below half the sampling rate.
    """
    from scipy.signal import butter

    for name, (low, high) in bands.items():
        if not 0 < low < high < sample_rate / 2:
            raise ConfigError(
                f"features.bands: a band to filter must rise, start above 0 Hz and end below half the sampling rate, "
                f"{sample_rate / 2:g} Hz, but {name!r} is {low:g} to {high:g} Hz"
            )
    return [butter(order, edges, "bandpass", output="sos", fs=sample_rate).tolist() for edges in bands.values()]


def excess_gain(sample_rate: float, bands: Bands, order: int) -> list[float]:
    """How much more of white noise each filter of the bank lets through than a band with sharp edges would.

    About 1.017 for order 5 far below half the sampling rate.
    """
    import numpy as np
    from scipy.signal import sosfreqz

    grid = (np.arange(2**16) + 0.5) * np.pi / 2**16
    gains = []
    for sections, (low, high) in zip(filter_bank(sample_rate, bands, order), bands.values(), strict=True):
        _, response = sosfreqz(sections, grid)
        gains.append(float(np.mean(np.abs(response) ** 2)) / ((high - low) / (sample_rate / 2)))
    return gains


def _waves(samples: int, frequency: Float[Tensor, " frequency"]) -> Float[Tensor, "sample row"]:
    """Cosines, then sines, of frequencies in cycles a sample."""
    angle = 2 * math.pi * torch.outer(torch.arange(samples, dtype=torch.float64), frequency)
    return torch.cat([angle.cos(), angle.sin()], 1)


def _check(name: str, low: float, high: float, sample_rate: float) -> None:
    if not 0 <= low < high <= sample_rate / 2 * (1 + 1e-9):
        raise ConfigError(
            f"features.bands: a band must rise and end at or below half the sampling rate, {sample_rate / 2:g} Hz, "
            f"but {name!r} is {low:g} to {high:g} Hz"
        )
