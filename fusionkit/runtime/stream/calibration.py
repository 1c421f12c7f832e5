"""Start-up: what a stream takes of its first seconds, before it decides."""

from math import inf

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Sensor
from fusionkit.runtime.stream.filling import fill
from fusionkit.runtime.stream.track import Array, Track
from fusionkit.runtime.wearer import Wearer


class Calibration:
    """Alignment and statistics of one sensor, from its first seconds, as far as the wearer lacks them.

    The segment begins with the sensor's first sample; after a gap so long that filters start anew, and where more than
    half of it was lost, it begins again.

    Args:
        name: of the sensor.
        sensor: what the manifest says of it.
        track: its samples.
        wearer: who gets what is taken.

    Raises:
        BundleError: the manifest wants it from all records of a person, which no stream knows.
    """

    def __init__(self, name: str, sensor: Sensor, track: Track, wearer: Wearer) -> None:
        self._name, self._sensor, self._track, self._wearer = name, sensor, track, wearer
        self._align = self._normalise = 0
        rate = float(sensor.sample_rate or 0)
        hint = "give the stream a wearer, whose recordings were seen before"
        if sensor.align is not None and name not in wearer.matrix:
            if sensor.align.seconds is None:
                raise BundleError(
                    f"{name}: a stream is aligned by first seconds, but the bundle wants all records: {hint}"
                )
            self._align = round(sensor.align.seconds * rate)
        if sensor.statistics is not None and name not in wearer.running:
            if sensor.normalise.seconds is None:
                raise BundleError(
                    f"{name}: a stream is normalised by first seconds, but the bundle wants all records: {hint}"
                )
            self._normalise = round(sensor.normalise.seconds * rate)
        self.end: float = -inf
        self.done = not (self._align or self._normalise)

    @property
    def first(self) -> int:
        """Number of the segment's first sample."""
        return self._track.origin

    def reach(self, number: int) -> bool:
        """Take the segment if it lies before a sample; whether it is taken."""
        if self.done:
            return True
        size = max(self._align, self._normalise)
        if self.first + size > number:
            return False
        parts = [
            fill(self._track.plain_window(self.first, self._align), lacks=self._sensor.lacks) if self._align else None,
            fill(self._track.window(self.first, self._normalise), lacks=self._sensor.lacks)
            if self._normalise
            else None,
        ]
        if (self._align and parts[0] is None) or (self._normalise and parts[1] is None):
            self._track.origin = self.first + size
            return False
        if parts[0] is not None:
            self._wearer.align_by(self._name, parts[0].T)
        if parts[1] is not None:
            self._wearer.normalise_by(self._name, self._wearer.aligned(self._name, as_window(self._sensor, parts[1])))
        self.end, self.done = self.first + size, True
        self._track.close_plain()
        return True


def as_window(sensor: Sensor, samples: Array) -> Array:
    """Samples ``(time, channel[, band])`` in the manifest's layout: a view."""
    return samples[:, 0] if sensor.layout == "time" else np.moveaxis(samples, 0, -1)
