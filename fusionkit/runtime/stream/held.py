"""One sensor without time: the newest value of an image, a sentence or a vector, as long as it counts."""

from bisect import bisect_left
from math import inf
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Sensor
from fusionkit.runtime.window import check_values, take_window

MOST_VALUES = 1024
"""Values that wait for their time at most; older ones are dropped."""
SLACK = 1e-6
"""Seconds that rounding of times may be off by."""


class Held:
    """Values of one sensor, each with the time from which it holds.

    Args:
        name: of the sensor.
        sensor: what the manifest says of it.
        hold: seconds that a value counts.

    Attributes:
        taken: values that came.
        dropped: values that were older than what was dropped before.
    """

    def __init__(self, name: str, sensor: Sensor, hold: float) -> None:
        self.name, self.sensor, self.hold = name, sensor, hold
        self.taken = self.dropped = 0
        self._times: list[float] = []
        self._values: list[Any] = []

    def check(self, value: Any) -> Any:
        """A value as a session takes it; bytes of an image are brought to numbers from 0 to 1, a vector gets its axis.

        Raises:
            BundleError: it has another shape, or numbers that cannot be believed.
        """
        sensor = self.sensor
        if isinstance(value, str) or (np.ndim(value) == 0 and np.asarray(value).dtype.kind == "U"):
            if sensor.layout != "token":
                raise BundleError(f"{self.name}: a value must be {sensor.layout}, but got text")
            return str(value)
        array = np.asarray(value)
        if sensor.layout == "channel, time" and array.ndim == 1:
            array = array[:, None]
        if sensor.layout == "3, height, width" and array.dtype == np.uint8:
            array = array.astype(np.float32) / 255
        window = take_window(self.name, sensor, array)
        if len(window) != 1:
            raise BundleError(f"{self.name}: a value must be one, but got {len(window)}")
        return check_values(self.name, sensor, window, None, np.ones(1, bool))[0]

    def push(self, value: Any, time: float) -> None:
        """Take a value, checked, that holds from a time on."""
        self.taken += 1
        place = bisect_left(self._times, time + SLACK)
        self._times.insert(place, time)
        self._values.insert(place, value)
        if len(self._times) > MOST_VALUES:
            self.dropped += 1
            del self._times[0], self._values[0]

    def at(self, time: float) -> Any:
        """The newest value from before a time, if it is at most ``hold`` seconds old then; else None."""
        place = bisect_left(self._times, time - SLACK) - 1
        if place < 0 or time - self._times[place] > self.hold + SLACK:
            return None
        return self._values[place]

    def resumes(self, time: float) -> float:
        """From when on, at or after a time, there is a value that counts: infinity, where there is none."""
        if self.at(time) is not None:
            return time
        place = bisect_left(self._times, time - SLACK)
        return self._times[place] if place < len(self._times) else inf

    def keep(self, time: float) -> None:
        """What is older than the newest value before a time is not asked for any more."""
        place = bisect_left(self._times, time - SLACK) - 1
        if place > 0:
            del self._times[:place], self._values[:place]

    def clear(self) -> None:
        """Forget all values."""
        self._times.clear()
        self._values.clear()
