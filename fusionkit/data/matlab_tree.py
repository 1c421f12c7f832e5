"""Structs and cells of MATLAB files of version 5: what they hold in one pass, with large arrays left in the file."""

import math
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.data.matlab import LARGEST, MATRIX, Variable, find_variable

SMALL = 1 << 16
"""Bytes of an array that is read at once; larger ones stay in the file."""
DEPTH, NODES = 50, 100_000
_CHUNK, _SKIP = 1 << 14, 1 << 20
_CELL, _STRUCT, _CHAR = 1, 2, 4
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


@dataclass(frozen=True)
class Stored:
    """An array that lies in the file.

    Attributes:
        shape: its axes.
        dtype: type of its numbers once read; the file may hold them in a smaller one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str = field(repr=False)
    held: np.dtype[Any] = field(repr=False)
    mark: "_Mark" = field(repr=False)

    def read(self) -> Array:
        """The array; costs its own size in memory.

        Raises:
            DataError: the file has changed or is damaged there.
        """
        try:
            with self.mark.path.open("rb") as file:
                content = _Stream(file, self.mark).read(math.prod(self.shape) * self.held.itemsize)
        except Exception as error:  # damage of any kind
            raise DataError(f"{self.mark.path}: variable {self.name}: must be readable, but {_line(error)}") from error
        return np.frombuffer(content, self.held).reshape(self.shape, order="F").astype(self.dtype, copy=False)


def read_tree(path: Path, name: str) -> Any:
    """One variable: structs as dictionaries, cells as lists in MATLAB's order, text as ``str``, numbers as arrays.

    A 1 x 1 struct is a dictionary, a larger one a list of them. Arrays of more than `SMALL` bytes are `Stored`; complex
    ones, functions and the like are None. The pass takes the time of decompressing the variable and the memory of its
    largest small array, and about 50 kB for every `Stored` one of a compressed variable: where reading goes on there.

    Raises:
        DataError: the file is missing, truncated or damaged, or has no such variable; the message names it.
    """
    variable = find_variable(path, name)
    try:
        with path.open("rb") as file:
            stream = _Stream(file, _Mark(path, variable, variable.start + 8 * variable.compressed, 0, None))
            return _node(stream, name, math.inf, 0)
    except Exception as error:  # damage of any kind
        raise DataError(f"{path}: variable {name}: must be readable, but {_line(error)}") from error


@dataclass(frozen=True)
class _Mark:
    """A place in a variable: of the next byte in the file, of its content, and how decompressing goes on."""

    path: Path
    variable: Variable
    at: int
    place: int
    state: Any


class _Stream:
    """The content of a variable, decompressed, from a mark on."""

    def __init__(self, file: BinaryIO, mark: _Mark) -> None:
        self.file, self.mark, self.place = file, mark, mark.place
        self.order = mark.variable.order
        self.inflate = None
        if mark.variable.compressed:
            self.inflate = mark.state.copy() if mark.state is not None else zlib.decompressobj()
        self.nodes = 0
        file.seek(mark.at)

    def read(self, count: int) -> bytes:
        """The next bytes, all of them."""
        if count > LARGEST:
            raise ValueError(f"an array may take {LARGEST} bytes, but takes {count}")
        parts, missing = [], count
        while missing:
            parts.append(self._some(missing))
            missing -= len(parts[-1])
        self.place += count
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        self.place += count
        if self.inflate is None:
            self.file.seek(count, 1)
            return
        while count:
            count -= len(self._some(min(count, _SKIP)))

    def _some(self, most: int) -> bytes:
        """At least one byte."""
        left = self.mark.variable.stop - self.file.tell()
        if self.inflate is None:
            found = self.file.read(min(most, left))
        else:
            found = b""
            while not found and not self.inflate.eof:
                fed = self.inflate.unconsumed_tail or self.file.read(min(_CHUNK, left))
                found = self.inflate.decompress(fed, most)
                if not fed and not found:
                    break
                left = self.mark.variable.stop - self.file.tell()
        if not found:
            raise ValueError("it is truncated")
        return found

    def here(self) -> _Mark:
        """Where reading can go on."""
        state = None if self.inflate is None else self.inflate.copy()
        return _Mark(self.mark.path, self.mark.variable, self.file.tell(), self.place, state)

    def tag(self) -> tuple[int, int, bytes]:
        """Type and length of an element, and its bytes where they lie in the tag itself."""
        tag = self.read(8)
        kind, count = struct.unpack(f"{self.order}II", tag)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)]
        return kind, count, b""

    def element(self) -> tuple[int, bytes]:
        """Type and bytes of a short element."""
        kind, count, content = self.tag()
        if count > SMALL:
            raise ValueError(f"names and shapes may take {SMALL} bytes, but one takes {count}")
        if not content:
            content = self.read(count)
            self.skip(-count % 8)
        return kind, content

    def numbers(self) -> tuple[int, ...]:
        """A short element of whole numbers of four bytes."""
        content = self.element()[1]
        return struct.unpack(f"{self.order}{len(content) // 4}i", content)


def _node(stream: _Stream, name: str, end: float, depth: int) -> Any:
    """One array of any class, and the stream after it; ``end`` is where what it lies in ends."""
    kind, size, _ = stream.tag()
    last = stream.place + size
    stream.nodes += 1
    if kind != MATRIX or last > end or depth > DEPTH or stream.nodes > NODES:
        raise ValueError(f"it is damaged at byte {stream.place} of its content")
    if not size:
        return np.zeros((0, 0))
    (flags, *_), shape, _ = stream.numbers(), stream.numbers(), stream.element()
    made: Any = None
    count = math.prod(shape)
    if min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError(f"a shape is {shape}")
    if flags & 0xFF == _CELL:
        made = [_node(stream, name, last, depth + 1) for _ in range(count)]
    elif flags & 0xFF == _STRUCT:
        (width,), (_, text) = stream.numbers(), stream.element()
        fields = [text[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(text), max(1, width))]
        items = [{one: _node(stream, name, last, depth + 1) for one in fields} for _ in range(count * bool(fields))]
        made = items[0] if len(items) == 1 else items
    elif flags & 0xFF == _CHAR:
        kind, content = stream.element()
        ending = {"<": "-le", ">": "-be"}[stream.order] if _TEXT[kind][:4] == "utf-" and kind != 16 else ""
        made = content.decode(f"{_TEXT[kind]}{ending}", "replace")
    elif flags & 0xFF in _NUMBERS and not flags & 0x0800:
        made = _array(stream, name, shape, np.dtype(_NUMBERS[flags & 0xFF]), last)
    if stream.place > last:
        raise ValueError(f"it is damaged at byte {stream.place} of its content")
    stream.skip(last - stream.place)
    return made


def _array(stream: _Stream, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], last: int) -> Array | Stored:
    kind, size, content = stream.tag()
    held = np.dtype(_STORED[kind]).newbyteorder(stream.order)
    if size != math.prod(shape) * held.itemsize or (not content and stream.place + size > last):
        raise ValueError(f"an array of shape {shape} and type {held} takes {size} bytes")
    if size <= SMALL:
        content = content or stream.read(size)
        return np.frombuffer(content, held).reshape(shape, order="F").astype(dtype)
    return Stored(shape, dtype, name, held, stream.here())


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
