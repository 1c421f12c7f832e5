"""Euclidean alignment of windows: one matrix a wearer, from a calibration segment; the same offline and in a closed loop."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FLOOR = 1e-8
"""Directions with less than this share of their channels' variance are no signal (a reference, an interpolation)."""


class MeanCovariance:
    r"""Mean over windows of :math:`X X^\top / n`, in float64, with :math:`X` less its mean in time.

    A channel that a window has not measured (all 0, or NaN in it) is left out of that window; every pair of channels
    is averaged over the windows that have both.

    Args:
        channels: how many there are.
    """

    def __init__(self, channels: int) -> None:
        self.total = np.zeros((channels, channels))
        self.count = np.zeros((channels, channels))

    def update(self, window: Array) -> None:
        """See one window ``(channel, time)``."""
        here = measured(window)
        values = np.where(here[:, None], window, 0).astype(np.float64)
        values -= values.mean(1, keepdims=True)
        self.total += values @ values.T / max(1, values.shape[1])
        self.count += np.outer(here, here)

    @property
    def value(self) -> Array:
        """The mean ``(channel, channel)``; 0 for what was never measured."""
        return self.total / np.maximum(self.count, 1)


def alignment_matrix(covariance: Array, scale: float = 1.0) -> Array:
    r"""``scale`` :math:`R^{-1/2}`, the symmetric matrix that gives windows of mean covariance :math:`R` that of ``scale``:sup:`2`.

    A covariance of 4 on the diagonal alone gives 1/2. What has next to no variance (`FLOOR`), as the one direction
    that an average reference leaves, becomes 0 instead of being blown up: a pseudo-inverse. How many such directions
    there are is told by correlations, so that a loose electrode of a volt does not make the others next to nothing.

    Reference:
        He, Wu, Transfer Learning for Brain-Computer Interfaces: A Euclidean Space Data Alignment Approach, IEEE TBME
        2020. The paper has scale 1 and leaves the mean in.
    """
    covariance = np.asarray(covariance, np.float64)
    size = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), 1))
    common = np.linalg.eigvalsh(covariance / np.outer(size, size))
    value, vector = np.linalg.eigh(covariance)
    used = (np.arange(len(value)) >= (common <= FLOOR * common[-1]).sum()) & (value > 0)
    root = np.where(used, 1 / np.sqrt(np.where(used, value, 1)), 0)
    matrix: Array = scale * (vector * root) @ vector.T
    return matrix


def calibrate_alignment(segment: Array, samples: int, scale: float = 1.0) -> Array:
    """The matrix of a calibration segment ``(channel, time)``, cut into windows of ``samples`` as the manifest says.

    What is left at the end is not used; a segment shorter than a window is one.
    """
    covariance = MeanCovariance(len(segment))
    for start in range(0, max(1, segment.shape[1] - samples + 1), samples):
        covariance.update(segment[:, start : start + samples])
    return alignment_matrix(covariance.value, scale)


def align(matrix: Array, window: Array) -> Array:
    """Align one window ``(channel, time)``, or ``(channel, band, time)`` of signals by band: filters do not mix channels.

    What it has not measured adds nothing and stays 0. Keeps the window's dtype.
    """
    flat = window.reshape(len(window), -1)
    here = measured(flat)[:, None]
    values = np.where(here, flat, 0).astype(np.float64)
    aligned: Array = np.where(here, matrix @ values, 0).astype(window.dtype).reshape(window.shape)
    return aligned


def measured(window: Array) -> Array:
    """Which channels ``(channel,)`` of a window ``(channel, ..., time)`` were measured: not all 0, and nowhere NaN."""
    axes = tuple(range(1, window.ndim))
    here: Array = (window != 0).any(axes) & ~np.isnan(window).any(axes)
    return here
