"""Arrays of NumPy archives one by one, and pickles that lie in them as bytes."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

from numpy.lib.npyio import NpzFile

from fusionkit.core.errors import DataError, located
from fusionkit.core.recording import Array
from fusionkit.data.unpickle import unpickle

LARGEST = 1 << 30
"""Bytes that one array may take; a crafted archive of some megabytes can hold thousands of times more."""


def read_member(path: Path, name: str) -> Array:
    """One array of a NumPy archive; nothing is unpickled.

    Raises:
        DataError: the archive is missing or damaged, has no such array, or it holds objects or more than `LARGEST`.
    """
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            size = archive.zip.getinfo(f"{name}.npy").file_size if archive.zip else 0
            if size > LARGEST:
                raise DataError(f"{path}: array {name}: must take {LARGEST} bytes at most, but takes {size}")
            array: Array = archive[name]
    except KeyError:
        raise DataError(f"{path}: there must be an array {name!r}, but there is none") from None
    except DataError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: array {name}: cannot be read: {error}") from None
    return array


def read_pickled(path: Path, name: str) -> Any:
    """What the pickle holds that is the bytes of an archive's array, read by the restricted unpickler.

    Raises:
        DataError: as `read_member` and `unpickle`, or the array holds no bytes.
    """
    array = read_member(path, name)
    if array.dtype.kind != "S" or array.size != 1:
        raise DataError(f"{path}: array {name} must be the bytes of a pickle, but is {array.dtype} of {array.shape}")
    with located(f"{path}: array {name}"):
        return unpickle(array.tobytes())
