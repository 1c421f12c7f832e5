"""A signal as it lies on disk, and what a study knows of one sensor. No torch here: studies open without it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Recording:
    """One stored signal, time (or item) first.

    ``values``: EEG and time series ``(time, channel)`` float32 in ``unit``; audio ``(time,)`` float32 in
    [-1, 1]; image ``(1, 3, height, width)`` uint8; text ``(byte,)`` uint8, UTF-8; a vector ``(1, channel)``.
    ``sample_rate`` is hertz, or None for what has no time.
    """

    values: Array
    sample_rate: float | None = None
    channels: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Stored:
    """What a study knows of one sensor: the same for all of its recordings.

    ``longest`` is the largest number of stored samples (or items, bytes) of any record's window.
    """

    sample_rate: float | None
    channels: tuple[str, ...]
    unit: str
    item: tuple[int, ...]
    dtype: str
    longest: int

    @property
    def seconds(self) -> float | None:
        """Duration of the longest window, or None for what has no time."""
        return None if self.sample_rate is None else self.longest / self.sample_rate


def describe_stored(stored: Stored) -> dict[str, Any]:
    """As plain JSON values; `restore_stored` takes them back."""
    return asdict(stored) | {"channels": list(stored.channels), "item": list(stored.item)}


def restore_stored(described: Mapping[str, Any]) -> Stored:
    """What `describe_stored` wrote."""
    return Stored(**{**described, "channels": tuple(described["channels"]), "item": tuple(described["item"])})
