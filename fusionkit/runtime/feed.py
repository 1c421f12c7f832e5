"""Where chunks come from, live or recorded."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from fusionkit.runtime.description import Description

Array = np.ndarray[Any, Any]

LATEST = 1e11
"""Seconds from 0 that a time may be: 3000 years, less than a clock of milliseconds has counted since 1974."""


class Chunk(NamedTuple):
    """Some samples of one sensor, as `Stream.push` takes them.

    Attributes:
        sensor: its name.
        values: ``(time, channel)``, in the manifest's channels and unit; or a list of what has no rate (sentences).
        timestamps: of each, seconds of the feed's clock.
    """

    sensor: str
    values: Any
    timestamps: Array


class Change(NamedTuple):
    """A sensor has gone, or has come back.

    Attributes:
        sensor: its name.
        present: whether it is there now.
        note: what happened.
        time: seconds of the feed's clock.
    """

    sensor: str
    present: bool
    note: str
    time: float


class Feed(ABC):
    """Chunks of several sensors as they arrive.

    Attributes:
        sensors: what each of them delivers, in the manifest's channels and unit.
        notes: what the user should know, a line each.
        ended: whether nothing more will come.
    """

    sensors: dict[str, Description]
    notes: list[str]
    ended: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def next(self, timeout: float) -> Chunk | Change | None:
        """What arrived first, or None where nothing did for ``timeout`` seconds."""

    @abstractmethod
    def now(self) -> float:
        """Seconds of the clock of timestamps."""

    def waiting(self) -> int:
        """Chunks that have arrived and are not taken: how far the loop is behind."""
        return 0

    def close(self) -> None:
        """Let go of what it holds."""
        self.ended = True
