"""What goes with windows: sentences in their place, one value for each of them, the statistics of a wearer."""

from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError

Array = np.ndarray[Any, Any]


def sentences(value: Any) -> list[str] | None:
    """Sentences, if it is some."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.ndim < 2:
        return [str(sentence) for sentence in np.atleast_1d(value)]
    if isinstance(value, list | tuple) and value and all(isinstance(sentence, str) for sentence in value):
        return list(value)
    return None


def per_window(name: str, what: str, values: Any, batch: int, dtype: Any) -> Array:
    """One value for each window, or one for all.

    Raises:
        BundleError: there are others, or they are of another kind.
    """
    array = np.asarray(values)
    if array.shape not in ((), (1,), (batch,)):
        raise BundleError(f"{name}: {what} must be one for each of {batch} windows, but got {list(array.shape)}")
    if array.dtype.kind not in ("b" if dtype is bool else "iu"):
        rule = "true or false" if dtype is bool else "whole numbers"
        raise BundleError(f"{name}: {what} must be {rule}, but got {array.dtype}")
    return np.ascontiguousarray(np.broadcast_to(array, (batch,)), dtype)


def check_lengths(name: str, said: Array, real: Array) -> Array:
    """Lengths that windows can have.

    Raises:
        BundleError: one is longer than its window.
    """
    if (said < 0).any() or (said > real).any():
        row = int(np.argmax((said < 0) | (said > real)))
        raise BundleError(
            f"{name}: a length must be from 0 to the {real[row]} samples of its window, but got {said[row]}"
        )
    return said


def per_wearer(name: str, shape: tuple[int, int], here: Array, given: tuple[Any, Any] | None) -> dict[str, Array]:
    """Shift and scale of every window, as a graph takes them.

    Args:
        name: of the sensor.
        shape: channels and subchannels.
        here: which windows are there; where none is, nothing needs to be given.
        given: shift and scale of all windows, or of each.

    Raises:
        BundleError: they are not given, have another shape, or cannot be.
    """
    wanted = (len(here), *shape)
    if given is None:
        if here.any():
            raise BundleError(f"{name}: shift and scale {list(shape)} of the wearer must be given (statistics=)")
        given = np.zeros(shape), np.ones(shape)
    shift, scale = (np.asarray(part, np.float32) for part in given)
    for part in (shift, scale):
        if part.ndim not in (2, 3) or part.shape[-2:] != shape or (part.ndim == 3 and len(part) not in (1, len(here))):
            raise BundleError(f"{name}: shift and scale must have shape {list(wanted)}, but got {list(part.shape)}")
    if not np.isfinite(shift).all() or not (np.isfinite(scale) & (scale > 0)).all():
        raise BundleError(f"{name}: shift must be finite and scale above 0, but one is not")
    return {
        f"{name}_shift": np.ascontiguousarray(np.broadcast_to(shift, wanted)),
        f"{name}_scale": np.ascontiguousarray(np.broadcast_to(scale, wanted)),
    }
