"""What every stored signal must keep to, whichever sensor it is of."""

import math
from collections.abc import Iterable

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording, Stored


def layout(recording: Recording, name: str) -> Stored:
    """What a recording shares with all others of its sensor.

    Raises:
        DataError: it holds no samples, or none that can be stored.
    """
    values, rate, channels = recording.values, recording.sample_rate, tuple(recording.channels)
    if values.dtype.kind not in "fiu" or values.ndim == 0:
        raise DataError(f"{name}: samples must be an array of numbers, but got {values.dtype} of shape {values.shape}")
    if values.size == 0:
        raise DataError(f"{name}: a recording must hold samples, but has none")
    if rate is not None and not 0 < rate < math.inf:
        raise DataError(f"{name}: a sampling rate must be above 0, but got {rate:g} Hz")
    if channels and values.ndim == 2 and len(channels) != values.shape[1]:
        raise DataError(f"{name}: every channel must have a name, but {values.shape[1]} have {len(channels)}")
    dtype = values.dtype.newbyteorder("<").str
    return Stored(rate, channels, recording.unit, tuple(values.shape[1:]), dtype, len(values))


def difference(one: Stored, one_name: str, two: Stored, two_name: str) -> str | None:
    """The rule that two recordings of one sensor break together, with both values; None where they agree."""
    if (one.sample_rate is None) != (two.sample_rate is None) or not math.isclose(
        one.sample_rate or 0.0, two.sample_rate or 0.0, rel_tol=1e-6
    ):
        pair, what = (_hertz(one.sample_rate), _hertz(two.sample_rate)), "sampling rate"
    elif len(one.channels) != len(two.channels):
        pair, what = (f"{len(one.channels)} channels", f"{len(two.channels)}"), "channels"
        odd = sorted(set(one.channels) ^ set(two.channels))
        if odd:
            pair = (pair[0], f"{pair[1]} (only in one of them: {', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''})")
    elif one.channels != two.channels:
        at = next(i for i, (a, b) in enumerate(zip(one.channels, two.channels, strict=True)) if a != b)
        pair, what = (f"{one.channels[at]!r} at channel {at + 1}", repr(two.channels[at])), "channels in one order"
    elif one.unit != two.unit:
        pair, what = (repr(one.unit), repr(two.unit)), "unit"
    elif one.item != two.item:
        pair, what = (str(one.item), str(two.item)), "shape per sample"
    elif one.dtype != two.dtype:
        pair, what = (str(np.dtype(one.dtype)), str(np.dtype(two.dtype))), "type of number"
    else:
        return None
    return f"recordings of one sensor must share their {what}, but {one_name} has {pair[0]} and {two_name} {pair[1]}"


def window(start: float | None, stop: float | None, count: int, rate: float | None) -> tuple[int, int]:
    """First sample and number of samples of a record's stretch of a recording, both rounded to whole samples.

    Equal stretches of time have equally many samples wherever they start: 8 to 12 s at 125 Hz are 500 from 1000.

    Args:
        start, stop: seconds, or None for the very start and end.
        count: samples of the recording.
        rate: its sampling rate.

    Raises:
        DataError: the recording has no time, or the stretch leaves it or is shorter than a sample.
    """
    if start is None and stop is None:
        return 0, count
    if rate is None:
        raise DataError("start and stop are for sensors with a sampling rate, but this one has none")
    end, half = count / rate, 0.5 / rate
    first_second, last_second = start or 0.0, end if stop is None else stop
    for name, second in (("stop", last_second), ("start", first_second)):
        if second > end + half:
            raise DataError(f"{name} must lie within the recording, but is {second:g} s of {end:g} s")
    many = min(math.floor((last_second - first_second) * rate + 0.5), count)
    if many < 1:
        raise DataError(
            f"a record must hold a sample, but {first_second:g} to {last_second:g} s at {rate:g} Hz has none"
        )
    return min(math.floor(first_second * rate + 0.5), count - many), many


def unfinite(recording: Recording, windows: Iterable[tuple[int, int]]) -> list[str | None]:
    """For every window, the first sample in it that is NaN or infinite, in words; None where all are finite."""
    values = recording.values
    windows = list(windows)
    if values.dtype.kind != "f":
        return [None] * len(windows)
    bad = ~np.isfinite(values)
    if not bad.any():
        return [None] * len(windows)
    return [_first(recording, bad, first, many) for first, many in windows]


def _first(recording: Recording, bad: Array, first: int, many: int) -> str | None:
    inside = bad[first : first + many]
    if not inside.any():
        return None
    place = np.unravel_index(int(np.argmax(inside)), inside.shape)
    sample = first + int(place[0])
    value = recording.values[(sample, *place[1:])]
    channel = ""
    if len(place) > 1:
        name = recording.channels[place[1]] if recording.channels else str(int(place[1]) + 1)
        channel = f"channel {name} "
    when = f" ({sample / recording.sample_rate:g} s)" if recording.sample_rate else ""
    return f"samples must be finite, but {channel}is {value} at sample {sample}{when}"


def _hertz(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:g} Hz"
