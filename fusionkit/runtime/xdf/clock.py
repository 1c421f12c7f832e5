"""The clock of an XDF file: what its streams' times are brought to."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NEAREST = 1e-3
"""Seconds between measurements of an offset that no slope is told by."""
RESET = 1.0
"""Seconds that a clock jumps by when its machine was restarted."""


class FileClock:
    """Bring a stream's times to the clock of the file: a line through its clock offsets, one for every restart.

    It is given the times in the order of the file: after a restart a clock may show what it showed before. A restart
    lies before the first sample that is nearer to the first offset behind it than to the last one before it. Offsets
    that lie more than five times the median distance from the line are left out: packets that were late.

    Args:
        offsets: ``(measured at, seconds)``, the seconds to be added to a time of the stream.
    """

    def __init__(self, offsets: Sequence[tuple[float, float]]) -> None:
        self._segments: deque[list[tuple[float, float]]] = deque()
        for one in offsets:
            last = self._segments[-1][-1] if self._segments else (np.inf, 0.0)
            if one[0] < last[0] or abs(one[1] - last[1]) > RESET:
                self._segments.append([])
            self._segments[-1].append(one)
        self._line = _line(self._segments[0]) if self._segments else (0.0, 0.0, 0.0)

    def __call__(self, stamps: Array) -> Array:
        """The next times of the stream, on the file's clock."""
        corrected, start = np.empty(len(stamps)), 0
        while start < len(stamps):
            stop = len(stamps)
            if len(self._segments) > 1:
                before, behind = self._segments[0][-1][0], self._segments[1][0][0]
                nearer = np.abs(stamps[start:] - before) >= np.abs(stamps[start:] - behind)
                stop = start + int(np.argmax(nearer)) if nearer.any() else stop
            middle, offset, slope = self._line
            part = stamps[start:stop]
            corrected[start:stop] = part + offset + slope * (part - middle)
            if stop < len(stamps):
                self._segments.popleft()
                self._line = _line(self._segments[0])
            start = stop
        return corrected


def _line(offsets: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Middle, height there, and slope."""
    at, offset = np.array(offsets, np.float64).T
    middle, slope, height = float(at.mean()), 0.0, float(np.median(offset))
    kept = np.ones(len(at), bool)
    for _ in range(3 if np.ptp(at) > NEAREST else 0):
        near = at[kept] - at[kept].mean()
        slope = float(near @ (offset[kept] - offset[kept].mean()) / (near @ near))
        height = float(offset[kept].mean()) + slope * (middle - float(at[kept].mean()))
        away = np.abs(offset - height - slope * (at - middle))
        kept = away <= max(5 * float(np.median(away)), 1e-6)
        if np.ptp(at[kept]) <= NEAREST:
            break
    return middle, height, slope
