"""MATLAB files of version 5, one variable at a time: names and shapes first, then what is asked for."""

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fusionkit.core.errors import DataError, did_you_mean
from fusionkit.core.recording import Array

HEADER = 128
LARGEST = 1 << 30
"""Bytes that one array may take; a crafted file of some megabytes can say that it holds thousands of times more."""
COMPRESSED, MATRIX = 15, 14
_OPAQUE = 17
_ENOUGH = 1024  # bytes of a variable that hold its name and shape


def list_variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's variables in its order, none of them loaded.

    Raises:
        DataError: the file is missing, truncated, or not of version 5; the message names it.
    """
    return {name: variable.shape for name, variable in _index(path).items()}


def find_variable(path: Path, name: str) -> "Variable":
    """Where one variable lies; upper and lower case are one where no other variable has that name.

    Raises:
        DataError: the file breaks a rule of `list_variables`, or has no such variable.
    """
    known = _index(path)
    alike = [one for one in known if one.lower() == name.lower()]
    if name not in known and len(alike) != 1:
        raise DataError(f"{path}: there must be a variable {name!r}, but there is none{did_you_mean(name, known)}")
    return known[name if name in known else alike[0]]


def read_array(path: Path, name: str, axes: int = 2) -> Array:
    """One variable by its name, as an array of numbers with its axes as they are.

    Raises:
        DataError: as `find_variable`; or it is damaged, no array of numbers, or has other than ``axes`` axes.
    """
    array = _load(path, name)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.ndim != axes:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{path}: variable {name}: must hold real numbers along {axes} axes, but is {got}")
    return array


def check_file(path: Path) -> None:
    """Refuse what is no whole MATLAB file of version 5, by its header and the lengths of its parts.

    Raises:
        DataError: the file is missing, a folder, of another version or another kind, or truncated.
    """
    _index(path)


class Variable(NamedTuple):
    """Where a variable lies in its file, and what it takes once decompressed; the order of bytes is ``<`` or ``>``."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    size: int
    order: Literal["<", ">"]
    compressed: bool


def _load(path: Path, name: str) -> Any:
    """One variable, read by SciPy from a file in memory that holds no other."""
    found = find_variable(path, name)
    size = max(found.size, math.prod(found.shape))
    if size > LARGEST:
        raise DataError(f"{path}: variable {name}: must take {LARGEST} bytes at most, but takes {size}")
    from scipy.io import loadmat  # a while to import

    try:
        with path.open("rb") as file:
            content = file.read(HEADER)
            file.seek(found.start)
            content += file.read(found.stop - found.start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return loadmat(io.BytesIO(content), variable_names=[found.name])[found.name]
    except Exception as error:  # the reader raises whatever damage leads it to
        raise DataError(f"{path}: variable {name}: must be readable, but {_line(error)}") from error


def _index(path: Path) -> dict[str, Variable]:
    """The variables of a file, by the tags before them; refuses what is no whole file of version 5."""
    found: dict[str, Variable] = {}
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER)
            if header[:10] == b"MATLAB 7.3" or header[:8] == b"\x89HDF\r\n\x1a\n":
                raise DataError(
                    f"{path}: must be a MATLAB file of version 5, but is of version 7.3; save it again with '-v7'"
                )
            orders: dict[bytes, Literal["<", ">"]] = {b"IM": "<", b"MI": ">"}
            order = orders.get(header[126:128])
            if order is None or not header.startswith(b"MATLAB 5.0"):
                what = f"begins with {header[:8]!r}" if header else "is empty"
                raise DataError(f"{path}: must be a MATLAB file of version 5, but {what}")
            place = HEADER
            while place < size:
                file.seek(place)
                tag = file.read(8)
                kind, count = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (MATRIX, size)
                stop, problem = place + 8 + count, f"{path}: a variable must begin at byte {place}, but none does"
                if kind not in (COMPRESSED, MATRIX):
                    raise DataError(problem)
                if stop > size:
                    raise DataError(
                        f"{path}: must have {stop} bytes by its own account, but has {size}: it is truncated"
                    )
                try:
                    start, inner = file.read(min(count, _ENOUGH)), count
                    if kind == COMPRESSED:
                        start = zlib.decompressobj().decompress(start, _ENOUGH)
                        (_, inner), start = struct.unpack(f"{order}II", start[:8]), start[8:]
                    name, shape = _name_and_shape(start, order)
                except (ValueError, struct.error, zlib.error) as error:
                    raise DataError(problem) from error
                found.setdefault(name, Variable(name, place, stop, shape, inner, order, kind == COMPRESSED))
                place = stop
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return found


def _name_and_shape(start: bytes, order: str) -> tuple[str, tuple[int, ...]]:
    """What a variable's first bytes say: its class, its shape (an opaque one has none), its name."""
    (flags, place), shape = _element(start, 0, order), b""
    if struct.unpack(f"{order}I", flags[:4])[0] & 0xFF != _OPAQUE:
        shape, place = _element(start, place, order)
    name, _ = _element(start, place, order)
    return name.decode("latin-1"), struct.unpack(f"{order}{len(shape) // 4}i", shape)


def _element(content: bytes, place: int, order: str) -> tuple[bytes, int]:
    """One element at a place, and where the next begins; up to four bytes lie within the tag itself."""
    kind, count = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:
        first, count = place + 4, kind >> 16
        after = place + 8
    else:
        first = place + 8
        after = first + -(-count // 8) * 8
    if first + count > len(content):
        raise ValueError("too short")
    return content[first : first + count], after


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
