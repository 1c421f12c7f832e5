"""Is this a window of that sensor? Everything that is checked before a graph sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Sensor

Array = np.ndarray[Any, Any]

PREFIXES = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "nV": 1e-9}
"""Volts in a unit; there are two letters mu."""
RATE_TOLERANCE = 1e-3
"""How far a rate may be off, as a share of it: clocks that drift are right."""


def take_window(name: str, sensor: Sensor, value: Any) -> Array:
    """A window, or a batch of them, as the graph takes it: ``(batch, *shape)``, contiguous, in the manifest's dtype.

    Args:
        name: of the sensor.
        sensor: what the manifest says of it.
        value: with or without the batch axis.

    Raises:
        BundleError: it is of other numbers, has another shape, or holds no sample.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise BundleError(f"{name}: a window must be an array, but its rows are of unequal length") from None
    ids = sensor.dtype == "int64"
    if array.dtype.kind not in ("iu" if ids else "f"):
        rule = "hold token ids, whole numbers" if ids else f"hold floating-point numbers{_in_unit(sensor)}"
        hint = "" if ids or array.dtype.kind not in "iu" else ": scale what a converter counts"
        raise BundleError(f"{name}: a window must {rule}, but got {array.dtype}{hint}")
    if array.ndim == len(sensor.shape):
        array = array[None]
    wanted, got = sensor.shape, array.shape[1:]
    fits = len(got) == len(wanted) and all(w in (None, g) for w, g in zip(wanted, got, strict=True))
    if not fits:
        raise BundleError(
            f"{name}: a window must have shape {list(wanted)} ({sensor.layout}), but got {list(array.shape[1:])}"
        )
    if 0 in array.shape:
        raise BundleError(f"{name}: there must be a window with samples, but got {list(array.shape)}")
    if array.dtype != sensor.dtype:
        with np.errstate(over="ignore"):  # what float32 cannot hold is found to be infinite
            array = array.astype(sensor.dtype)
    return np.ascontiguousarray(array)


def check_values(name: str, sensor: Sensor, windows: Array, lengths: Array | None, present: Array) -> Array:
    """Windows whose numbers can be believed, as far as they are present.

    A channel that holds a number that is not finite was not measured. Where the sensor ``lacks`` channels the graph
    knows what to do with it; elsewhere nobody does, and the window is refused. What lies behind the length of a
    window, and windows that are not present, are not looked at, for neither does the graph.

    Args:
        name: of the sensor.
        sensor: what the manifest says of it.
        windows: ``(batch, *shape)``.
        lengths: real samples of each, or None where all are.
        present: whether each is there.

    Raises:
        BundleError: a number is not finite or beyond ``limits``; it names the channel.
    """
    finite = np.isfinite(windows)
    if not finite.all():
        wrong = ~finite & _seen(windows, lengths, present)
        if wrong.any() and not sensor.lacks:
            row, *place = (int(axis[0]) for axis in np.nonzero(wrong))
            raise BundleError(
                f"{name}: a window must hold finite numbers, but{_where(sensor, row, place)} has "
                f"{windows[(row, *place)]:g}; leave the sensor out while it is not measured"
            )
        if np.isinf(windows[wrong]).any():  # the graph knows NaN alone
            windows = np.where(wrong, np.float32(np.nan), windows)
    if sensor.limits is not None:
        low, high = sensor.limits
        slack = 0 if sensor.dtype == "int64" else 1e-3 * (high - low)
        if windows.min() < low - slack or windows.max() > high + slack:
            wrong = ((windows < low - slack) | (windows > high + slack)) & _seen(windows, lengths, present)
            if wrong.any():
                row, *place = (int(axis[0]) for axis in np.nonzero(wrong))
                raise BundleError(
                    f"{name}: a window must hold numbers from {low:g} to {high:g}, but{_where(sensor, row, place)} has "
                    f"{windows[(row, *place)]:g}"
                )
    return windows


def check_unit(name: str, sensor: Sensor, unit: str) -> None:
    """Refuse windows in another unit; of volts it says by what to multiply.

    Raises:
        BundleError: they are.
    """
    if unit == sensor.unit:
        return
    hint = ""
    if unit in PREFIXES and sensor.unit in PREFIXES:
        factor = PREFIXES[unit] / PREFIXES[sensor.unit]
        if factor == 1:
            return
        hint = f": multiply by {factor:g}"
    wanted = f"in {sensor.unit}" if sensor.unit else "numbers without a unit"
    raise BundleError(f"{name}: windows must be {wanted}, but are said to be in {str(unit)[:40]!r}{hint}")


def check_rate(name: str, sensor: Sensor, rate: float) -> None:
    """Refuse windows at another rate.

    Raises:
        BundleError: they are, or the sensor has no rate.
    """
    if sensor.sample_rate is None:
        raise BundleError(
            f"{name}: windows must have no rate, for the sensor has no time, but are said to have {rate:g} Hz"
        )
    if not abs(rate - sensor.sample_rate) <= RATE_TOLERANCE * sensor.sample_rate:
        raise BundleError(f"{name}: windows must have {sensor.sample_rate:g} Hz, but are said to have {rate:g} Hz")


def check_channels(name: str, sensor: Sensor, channels: Sequence[str]) -> None:
    """Refuse windows of other channels, or of these in another order.

    Raises:
        BundleError: they are; it names the first that differs.
    """
    given = list(channels)
    if given == list(sensor.channels):
        return
    if len(given) != len(sensor.channels):
        raise BundleError(
            f"{name}: windows must have {len(sensor.channels)} channels, but are said to have {len(given)}"
        )
    place = next(i for i, (a, b) in enumerate(zip(given, sensor.channels, strict=True)) if a != b)
    raise BundleError(
        f"{name}: channel {place + 1} must be {sensor.channels[place]!r}, but is said to be {str(given[place])[:40]!r}"
    )


def _seen(windows: Array, lengths: Array | None, present: Array) -> Array:
    """What the graph looks at."""
    seen = np.broadcast_to(present.reshape(-1, *[1] * (windows.ndim - 1)), windows.shape)
    if lengths is not None:
        real = np.arange(windows.shape[-1]) < lengths[:, None]
        seen = seen & real.reshape(len(windows), *[1] * (windows.ndim - 2), -1)
    return seen


def _where(sensor: Sensor, row: int, place: Sequence[int]) -> str:
    """``channel Cz, sample 7 of window 2``."""
    channel = ""
    if sensor.layout.startswith("channel"):
        number = place[0]
        channel = f" channel {sensor.channels[number] if number < len(sensor.channels) else number + 1},"
    what = "token" if sensor.dtype == "int64" else "sample" if sensor.sample_rate else "number"
    return f"{channel} {what} {place[-1] + 1} of window {row + 1}"


def _in_unit(sensor: Sensor) -> str:
    if sensor.limits is not None:
        return f" from {sensor.limits[0]:g} to {sensor.limits[1]:g}"
    return f" in {sensor.unit}" if sensor.unit else ""
