"""XDF files, the field's format for streams with clocks of their own: written as it goes, read in constant memory."""

import struct
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fusionkit.runtime.description import (
    FORMATS,
    LONGEST,
    Description,
    read_description,
    read_xml,
    write_description,
)
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import LATEST

Array = np.ndarray[Any, Any]

MAGIC = b"XDF:"
FILE, STREAM, SAMPLES, OFFSET, BOUNDARY, FOOTER = range(1, 7)
MARK = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
"""What a boundary holds, so that a reader finds its way again in a spoiled file."""

WRITER = "fusionkit"
EVERY = 10.0
"""Seconds from one boundary to the next."""

MOST_STREAMS = 256
"""Streams of a file, each of which needs an open file while all are read; laboratories have ten."""
MOST_CHANNELS = 200_000
"""Channels of all streams of a file, which a few bytes each could claim."""

NEAREST = 1e-3
"""Seconds between measurements of an offset that no slope is told by."""
RESET = 1.0
"""Seconds that a clock jumps by when its machine was restarted."""


class XdfWriter:
    """Write streams to a file that is whole after every call: a kill loses nothing that was written.

    It is a log and grows under its own name, unlike the other files of fusionkit, which appear when they are done. All
    timestamps are of one clock, so every clock offset that it notes is 0.

    Args:
        path: a file that does not exist.

    Raises:
        BundleError: there is such a file, or it cannot be made.

    Reference:
        XDF 1.0, https://github.com/sccn/xdf/wiki/Specifications.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: dict[int, Description] = {}
        self._seen: dict[int, tuple[int, float, float]] = {}
        self._marked = -EVERY
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise BundleError(f"{path}: a log must be a new file, but there is one of that name") from None
        except OSError as error:
            raise BundleError(f"{path}: a log must be a file that can be written, but {error.strerror}") from None
        header = f'<?xml version="1.0"?><info><version>1.0</version><writer>{WRITER}</writer></info>'
        self._file.write(MAGIC)
        self._put(FILE, header.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, description: Description) -> int:
        """Begin a stream; the number that `write` wants."""
        number = len(self._streams) + 1
        self._streams[number] = description
        self._put(STREAM, struct.pack("<I", number) + write_description(description))
        return number

    def write(self, number: int, values: Any, timestamps: Array) -> None:
        """Append samples ``(time, channel)`` of one stream, or rows of text; with the time of each in seconds."""
        stamps = np.asarray(timestamps, np.float64)
        if not len(stamps):
            return
        kind = FORMATS[self._streams[number].format]
        if kind.kind == "O":
            rows = (b"\x08" + struct.pack("<d", at) + _texts(row) for at, row in zip(stamps, values, strict=True))
            content = b"".join(rows)
        else:
            values = np.asarray(values, kind)
            records = np.empty(len(stamps), _timed(kind, values.shape[1]))
            records["size"], records["time"], records["values"] = 8, stamps, values
            content = records.tobytes()
        head = struct.pack("<I", number) + _size(len(stamps))
        now = time.monotonic()
        if now - self._marked >= EVERY:
            self._marked = now
            self._put(BOUNDARY, MARK)
        if number not in self._seen:
            self.offset(number, float(stamps[0]))
        self._put(SAMPLES, head + content)
        count, first, _ = self._seen.get(number, (0, float(stamps[0]), 0.0))
        self._seen[number] = (count + len(stamps), first, float(stamps[-1]))

    def offset(self, number: int, at: float) -> None:
        """Note that a stream's clock is that of the file."""
        self._put(OFFSET, struct.pack("<Idd", number, at, 0.0))

    def close(self) -> None:
        """Write the footers. A file without them is readable, too."""
        if self._file.closed:
            return
        for number in self._streams:
            count, first, last = self._seen.get(number, (0, 0.0, 0.0))
            if count:
                self.offset(number, last)
            footer = (
                f'<?xml version="1.0"?><info><first_timestamp>{first!r}</first_timestamp>'
                f"<last_timestamp>{last!r}</last_timestamp><sample_count>{count}</sample_count></info>"
            )
            self._put(FOOTER, struct.pack("<I", number) + footer.encode())
        self._file.close()

    def _put(self, tag: int, content: bytes) -> None:
        """One chunk in one call, so that a kill falls between two."""
        rest = memoryview(_chunk(tag, content))
        while rest:
            rest = rest[self._file.write(rest) :]


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
            count, at = _read_size(content, 0)
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
                        size, at = _read_size(content, at)
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
                size, used = _read_size(head, 0)
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


def _timed(kind: np.dtype[Any], channels: int) -> np.dtype[Any]:
    """Samples that each carry their time."""
    return np.dtype([("size", "u1"), ("time", "<f8"), ("values", kind, (channels,))])


def _decode_quickly(
    content: bytes, at: int, count: int, kind: np.dtype[Any], channels: int, period: float, last: float
) -> tuple[Array, Array] | None:
    """Chunks in which every sample has its time, or only the first or none; None for others."""
    timed = _timed(kind, channels)
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


def _chunk(tag: int, content: bytes) -> bytes:
    return _size(len(content) + 2) + struct.pack("<H", tag) + content


def _size(number: int) -> bytes:
    """A length of 1, 4 or 8 bytes, which the first byte says."""
    if number < 2**8:
        return struct.pack("<BB", 1, number)
    return struct.pack("<BI", 4, number) if number < 2**32 else struct.pack("<BQ", 8, number)


def _read_size(content: bytes, at: int) -> tuple[int, int]:
    """A length, and where what follows it begins.

    Raises:
        IndexError: there is none.
    """
    width = content[at]
    if width not in (1, 4, 8) or at + 1 + width > len(content):
        raise IndexError
    return int.from_bytes(content[at + 1 : at + 1 + width], "little"), at + 1 + width


def _texts(row: Any) -> bytes:
    texts = [str(text).encode() for text in row]
    return b"".join(_size(len(text)) + text for text in texts)
