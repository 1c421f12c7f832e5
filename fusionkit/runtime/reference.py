"""Reference inputs and answers of a bundle, read without trust."""

import io
from typing import Any

import numpy as np

from fusionkit.runtime.archive import unpack
from fusionkit.runtime.errors import BundleError

Array = np.ndarray[Any, Any]


def read_arrays(content: bytes, where: str) -> dict[str, Array]:
    """Arrays of an ``.npz`` by name: numbers and truth values alone, never objects, which would be unpickled.

    Raises:
        BundleError: a file is no such array, or says another size than it has.
    """
    files = unpack(io.BytesIO(content), where, len(content))
    return {name.removesuffix(".npy"): _read_array(file, f"{where}: {name!r}") for name, file in files.items()}


def _read_array(content: bytes, where: str) -> Array:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        if dtype.kind not in "biuf" or dtype.hasobject or fortran or any(size < 0 for size in shape):
            raise ValueError("it holds something else")
        array = np.frombuffer(content, dtype, offset=file.tell())
        return array.reshape(shape)
    except Exception as error:  # noqa: BLE001 - NumPy raises ValueError, KeyError, SyntaxError, TypeError, ...
        said = " ".join(str(error).split())[:80]
        raise BundleError(f"{where} must be an array of numbers, but {said}") from None
