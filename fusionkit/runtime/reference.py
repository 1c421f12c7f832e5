"""Reference inputs and answers of a bundle, read without trust."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.runtime.archive import unpack
from fusionkit.runtime.errors import BundleError

if TYPE_CHECKING:
    from fusionkit.runtime.session import Session

Array = np.ndarray[Any, Any]

KINDS = ("input", "output", "length", "present", "shift", "scale")
"""What the arrays of a ``reference.npz`` are, as their names begin; the sensor or task follows."""


def check_references(session: "Session", where: str, tolerance: float) -> float:
    """How far a session's answers to the reference inputs of its bundle are from those where it was made.

    Raises:
        BundleError: there are none, they are not of this bundle, or one differs by more than ``tolerance``.
    """
    if "reference.npz" not in session.files:
        raise BundleError(f"{where} must be there to be checked, but is not")
    arrays = read_arrays(session.files["reference.npz"], where)
    given: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
    for key, array in arrays.items():
        kind, _, name = key.partition("_")
        if kind not in given:
            raise BundleError(f"{where}: names must begin with one of {list(KINDS)}, but got {key[:60]!r}")
        given[kind][name] = array
    if set(given["output"]) != set(session.tasks) or not given["input"]:
        raise BundleError(f"{where} must have inputs and an answer of every task, but has {sorted(arrays)}"[:300])
    statistics = {
        name: (given["shift"].get(name, np.zeros(shape)), given["scale"].get(name, np.ones(shape)))
        for name, sensor in session.sensors.items()
        if (shape := sensor.statistics) is not None
    }
    answers = session.predict(given["input"], lengths=given["length"], present=given["present"], statistics=statistics)
    largest = 0.0
    for name, answer in answers.items():
        wanted = given["output"][name].astype(np.float64)
        if wanted.shape != answer.shape:
            raise BundleError(f"{where}: {name} must be {list(answer.shape)}, but is {list(wanted.shape)}")
        far = float(np.max(np.abs(answer - wanted) / np.maximum(1, np.abs(wanted)), initial=0))
        if not far <= tolerance:
            raise BundleError(
                f"{where}: {name} must be answered as where the bundle was made to {tolerance:g}, but differs by {far:.3g}"
            )
        largest = max(largest, far)
    return largest


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
        if dtype.kind not in "biuf" or dtype.hasobject or any(size < 0 for size in shape):
            raise ValueError("it holds something else")
        array = np.frombuffer(content, dtype, offset=file.tell())
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    except Exception as error:  # noqa: BLE001 - NumPy raises ValueError, KeyError, SyntaxError, TypeError, ...
        said = " ".join(str(error).split())[:80]
        raise BundleError(f"{where} must be an array of numbers, but {said}") from None
