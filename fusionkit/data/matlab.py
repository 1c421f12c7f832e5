"""MATLAB files of version 5, one variable at a time: names and shapes first, then what is asked for."""

import struct
import warnings
from pathlib import Path
from typing import Any

from fusionkit.core.errors import DataError, did_you_mean
from fusionkit.core.recording import Array

HEADER = 128
_COMPRESSED, _MATRIX = 15, 14


def list_variables(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's variables in its order, none of them loaded.

    Raises:
        DataError: the file is missing, truncated, or not of version 5; the message names it.
    """
    check_file(path)
    from scipy.io import whosmat  # a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        try:
            return {str(name): tuple(int(n) for n in shape) for name, shape, _ in whosmat(path)}
        except Exception as error:  # the reader raises whatever damage leads it to
            raise DataError(f"{path}: must be a MATLAB file, but reading it failed: {_line(error)}") from error


def read_variable(path: Path, name: str) -> Any:
    """One variable by its name; structs have attributes, axes of one are dropped.

    Raises:
        DataError: the file breaks a rule of `list_variables`, is damaged, or has no such variable.
    """
    check_file(path)
    from scipy.io import loadmat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = loadmat(path, variable_names=[name], struct_as_record=False, squeeze_me=True)
        except Exception as error:
            raise DataError(f"{path}: variable {name}: must be readable, but {_line(error)}") from error
    return _the(found, path, name)


def read_array(path: Path, name: str, axes: int = 2) -> Array:
    """One variable by its name, as an array of numbers with its axes as they are.

    Raises:
        DataError: as `read_variable`; or it is no array of numbers, or has other than ``axes`` axes.
    """
    check_file(path)
    from scipy.io import loadmat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = loadmat(path, variable_names=[name])
        except Exception as error:
            raise DataError(f"{path}: variable {name}: must be readable, but {_line(error)}") from error
    array: Array = _the(found, path, name)
    if getattr(array, "dtype", None) is None or array.dtype.kind not in "biuf" or array.ndim != axes:
        got = f"{array.dtype} of shape {array.shape}" if hasattr(array, "dtype") else type(array).__name__
        raise DataError(f"{path}: variable {name}: must hold real numbers along {axes} axes, but is {got}")
    return array


def check_file(path: Path) -> None:
    """Refuse what is no whole MATLAB file of version 5, by its header and the lengths of its parts.

    Raises:
        DataError: the file is missing, a folder, of another version or another kind, or truncated.
    """
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
                kind, count = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, size)
                if len(tag) == 8 and kind not in (_COMPRESSED, _MATRIX):
                    raise DataError(f"{path}: a variable must begin at byte {place}, but none does: it is damaged")
                place += 8 + count
            if place > size:
                raise DataError(f"{path}: must have {place} bytes by its own account, but has {size}: it is truncated")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _the(found: dict[str, Any], path: Path, name: str) -> Any:
    if name not in found:
        known = list(list_variables(path))
        raise DataError(f"{path}: there must be a variable {name!r}, but there is none{did_you_mean(name, known)}")
    return found[name]


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
