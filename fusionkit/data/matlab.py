"""MATLAB files of version 5, one variable at a time: names and shapes first, then what is asked for."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusionkit.core.errors import DataError, did_you_mean
from fusionkit.core.recording import Array

HEADER = 128
_COMPRESSED, _MATRIX, _OPAQUE = 15, 14, 17
_ENOUGH = 1024  # bytes of a variable that hold its name and shape


def list_variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's variables in its order, none of them loaded.

    Raises:
        DataError: the file is missing, truncated, or not of version 5; the message names it.
    """
    return {name: variable.shape for name, variable in _index(path).items()}


def read_variable(path: Path, name: str) -> Any:
    """One variable by its name; structs have attributes, axes of one are dropped.

    Raises:
        DataError: the file breaks a rule of `list_variables`, is damaged, or has no such variable.
    """
    return _load(path, name, struct_as_record=False, squeeze_me=True)


def read_array(path: Path, name: str, axes: int = 2) -> Array:
    """One variable by its name, as an array of numbers with its axes as they are.

    Raises:
        DataError: as `read_variable`; or it is no array of numbers, or has other than ``axes`` axes.
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


class _Variable(NamedTuple):
    """Where a variable lies in its file, and its shape."""

    start: int
    stop: int
    shape: tuple[int, ...]


def _load(path: Path, name: str, **options: bool) -> Any:
    """One variable, read by SciPy from a file in memory that holds no other."""
    known = _index(path)
    if name not in known:
        raise DataError(f"{path}: there must be a variable {name!r}, but there is none{did_you_mean(name, known)}")
    from scipy.io import loadmat  # a while to import

    try:
        with path.open("rb") as file:
            content = file.read(HEADER)
            file.seek(known[name].start)
            content += file.read(known[name].stop - known[name].start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return loadmat(io.BytesIO(content), variable_names=[name], **options)[name]
    except Exception as error:  # the reader raises whatever damage leads it to
        raise DataError(f"{path}: variable {name}: must be readable, but {_line(error)}") from error


def _index(path: Path) -> dict[str, _Variable]:
    """The variables of a file, by the tags before them; refuses what is no whole file of version 5."""
    found: dict[str, _Variable] = {}
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER)
            if header[:10] == b"MATLAB 7.3" or header[:8] == b"\x89HDF\r\n\x1a\n":
                raise DataError(
                    f"{path}: must be a MATLAB file of version 5, but is of version 7.3; save it again with '-v7'"
                )
            order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
            if order is None or not header.startswith(b"MATLAB 5.0"):
                what = f"begins with {header[:8]!r}" if header else "is empty"
                raise DataError(f"{path}: must be a MATLAB file of version 5, but {what}")
            place = HEADER
            while place < size:
                file.seek(place)
                tag = file.read(8)
                kind, count = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (_MATRIX, size)
                stop, problem = place + 8 + count, f"{path}: a variable must begin at byte {place}, but none does"
                if kind not in (_COMPRESSED, _MATRIX):
                    raise DataError(problem)
                if stop > size:
                    raise DataError(
                        f"{path}: must have {stop} bytes by its own account, but has {size}: it is truncated"
                    )
                try:
                    start = file.read(min(count, _ENOUGH))
                    if kind == _COMPRESSED:
                        start = zlib.decompressobj().decompress(start, _ENOUGH)[8:]
                    name, shape = _name_and_shape(start, order)
                except (ValueError, struct.error, zlib.error) as error:
                    raise DataError(problem) from error
                found.setdefault(name, _Variable(place, stop, shape))
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
