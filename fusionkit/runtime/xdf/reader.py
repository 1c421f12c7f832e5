"""Read XDF in constant memory."""

import struct
from array import array
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.runtime.description import FORMATS, LONGEST, Description, read_description, read_xml
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import LATEST
from fusionkit.runtime.xdf.chunks import (
    FILE,
    MAGIC,
    MARK,
    OFFSET,
    SAMPLES,
    STREAM,
    WRITER,
    read_size,
    timed_samples,
)
from fusionkit.runtime.xdf.clock import FileClock

Array = np.ndarray[Any, Any]

MOST_STREAMS = 256
"""Streams of a file, each of which needs an open file while all are read; laboratories have ten."""
MOST_CHANNELS = 200_000
"""Channels of all streams of a file, which a few bytes each could claim."""


class XdfStream:
    """One stream of a file; its samples are read when they are asked for.

    Attributes:
        description: what it says of itself.
        offsets: of its clock to that of the file, ``(measured at, seconds)``.
    """

    def __init__(self, path: Path, description: Description) -> None:
        self.description = description
        self.offsets: list[tuple[float, float]] = []
        self.places, self.sizes = array("Q"), array("Q")
        self._path = path

    def chunks(self) -> Iterator[tuple[Any, Array]]:
        """Samples ``(time, channel)``, or rows of text, and the times ``(time,)`` of the file's clock, chunk by chunk.

        Raises:
            BundleError: a chunk is spoiled.
        """
        clock = FileClock(self.offsets)
        last = 0.0
        with self._path.open("rb") as file:
            for place, size in zip(self.places, self.sizes, strict=True):
                file.seek(place)
                values, stamps = self.decode(file.read(size), last)
                if not (np.abs(stamps) <= LATEST).all():
                    raise BundleError(f"{self._path}: times of {self.description.name!r} must be seconds, but are not")
                if len(stamps):
                    last = float(stamps[-1])
                    yield values, clock(stamps)

    def decode(self, content: bytes, last: float) -> tuple[Any, Array]:
        """One chunk of samples; a sample without a time comes one period after the one before, ``last`` at first."""
        described = self.description
        kind, channels = FORMATS[described.format], len(described.channels)
        period = 1 / described.sample_rate if described.sample_rate else 0.0
        try:
            count, at = read_size(content, 0)
            if kind.kind != "O":
                quick = _decode_quickly(content, at, count, kind, channels, period, last)
                if quick is not None:
                    return quick
            if count > len(content):
                raise IndexError
            stamps, rows = np.empty(count), list[Any]()
            for row in range(count):
                if content[at]:
                    (last,) = struct.unpack_from("<d", content, at + 1)
                    at += 9
                else:
                    last, at = last + period, at + 1
                stamps[row] = last
                if kind.kind == "O":
                    texts = []
                    for _ in range(channels):
                        size, at = read_size(content, at)
                        texts.append(content[at : at + size].decode("utf-8", "replace"))
                        at += size
                    rows.append(texts)
                else:
                    rows.append(np.frombuffer(content, kind, channels, at))
                    at += channels * kind.itemsize
            if at > len(content):
                raise IndexError
        except (IndexError, struct.error, ValueError):
            raise BundleError(f"{self._path}: samples of {described.name!r} must be whole, but are not") from None
        return (rows if kind.kind == "O" else np.array(rows, kind).reshape(count, channels)), stamps


