"""Recordings fed as if they arrived now, in real time or faster."""

import heapq
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fusionkit.runtime.description import Description
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import Change, Chunk, Feed
from fusionkit.runtime.fit import Fit, check_given, choose, delivered, fit
from fusionkit.runtime.log import CHANGES, read_change
from fusionkit.runtime.manifest import Sensor
from fusionkit.runtime.xdf import XdfFile, XdfStream

Array = np.ndarray[Any, Any]
Timed = tuple[float, Chunk | Change]

PIECE = 0.05
"""Seconds of the chunks that a recording is fed in, as an amplifier sends them."""


class Replay(Feed):
    """Chunks of a recording, each not before its last sample would have been measured.

    Args:
        sensors: what each delivers.
        pieces: chunks with the time that each is due, in the order of their feeding.
        speed: seconds of the recording per second; infinity feeds as fast as is asked.
        notes: what the user should know.
    """

    def __init__(
        self,
        sensors: Mapping[str, Description],
        pieces: Iterator[Timed],
        speed: float = 1.0,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.sensors, self.notes = dict(sensors), list(notes)
        self._pieces, self._speed = pieces, speed
        self._ahead: Timed | None = None
        self._began: tuple[float, float] | None = None
        self._now = -math.inf

    def next(self, timeout: float) -> Chunk | Change | None:
        if self._ahead is None:
            self._ahead = next(self._pieces, None)
        if self._ahead is None:
            self.ended = True
            return None
        due, piece = self._ahead
        if math.isfinite(self._speed):
            began, first = self._began = self._began or (time.monotonic(), due)
            wait = (due - first) / self._speed - (time.monotonic() - began)
            if wait > 0:
                time.sleep(min(wait, timeout))
            if wait > timeout:
                return None
        self._ahead, self._now = None, due
        return piece

    def now(self) -> float:
        """The last sample that was fed."""
        return self._now


def replay_xdf(
    path: Path,
    sensors: Mapping[str, Sensor],
    *,
    names: Mapping[str, str] = MappingProxyType({}),
    units: Mapping[str, str] = MappingProxyType({}),
    without: tuple[str, ...] = (),
    speed: float = 1.0,
) -> Replay:
    """Feed an XDF file: one of LabRecorder in the order of time, one of ours chunk by chunk as it was heard.

    Args:
        path: the file.
        sensors: of the manifest.
        names: by sensor, of its stream, where it is not told by its name or type (see `choose`).
        units: by sensor, where its stream does not say.
        without: sensors that are not fed.
        speed: see `Replay`.

    Raises:
        BundleError: the file is spoiled, a stream is missing or does not fit, or none is left.
    """
    check_given(names, units, sensors)
    file = XdfFile(path)
    numbers = list(file.streams)
    described = [file.streams[number].description for number in numbers]
    found: dict[str, tuple[int, Fit]] = {}
    notes = [] if file.whole else [f"{path}: was cut; it is fed as far as it goes"]
    for name, sensor in sensors.items():
        if name in without:
            continue
        place = choose(name, sensor, described, names.get(name))
        if place is None:
            if name in names:
                raise BundleError(f"{path}: {name} must have the stream {names[name]!r}, but there is none")
            notes.append(f"{name}: absent, for {path.name} has no stream for it")
            continue
        found[name] = numbers[place], fit(name, sensor, described[place], units.get(name))
    if not found:
        streams = ", ".join(repr(one.name) for one in described) or "none"
        raise BundleError(f"{path}: there must be a stream of {' or '.join(sensors)}, but there is {streams}")
    delivers = {
        name: delivered(name, sensors[name], file.streams[number].description, how)
        for name, (number, how) in found.items()
    }
    pieces = _as_heard(file, found) if file.ours else _in_time(file, found)
    return Replay(delivers, pieces, speed, tuple(notes))


def replay_arrays(recordings: Mapping[str, tuple[Description, Array]], *, speed: float = 1.0) -> Replay:
    """Feed arrays ``(time, channel)``, all from second 0 on, in the manifest's channels, rate and unit."""
    pieces = [
        _ending(
            name, _cut(name, iter([(values, np.arange(len(values)) / float(described.sample_rate or 1))]), described)
        )
        for name, (described, values) in recordings.items()
    ]
    return Replay({name: one for name, (one, _) in recordings.items()}, _merged(pieces), speed)


def _as_heard(file: XdfFile, found: Mapping[str, tuple[int, Fit]]) -> Iterator[Timed]:
    sensors = {number: (name, how) for name, (number, how) in found.items()}
    for number, values, stamps in file.in_order():
        if number in sensors:
            name, how = sensors[number]
            yield float(stamps[-1]), Chunk(name, how(values), stamps)
        elif file.streams[number].description.name == CHANGES:
            for row, at in zip(values, stamps, strict=True):
                change = read_change(row, float(at))
                if change is not None and change.sensor in found:
                    yield change.time, change


def _in_time(file: XdfFile, found: Mapping[str, tuple[int, Fit]]) -> Iterator[Timed]:
    streams = []
    for name, (number, how) in found.items():
        stream = file.streams[number]
        pieces = _cut(name, _fitted(stream, how), stream.description)
        streams.append(pieces if how.text else _ending(name, pieces))  # the last sentence holds for a while
    return _merged(streams)


def _fitted(stream: XdfStream, how: Fit) -> Iterator[tuple[Any, Array]]:
    for values, stamps in stream.chunks():
        yield how(values), stamps


def _cut(name: str, chunks: Iterator[tuple[Any, Array]], described: Description) -> Iterator[Timed]:
    """Chunks of at most `PIECE` seconds."""
    size = max(1, round(PIECE * described.sample_rate)) if described.sample_rate else 1
    for values, stamps in chunks:
        for start in range(0, len(stamps), size):
            piece = stamps[start : start + size]
            yield float(piece[-1]), Chunk(name, values[start : start + size], piece)


def _ending(name: str, pieces: Iterator[Timed]) -> Iterator[Timed]:
    """Say when a sensor's recording ends, so that nobody waits for it."""
    last = -math.inf
    for due, piece in pieces:
        last = due
        yield due, piece
    yield last, Change(name, False, "its recording ended", last)


def _merged(streams: list[Iterator[Timed]]) -> Iterator[Timed]:
    """In the order of time; where several end at once, their ends come last."""
    return heapq.merge(*streams, key=lambda one: (one[0], isinstance(one[1], Change)))
