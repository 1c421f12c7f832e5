"""Which place on an even grid every sample has, from timestamps that jitter, drift, leap and repeat themselves."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import LATEST

Array = np.ndarray[Any, Any]

BLOCK_SECONDS = 1.0
"""After so many seconds of samples (eight at least) the line is laid anew."""
SETTLING_BLOCKS = 2
"""Blocks whose jitter is not known yet."""
SETTLING_JITTER = 0.05
"""What a timestamp may be off by meanwhile, in seconds."""
MEMORY_BLOCKS = 64
"""Blocks after which what was seen has less and less weight."""
MOST_OFFSETS = 1000
"""Timestamps of a block that its medians are taken of."""
MOST_DRIFT = 0.005
"""A rate is followed so far from the nominal one, as a share of it."""
TRUST_BLOCKS = 8
"""The nominal rate counts as much as so many blocks that agreed with it."""
FINEST = 0.0005
"""Seconds that a timestamp may always be off by: what drift makes of a clock of 16 kHz before it is known."""
LARGEST_GAP = 10.0
"""Seconds of a leap that one sample alone is believed."""
BELIEVED = 3
"""Samples in a row that make a larger leap believed."""
PACED_SECONDS = 4.0
"""Of samples, after which it is known whether they come at the nominal rate."""
PACE = 0.015
"""By how much of it they may come at another one: more than any clock drifts, less than 250 Hz are from 256."""


@dataclass(frozen=True)
class Line:
    """Times of a stretch of the grid: place ``first`` is at ``time``, every further one ``period`` seconds later."""

    first: int
    time: float
    period: float


@dataclass(frozen=True)
class Placed:
    """Samples ``start`` to ``stop`` of a chunk lie on the grid from ``place`` on, without a gap between them."""

    place: int
    start: int
    stop: int


class Clock:
    r"""Puts samples on a grid of places, one a period, by their timestamps.

    Timestamps are noisy, the source's clock runs a little fast or slow, and samples get lost. Samples are therefore
    counted, and place :math:`n` has the time of a straight line :math:`T + (n - n_0) P`. After every second of samples
    the line is corrected by the median :math:`e` of what the timestamps of its :math:`n` samples were off by (of more
    than a thousand, of so many spread evenly over them: chunks come late as a whole, and a decision waits for this):
    :math:`T \leftarrow T + a_k e` and :math:`P \leftarrow P + b_{k+8} e / n` after the :math:`k`-th second, with
    :math:`a_k = 2 (2k - 1) / (k (k + 1))` and :math:`b_k = 6 / (k (k + 1))`: those of least squares over all seconds so
    far, up to 64 (an exponential memory from then on), where the nominal rate counts as eight seconds that agreed. No
    sample moves the line under a window that was cut before: each second has its own line, and what was pushed in which
    chunks changes nothing.

    A sample is

    - in its place, if its timestamp is off by no more than 3/4 of a period, half a millisecond, or six times the jitter
      (while that is not known yet, in the first two seconds: 50 ms);
    - after a gap, if it is later: as many places stay empty as fit between;
    - dropped, if it is earlier: a repetition, or a clock that was set back.

    A leap forward of more than 10 seconds is believed after three samples in a row that agree about it, and so are the
    very first timestamps: a leap back among them begins the grid again. A later leap back of more than 10 seconds that
    three samples agree about is a clock that was set back: its samples are dropped until they have caught up, or for
    good where nothing else goes on (``last``), for nobody knows how long the break was. A timestamp that is no number is
    taken for a period more than the one before.

    Whether samples come at the nominal rate at all is told by the first four seconds of them (`Pace`).

    Args:
        rate: nominal, hertz.

    Attributes:
        next: place of the sample that comes next.
        gaps: how often places stayed empty.
        lost: places that stayed empty.
        dropped: samples that were too early, or that leapt and were not believed.
        untimed: samples whose timestamp was no number.
        setbacks: how often it was set back.
        back: whether it was, and has not caught up.
        over: when samples were due and what the clock said instead, where it was set back for good.
        jitter: standard deviation of timestamps about the line in seconds, by their median absolute deviation. Where it
            is far below a period, steps by whole periods are no jitter but samples that were lost.

    Example:
        >>> clock = Clock(10.0)
        >>> list(clock.place(np.array([0.0, 0.1, 0.2])))
        [Placed(place=0, start=0, stop=3)]
        >>> clock.place_of(0.2)
        2.0
    """

    def __init__(self, rate: float) -> None:
        self.nominal = 1 / rate
        self.size = max(8, round(BLOCK_SECONDS * rate))
        self.next = 0
        self.gaps = self.lost = self.dropped = self.untimed = self.setbacks = 0
        self.back = False
        self.over: tuple[float, float] | None = None
        self.jitter = 0.0
        self.lines: deque[Line] = deque()
        self._off = np.empty(self.size)
        self._count = 0
        self._blocks = 0
        self._dropping = False
        self._leap = self._fall = (0.0, 0)
        self._last: float | None = None
        self._pace = Pace(rate)

    @property
    def begun(self) -> bool:
        """Whether there was a sample."""
        return bool(self.lines)

    @property
    def time(self) -> float:
        """When the next sample is due."""
        return self.time_of(self.next)

    @property
    def drift(self) -> float:
        """How much faster than nominal the source runs, in parts per million."""
        return 1e6 * (self.nominal / self.lines[-1].period - 1) if self.lines else 0.0

    def time_of(self, place: int) -> float:
        """Time of a place by the newest line."""
        line = self.lines[-1]
        return line.time + (place - line.first) * line.period

    def place_of(self, time: float) -> float:
        """Place of a time, between two as a fraction, by the line that was laid when it came."""
        line = self.lines[0]
        for later in reversed(self.lines):
            if later.time <= time:
                line = later
                break
        return line.first + (time - line.time) / line.period

    def forget(self, before: int) -> None:
        """Lines of places before are not asked for any more."""
        while len(self.lines) > 1 and self.lines[1].first <= before:
            self.lines.popleft()

    def stamps(self, count: int, timestamps: Any, start: float) -> Array:
        """Timestamps of every sample of a chunk: as given, or counted from one of the first, or from the last chunk.

        Args:
            count: samples of the chunk.
            timestamps: one a sample, one for the first, or None.
            start: of a chunk without timestamps that is the first of all.

        Raises:
            BundleError: there are others than samples, the very first is no number, one is beyond `LATEST`, or they
                tell another rate.
        """
        if timestamps is None:
            if self.begun:
                self._pace.check(count, np.empty(0))
                return self._counted(count)
            timestamps = start
        given = np.asarray(timestamps)
        if given.dtype.kind not in "iuf" or given.shape not in ((), (count,)):
            raise BundleError(
                f"timestamps must be one for each of {count} samples, or the first one's, but got {given.dtype} {list(given.shape)}"
            )
        if (np.abs(given[np.isfinite(given)]) > LATEST).any():
            raise BundleError(f"timestamps must be seconds, at most {LATEST:g} from 0, but got {given.flat[0]:g}")
        self._pace.check(count, given)
        if given.ndim == 0:
            if not np.isfinite(given):
                return self._counted(count) if self.begun else self._fill(np.full(count, np.nan))
            return float(given) + np.arange(count) * self.nominal
        given = given.astype(np.float64)
        return given if np.isfinite(given).all() else self._fill(given)

    def place(self, stamps: Array, latest: float = np.inf, *, last: bool = False) -> Iterator[Placed]:
        """Places of the samples of a chunk, run by run.

        Args:
            stamps: what `stamps` gave.
            latest: what is later than this after a leap of more than 10 seconds is never believed.
            last: a clock that is set back now does not catch up.
        """
        start, count = 0, len(stamps)
        if count and not self.lines:
            self.lines.append(Line(0, float(stamps[0]), self.nominal))
        if count:
            self._last = float(stamps[-1])
        while start < count:
            line = self.lines[-1]
            due = line.time + (self.next - line.first) * line.period
            if self._dropping:
                start = self._skip(stamps, start, due, due - line.period / 2, last)
                continue
            stop = min(count, start + line.first + self.size - self.next)
            off = stamps[start:stop] - (line.time + (self.next - line.first + np.arange(stop - start)) * line.period)
            bad = np.abs(off) > self._tolerance(line.period)
            good = int(np.argmax(bad)) if bad.any() else len(off)
            if good:
                yield Placed(self.next, start, start + good)
                self._leap = (0.0, 0)
                self._off[self._count : self._count + good] = off[:good]
                self._count += good
                self.next += good
                start += good
                if self.next == line.first + self.size:
                    self._lay()
            elif off[0] < -LARGEST_GAP and self.next < BELIEVED:
                self.lines[0] = Line(0, float(stamps[start]) - self.next * line.period, line.period)
            elif off[0] < 0:
                self._dropping = True
            elif self._believe(float(stamps[start]), float(off[0]), latest):
                empty = round(float(off[0]) / line.period)
                self.gaps += 1
                self.lost += empty
                self.next += empty
                if self.next >= line.first + self.size:
                    self._lay()
            else:
                self.dropped += 1
                start += 1

    def _skip(self, stamps: Array, start: int, due: float, early: float, last: bool) -> int:
        """Drop what is too early; the first sample that is not."""
        right = stamps[start:] >= early
        found = int(np.argmax(right)) if right.any() else len(right)
        for stamp in stamps[start : start + found].tolist():
            if self.back:
                break
            self._set_back(stamp, due, last)
        if self.over is not None:
            found = len(right)
        self.dropped += found
        self._dropping = found == len(right)
        if not self._dropping:
            self.back, self._fall = False, (0.0, 0)
        return start + found

    def _set_back(self, stamp: float, due: float, last: bool) -> None:
        """See a sample that is early: several that are far too early, and agree, say that the clock was set back."""
        before, agreeing = self._fall
        if stamp >= due - LARGEST_GAP:
            self._fall = (0.0, 0)
            return
        near = agreeing > 0 and -1e-9 <= stamp - before <= LARGEST_GAP
        self._fall = (stamp, agreeing + 1 if near else 1)
        if self._fall[1] >= BELIEVED:
            self.back = True
            self.setbacks += 1
            self.over = (due, stamp) if last else None

    def _believe(self, stamp: float, off: float, latest: float) -> bool:
        """Whether a sample that is late comes after a gap: a large one must be told by several samples that agree."""
        if off <= LARGEST_GAP:
            return True
        if stamp > latest:
            return False
        last, agreeing = self._leap
        near = agreeing > 0 and -1e-9 <= stamp - last <= LARGEST_GAP
        self._leap = (stamp, agreeing + 1 if near else 1)
        return self._leap[1] >= BELIEVED

    def _tolerance(self, period: float) -> float:
        jitter = SETTLING_JITTER if self._blocks < SETTLING_BLOCKS else 6 * self.jitter
        return max(0.75 * period, jitter, FINEST)

    def _lay(self) -> None:
        """End a block: lay the next line from what this one's samples were off by."""
        line = self.lines[-1]
        time, period = line.time + (self.next - line.first) * line.period, line.period
        if 4 * self._count >= self.size:
            off = self._off[: self._count : -(-self._count // MOST_OFFSETS)]
            error = _median(off)
            spread = _spread(off - error, period)
            self.jitter = spread if not self._blocks else 0.9 * self.jitter + 0.1 * spread
            self._blocks += 1
            k = min(self._blocks, MEMORY_BLOCKS)
            time += 2 * (2 * k - 1) / (k * (k + 1)) * error
            if self._blocks > 1:
                k = min(self._blocks + TRUST_BLOCKS, MEMORY_BLOCKS)
                period += 6 / (k * (k + 1)) * error / self.size
                period = float(np.clip(period, (1 - MOST_DRIFT) * self.nominal, (1 + MOST_DRIFT) * self.nominal))
        self._count = 0
        self.lines.append(Line(self.next, time, period))

    def _counted(self, count: int) -> Array:
        """A period more each, from what came last."""
        line = self.lines[-1]
        return line.time + (self.next - line.first + np.arange(count)) * line.period

    def _fill(self, stamps: Array) -> Array:
        """A period more than the one before where there is none; before the first one, less."""
        known = np.isfinite(stamps)
        if not known.any() and self._last is None:
            raise BundleError("the first timestamp must be a number, but is none")
        self.untimed += int((~known).sum())
        number = np.arange(len(stamps))
        last = np.maximum.accumulate(np.where(known, number, -1))
        first = int(np.argmax(known)) if known.any() else 0
        before = stamps[first] - (first + 1) * self.nominal if self._last is None else self._last
        base = np.where(last >= 0, stamps[last], before)
        filled: Array = base + (number - last) * self.nominal
        return filled


class Pace:
    """Whether samples come at the rate that they should, by the timestamps of the first `PACED_SECONDS` of them.

    Stretches of a second are compared with what they should last. They tell another rate where nine in ten are off by
    more than 1 % to the same side, the median by more than `PACE`, and they agree: gaps, repetitions, and jitter do not.

    Args:
        rate: nominal, hertz.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._seen = 0
        self._numbers: list[Array] | None = []
        self._stamps: list[Array] = []
        self._wrong = 0.0

    def check(self, count: int, given: Array) -> None:
        """See the timestamps of the next samples, one each, the first one's, or none.

        Raises:
            BundleError: they tell another rate.
        """
        if self._wrong:
            raise BundleError(f"samples must come at {self._rate:g} Hz, but their timestamps say {self._wrong:.4g} Hz")
        if self._numbers is None:
            return
        most = 2 * max(8, round(PACED_SECONDS * self._rate))
        stamps = given.reshape(-1)[: min(count, most)]
        known = np.isfinite(stamps)
        self._numbers.append(self._seen + np.flatnonzero(known))
        self._stamps.append(stamps[known].astype(np.float64))
        self._seen += count
        if self._seen >= most // 2:
            self._judge(np.concatenate(self._numbers), np.concatenate(self._stamps))
            self._numbers, self._stamps = None, []
            if self._wrong:
                self.check(count, given)

    def _judge(self, numbers: Array, stamps: Array) -> None:
        ahead = len(stamps) // 4
        if ahead < 2:
            return
        lasted = self._rate * (stamps[ahead:] - stamps[:-ahead]) / (numbers[ahead:] - numbers[:-ahead]) - 1
        low, middle, high = (float(one) for one in np.quantile(lasted, (0.1, 0.5, 0.9)))
        aside = min(abs(low), abs(high)) > 0.01 and low * high > 0
        if aside and abs(middle) > PACE and high - low < abs(middle) / 2 and middle > -1:
            self._wrong = self._rate / (1 + middle)


def _spread(off: Array, period: float) -> float:
    """Standard deviation, by the median absolute deviation, of what timestamps are off by."""
    folded = off - period * np.round(off / period)
    fine = 1.4826 * _median(np.abs(folded))
    return fine if fine < period / 5 else 1.4826 * _median(np.abs(off))


def _median(values: Array) -> float:
    """As `numpy.median` of numbers that are finite, whose look for NaN would take longer than this."""
    ordered = np.sort(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