class XdfFile:
    """An XDF file, such as LabRecorder writes: opened, and where everything lies in it noted.

    A file that was cut, as by a kill of its writer, is read as far as it goes.

    Attributes:
        streams: by their number in the file.
        ours: whether fusionkit wrote it: its chunks lie in the order in which they arrived.
        whole: False where it was cut.

    Raises:
        BundleError: it cannot be read, is no XDF file, has more than `MOST_STREAMS` or `MOST_CHANNELS`, or describes a
            stream twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: dict[int, XdfStream] = {}
        self.ours, self.whole = False, True
        try:
            with path.open("rb") as file:
                self._index(file, path.stat().st_size)
        except OSError as error:
            raise BundleError(f"{path}: a recording must be a file that can be read, but {error.strerror}") from None

    def in_order(self) -> Iterator[tuple[int, Any, Array]]:
        """All chunks as they lie in the file: number of the stream, samples, times.

        Raises:
            BundleError: a chunk is spoiled.
        """
        readers = {number: stream.chunks() for number, stream in self.streams.items()}
        owners = [np.full(len(one.places), number) for number, one in self.streams.items()]
        places = [np.array(one.places, np.uint64) for one in self.streams.values()]
        for number in np.concatenate(owners)[np.argsort(np.concatenate(places))].tolist() if owners else ():
            found = next(readers[number], None)
            if found is not None:
                yield number, *found

    def _index(self, file: BufferedReader, end: int) -> None:
        if file.read(4) != MAGIC:
            raise BundleError(f"{self.path}: a recording must be an XDF file, but does not begin as one")
        while (at := file.tell()) < end:
            head = file.read(9)
            try:
                size, used = read_size(head, 0)
            except IndexError:  # it was cut within a length, or this is none
                size, used = 0, 0
            if size < 2 or at + used + size > end:
                if not self._find_boundary(file, at):
                    self.whole = False
                    return
                continue
            file.seek(at + used)
            (tag,) = struct.unpack("<H", file.read(2))
            self._note(file, tag, at + used + 2, size - 2)
            file.seek(at + used + size)

    def _note(self, file: BufferedReader, tag: int, place: int, size: int) -> None:
        if tag == FILE:
            self.ours = read_xml(file.read(min(size, LONGEST + 1)), str(self.path)).findtext("writer") == WRITER
        if tag not in (STREAM, SAMPLES, OFFSET) or size < 4:
            return
        (number,) = struct.unpack("<I", file.read(4))
        where = f"{self.path}: stream {number}"
        if tag == STREAM:
            if number in self.streams:
                raise BundleError(f"{where}: a stream must be described once, but is described again")
            described = read_description(file.read(min(size - 4, LONGEST + 1)), where)
            channels = len(described.channels) + sum(len(one.description.channels) for one in self.streams.values())
            if len(self.streams) >= MOST_STREAMS or channels > MOST_CHANNELS:
                raise BundleError(
                    f"{self.path}: a recording must have at most {MOST_STREAMS} streams of {MOST_CHANNELS} channels "
                    f"together, but has more"
                )
            self.streams[number] = XdfStream(self.path, described)
        elif number not in self.streams:
            raise BundleError(f"{where}: a stream must be described before its samples, but is not")
        elif tag == SAMPLES:
            self.streams[number].places.append(place + 4)
            self.streams[number].sizes.append(size - 4)
        elif size >= 20:
            at, offset = struct.unpack("<dd", file.read(16))
            if not (abs(at) <= LATEST and abs(offset) <= LATEST):
                raise BundleError(f"{where}: a clock offset must be of seconds, but is {offset:g} at {at:g}")
            self.streams[number].offsets.append((at, offset))

    @staticmethod
    def _find_boundary(file: BufferedReader, after: int) -> bool:
        """Go to behind the next boundary, where reading can go on in a spoiled file."""
        file.seek(after + 1)
        kept, size = b"", 2**10
        while block := file.read(size):
            size = min(2 * size, 2**20)  # files may have many spoiled parts
            found = (kept + block).find(MARK)
            if found >= 0:
                file.seek(file.tell() - len(block) - len(kept) + found + len(MARK))
                return True
            kept = block[-len(MARK) + 1 :]
        return False


def _decode_quickly(
    content: bytes, at: int, count: int, kind: np.dtype[Any], channels: int, period: float, last: float
) -> tuple[Array, Array] | None:
    """Chunks in which every sample has its time, or only the first or none; None for others."""
    timed = timed_samples(kind, channels)
    if count and len(content) - at == count * timed.itemsize:
        records = np.frombuffer(content, timed, count, at)
        if (records["size"] == 8).all():
            return records["values"].copy(), records["time"].copy()
    bare = np.dtype([("size", "u1"), ("values", kind, (channels,))])
    first = 8 if count and at < len(content) and content[at] == 8 else 0
    if count and len(content) - at == first + count * bare.itemsize:
        if first:
            (last,) = struct.unpack_from("<d", content, at + 1)
            body = content[at : at + 1] + content[at + 9 :]
        else:
            last, body = last + period, content[at:]
        records = np.frombuffer(body, bare, count)
        if (records["size"][1:] == 0).all():
            return records["values"].copy(), last + period * np.arange(count)
    return None
