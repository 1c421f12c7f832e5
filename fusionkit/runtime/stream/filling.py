"""What becomes of a window that lacks samples."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def fill(window: Array, *, lacks: bool) -> Array | None:
    """Fill a window ``(time, channel[, band])`` up by straight lines between the samples that are there (finite).

    Before the first and behind the last sample of a channel its value stays. 1, NaN, 2 becomes 1, 1.5, 2. A channel
    that lacks more than half of its samples was not measured: all NaN.

    Args:
        window: itself returned where it lacks nothing.
        lacks: whether a channel may be NaN.

    Returns:
        None where more than half of all samples lack in every channel, or a channel is NaN that may not be.
    """
    if np.isfinite(window).all():
        return window
    gone = np.logical_not(np.isfinite(window.reshape(*window.shape[:2], -1)).all(2))
    off = 2 * gone.sum(0) > len(gone)
    if off.all() or (off.any() and not lacks):
        return None
    filled = np.full_like(window, np.nan)
    number = np.arange(len(window))
    for channel in np.flatnonzero(~off):
        here = ~gone[:, channel]
        known = window[here, channel].reshape(int(here.sum()), -1)
        lines = np.stack([np.interp(number, number[here], band) for band in known.T], axis=-1)
        filled[:, channel] = lines.reshape(window[:, channel].shape)
    return filled
