"""One sensor with time: its samples put on their grid, filtered, and cut into windows."""

from collections import deque
from math import floor, inf, isclose
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.filters import Chain
from fusionkit.runtime.manifest import Sensor
from fusionkit.runtime.stream.clock import Clock
from fusionkit.runtime.stream.ring import Ring

Array = np.ndarray[Any, Any]

BRIDGED_SECONDS = 1.0
"""A gap that the filters go on across; after a longer one they start anew, in the steady state of the first sample."""
SLACK = 1e-6
"""Of a sample: what rounding of times may be off by."""


class Track:
    """The filtered samples of one sensor, by number: sample ``m`` is at the time of place ``m / chain.ratio``.

    Lost samples are NaN: those between two that came, those before the first one, and what the source gave as such.

    Args:
        name: of the sensor.
        sensor: what the manifest says of it.
        chain: fresh, its causal steps.
        samples: of a window.
        plain: fresh, the chain without the filters of bands, where its samples are wanted as well; None: they are not.

    Attributes:
        clock: places of its samples on their grid.
        samples: of a window.
        living: whether decisions wait for it.
        resets: how often its filters started anew.
        origin: number of the first sample of the stretch that no long gap has broken.
        taken: samples that came, whatever became of them.
    """

    def __init__(self, name: str, sensor: Sensor, chain: Chain, samples: int, plain: Chain | None = None) -> None:
        assert sensor.sample_rate is not None
        self.name, self.samples = name, samples
        self.channels = max(1, len(sensor.channels if sensor.stream is None else sensor.stream.channels))
        self.rate = float(sensor.sample_rate / chain.ratio)
        self.clock = Clock(self.rate)
        self.living, self.resets, self.taken = True, 0, 0
        self._sound = sensor.layout == "time"
        self._chain = chain
        self._item = chain.push(np.zeros((0, self.channels))).shape[1:]
        chain.reset()
        self._unit = sensor.unit
        _check_chain(name, sensor, self._item, self.rate)
        self._fed = 0
        self._arrivals: deque[tuple[int, float]] = deque()
        self._rings: deque[Ring] = deque()
        self._plain = plain
        self._plain_ring: Ring | None = None
        self._begin(0)

    @property
    def begun(self) -> bool:
        """Whether there was a sample."""
        return self.clock.begun

    @property
    def time(self) -> float:
        """What comes before is there: when the next sample is due; never, before the first one."""
        return self.clock.time if self.clock.begun else -inf

    @property
    def next(self) -> int:
        """Number of the filtered sample that comes next."""
        return self._rings[-1].next

    def check(self, values: Any) -> Array:
        """A chunk as numbers ``(samples, channels)``; whole numbers of a sound are scaled to [-1, 1).

        Raises:
            BundleError: it has other channels, no numbers, or whole ones of what has a unit, such as volts.
        """
        array = np.asarray(values)
        if array.ndim == 1 and self.channels == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != self.channels or array.dtype.kind not in "iuf":
            raise BundleError(
                f"{self.name}: a chunk must be numbers (samples, {self.channels}), but got {array.dtype} {list(array.shape)}"
            )
        if array.dtype.kind == "u" if self._sound else array.dtype.kind in "iu" and self._unit:
            rule = "signed or floating-point" if self._sound else f"floating-point numbers in {self._unit}"
            raise BundleError(
                f"{self.name}: a chunk must be {rule}, but got {array.dtype}: scale what a converter counts"
            )
        if self._sound and array.dtype.kind == "i":
            array = array / -float(np.iinfo(array.dtype).min)
        return array

    def push(self, values: Array, stamps: Array, *, latest: float, last: bool, arrived: float) -> None:
        """Take the next samples, checked (`check`) and stamped (`Clock.stamps`).

        Args:
            values: the samples.
            stamps: their timestamps.
            latest: a leap beyond is never believed.
            last: no other sensor goes on: a clock that is set back does not catch up.
            arrived: when they came, by the clock of the machine.
        """
        self.taken += len(values)
        for placed in self.clock.place(stamps, latest, last=last):
            if placed.place > self._fed:
                self._lose(placed.place)
            self._feed(values[placed.start : placed.stop])
            self._fed = placed.place + placed.stop - placed.start
        if not self._arrivals or self.next > self._arrivals[-1][0]:  # what was dropped, or is empty, brings nothing
            self._arrivals.append((self.next, arrived))

    def first(self, time: float) -> int:
        """Number of the first sample of a window that begins at a time: the nearest, of two that are as near the later."""
        return floor(self.clock.place_of(time) * float(self._chain.ratio) + 0.5 + SLACK)

    def ready(self, time: float) -> bool:
        """Whether all samples of a window that begins at a time have come."""
        return self.begun and self.first(time) + self.samples <= self.next

    def window(self, first: int, count: int | None = None) -> Array:
        """The samples of a window, ``(time, channel[, band])``: a view, but where a long gap begins within it."""
        count = self.samples if count is None else count
        for ring in reversed(self._rings):
            if ring.first <= first < ring.next:
                if first + count <= ring.next:
                    return ring.window(first, count)
                here = ring.next - first
                return np.concatenate(
                    [ring.window(first, here), np.full((count - here, *self._item), np.nan, np.float32)]
                )
        return np.full((count, *self._item), np.nan, np.float32)

    def keep(self, first: int) -> None:
        """Samples before are not needed any more."""
        while len(self._rings) > 1 and self._rings[0].next <= first:
            self._rings.popleft()
        self._rings[0].drop(first)
        while len(self._arrivals) > 1 and self._arrivals[0][0] < first + self.samples:
            self._arrivals.popleft()
        self.clock.forget(floor(first / float(self._chain.ratio)) - 1)

    def arrived(self, number: int) -> float:
        """When the sample before a number came, by the clock of the machine."""
        return next(arrived for last, arrived in self._arrivals if last >= number)

    def resumes(self, time: float) -> float:
        """When samples come again after a long gap that holds a window which begins at a time; never: -inf."""
        first = self.first(time)
        before = self._rings[-2].next if len(self._rings) > 1 else first
        inside = before <= first and first + self.samples <= self._real
        return self.clock.time_of(self._stretch) if inside else -inf

    def plain_window(self, first: int, count: int) -> Array:
        """Samples from the origin on that no filter of bands has seen; a view."""
        return self.window(first, count) if self._plain_ring is None else self._plain_ring.window(first, count)

    def close_plain(self) -> None:
        """Samples without the filters of bands are not wanted any more."""
        self._plain = self._plain_ring = None

    def _feed(self, values: Array) -> None:
        self._rings[-1].push(self._chain.push(values))
        if self._plain is not None and self._plain_ring is not None:
            self._plain_ring.push(self._plain.push(values))

    def _lose(self, place: int) -> None:
        """Samples are lost up to a place."""
        lost = place - self._fed
        if lost <= BRIDGED_SECONDS * self.rate:
            self._feed(np.full((lost, self.channels), np.nan))
        else:
            self._chain.reset()
            if self._plain is not None:
                self._plain.reset()
            self.resets += 1
            self._begin(place)

    def _begin(self, place: int) -> None:
        """A stretch of samples begins; before it, a window's samples are lost."""
        first = round(place * self._chain.ratio)
        if self._rings:
            first = max(first, self.next)
        ring = Ring(self._item, first - self.samples, 3 * self.samples)
        ring.lose(self.samples)
        self._rings.append(ring)
        self._stretch, self._real, self.origin = place, first, first
        if self._plain is not None:
            self._plain_ring = Ring(self._item[:1], first, 3 * self.samples)


def _check_chain(name: str, sensor: Sensor, item: tuple[int, ...], rate: float) -> None:
    """Whether a chain makes of the stream that the manifest asks for the windows that it gives the graph.

    Raises:
        BundleError: it takes another rate, or gives other channels or bands.
    """
    told = None if sensor.stream is None else sensor.stream.sample_rate
    if told is not None and not isclose(told, rate, rel_tol=1e-6):
        raise BundleError(f"{name}: the chain must take the stream's {told:g} Hz, but takes {rate:g} Hz")
    wanted = (1,) if sensor.layout == "time" else sensor.shape[:-1]
    if item != wanted:
        raise BundleError(f"{name}: the chain must give samples of {list(wanted)}, but gives {list(item)}")
