"""Write XDF as it goes."""

import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fusionkit.runtime.description import FORMATS, Description, write_description
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.xdf.chunks import (
    BOUNDARY,
    FILE,
    FOOTER,
    MAGIC,
    MARK,
    OFFSET,
    SAMPLES,
    STREAM,
    WRITER,
    timed_samples,
    write_size,
)

Array = np.ndarray[Any, Any]

EVERY = 10.0
"""Seconds from one boundary to the next."""


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
            records = np.empty(len(stamps), timed_samples(kind, values.shape[1]))
            records["size"], records["time"], records["values"] = 8, stamps, values
            content = records.tobytes()
        head = struct.pack("<I", number) + write_size(len(stamps))
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


def _chunk(tag: int, content: bytes) -> bytes:
    return write_size(len(content) + 2) + struct.pack("<H", tag) + content


def _texts(row: Any) -> bytes:
    texts = [str(text).encode() for text in row]
    return b"".join(write_size(len(text)) + text for text in texts)
