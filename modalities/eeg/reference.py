"""The kinds of features again, one window at a time in float64 with SciPy: slow, and easy to believe.

For tests and for `fusionkit bench features`. A recording is ``(channel, time)`` in volts; each function gives the
variance (`seed`: the mean square) of every band of every window, ``(window, channel, band)`` in square microvolts.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.fft
import scipy.signal

from fusionkit.core.recording import Array

Edges = Sequence[tuple[float, float]]


def dft(recording: Array, rate: float, samples: int, bands: Edges) -> Array:
    """FFT under a Hann window; real and imaginary part less the mean's share, at unit gain for white noise."""
    window = scipy.signal.get_window("hann", samples)
    own = scipy.fft.rfft(window)
    turn = np.exp(-2j * np.pi * np.outer(np.arange(len(own)), np.arange(samples)) / samples)
    gain = [
        ((part * window) ** 2).sum(1) - of**2 / samples for part, of in ((turn.real, own.real), (turn.imag, own.imag))
    ]
    frequency = scipy.fft.rfftfreq(samples, 1 / rate)
    windows = []
    for piece in _pieces(recording, samples):
        found = scipy.fft.rfft(piece * window) - own * piece.mean(1, keepdims=True)
        power = np.zeros(found.shape)
        for part, scale in zip((found.real, found.imag), gain, strict=True):
            power += np.where(scale > 1e-9 * samples, part**2 / np.maximum(scale, 1e-9), 0.0) / samples
        windows.append([power[:, (low <= frequency) & (frequency < high)].sum(1) for low, high in bands])
    return np.array(windows).transpose(0, 2, 1)


def bandpass(recording: Array, rate: float, samples: int, bands: Edges, order: int = 5) -> Array:
    """Butterworth filters of the whole recording, from the steady state of its first sample; mean square of a window.

    Each is divided by the energy of the filter's impulse response over that of a band with sharp edges.
    """
    found = []
    for low, high in bands:
        sections = scipy.signal.butter(order, (low, high), "bandpass", output="sos", fs=rate)
        impulse = np.zeros(round(30 * rate))
        impulse[0] = 1
        excess = (scipy.signal.sosfilt(sections, impulse) ** 2).sum() * rate / 2 / (high - low)
        state = scipy.signal.sosfilt_zi(sections)[:, None] * recording[:, :1] * 1e6
        windows = []
        for piece in _pieces(recording, samples):
            filtered, state = scipy.signal.sosfilt(sections, piece, zi=state)
            windows.append((filtered**2).mean(1) / excess)
        found.append(windows)
    return np.array(found).transpose(1, 2, 0)


def seed(recording: Array, rate: float, samples: int, bands: Edges, points: int | None = None) -> Array:
    """The laboratory's loops: MATLAB's hanning, FFT, and the mean of squares from and to a number counted from 1."""
    points = points or samples
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / (samples + 1)) for n in range(1, samples + 1)])
    windows = []
    for piece in _pieces(recording, samples):
        size = np.abs(scipy.fft.fft(piece * window, points))[:, : points // 2]
        row = []
        for low, high in bands:
            first, last = math.trunc(low * points / rate), math.trunc(high * points / rate)
            total = np.zeros(len(piece))
            for number in range(first, last + 1):
                total = total + size[:, number - 1] ** 2
            row.append(total / (last - first + 1))
        windows.append(row)
    return np.array(windows).transpose(0, 2, 1)


def _pieces(recording: Array, samples: int) -> list[Array]:
    """Windows end to end, in microvolts."""
    starts = range(0, recording.shape[1] - samples + 1, samples)
    return [recording[:, start : start + samples].astype(np.float64) * 1e6 for start in starts]


KINDS: Mapping[str, Callable[[Array, float, int, Edges], Array]] = {"dft": dft, "bandpass": bandpass, "seed": seed}
