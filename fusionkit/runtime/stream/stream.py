"""Decisions at a steady rate from sensors that come in pieces: see `Stream`."""

import threading
import time as clocks
from collections.abc import Collection, Mapping
from math import ceil, inf
from typing import Any

import numpy as np

from fusionkit.runtime.calibrated import check_calibrated
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import LATEST
from fusionkit.runtime.session import Session
from fusionkit.runtime.stream.calibration import Calibration, as_window
from fusionkit.runtime.stream.counts import Counts
from fusionkit.runtime.stream.debounce import Debounce, Debouncer
from fusionkit.runtime.stream.decision import Decision
from fusionkit.runtime.stream.filling import fill
from fusionkit.runtime.stream.health import Health
from fusionkit.runtime.stream.held import Held
from fusionkit.runtime.stream.smoothing import Smoother, Smoothing
from fusionkit.runtime.stream.track import Track
from fusionkit.runtime.wearer import Wearer

Array = np.ndarray[Any, Any]

LARGEST_LEAD = 60.0
"""Seconds that a leap may bring one sensor ahead of all others; what is farther has another clock."""


class Stream:
    """Decisions of a bundle, at a steady rate, from sensors that arrive in chunks of any size and in any order.

    Which samples a decision sees. The stream starts with the first sample of the sensor that began first, at time
    ``start``. Decision number ``k`` is about the time ``t = start + window + k * step``. Of every sensor with time it
    sees as many samples as its windows had in training, ``n`` at ``r`` hertz, from the one nearest to ``t - n / r`` on
    (of two that are as near, the later): those with timestamps in ``[t - n / r, t)``, none from ``t`` on. Timestamps
    are those of an even clock behind the given ones (`Clock`), samples are those that left the causal chain of the
    manifest, which has seen everything from the first sample on. A recording cut into windows after its preprocessing
    gives the same. Of a sensor without time it sees the newest value from before ``t`` that is at most ``hold``
    seconds old.

    When it is made: as soon as all living sensors with time have brought their samples, or when one of them is
    ``late`` seconds beyond ``t``. A sensor that lacks samples then is absent from this decision and is not waited for
    any more, until it has caught up. So is one whose clock was set back by more than 10 seconds (`Clock`). Where that
    happened to all sensors that began, the stream is over: what was pushed before is decided, and a later `push` says so,
    for a new stream to begin. Time is that of timestamps alone, so that a recording is decided alike at any speed.

    Missing samples (gaps, and NaN in chunks) are NaN behind the filters, which see the last good value instead; after
    a gap of more than a second filters start anew. A window is filled up by straight lines between samples that are
    there, channel by channel. A channel that lacks more than half of its samples was not measured; a sensor that lacks
    more than half of its samples, or such a channel where its features cannot do without, is absent. Where no sensor
    is present there is no decision.

    Start-up. Where the manifest wants an alignment or statistics of the wearer that are not given, they are taken of the
    first seconds of each sensor, as many as the recipe says, and there is no decision before they are whole; a sensor
    that begins or returns later is absent until its own are. Statistics that go on (``normalise.update``) see each
    window after it was decided, from the first one on that shares no sample with the segment.

    It may be used by several threads, such as one a sensor: one lock is held while a chunk is taken and decided upon, and
    each decision is returned once, to the thread whose push brought it. Memory is that of the windows and of what
    sensors are ahead of one another.

    Args:
        session: the bundle.
        step: seconds from decision to decision; default: the manifest's, else a window.
        late: seconds that the first sensor waits for the others, more than a chunk lasts (or push chunks together,
            `push_all`); None waits for ever, or for `flush`.
        hold: seconds that a value of a sensor without time counts; default: the window.
        wearer: whose alignment and statistics are known; default whom the bundle was fitted to. What it lacks is taken
            of the first seconds.
        calibrated: answer at the temperature of the manifest.
        smoothing: averages answers over decisions.
        debounce: keeps labels from flickering.
        without: sensors that never come: decisions are made without them, and they need not be such as can stream.
        max_queue: decisions that may be due at once; the oldest of more are skipped and counted, so that a slow
            machine keeps up with live sensors. None never skips.

    Attributes:
        window: seconds of the longest window.
        step: seconds from decision to decision.
        tracks: samples of the sensors with time, by name.
        wearer: alignment and statistics, to be saved for the next time.

    Raises:
        BundleError: no sensor has time, one looked ahead when it was trained, which no stream can do, its chain does not
            make of its stream what its windows are, or ``calibrated`` finds no temperature.

    Example:
        >>> stream = Stream(Session.load("model.fusion"))  # doctest: +SKIP
        >>> for decision in stream.push("eeg", chunk, timestamps):  # doctest: +SKIP
        ...     print(decision.time, decision.label)
    """

    def __init__(
        self,
        session: Session,
        step: float | None = None,
        *,
        late: float | None = 0.25,
        hold: float | None = None,
        smoothing: Smoothing | None = None,
        debounce: Debounce | None = None,
        wearer: Wearer | None = None,
        calibrated: bool = False,
        without: Collection[str] = (),
        max_queue: int | None = None,
    ) -> None:
        self.session = session
        self.wearer = wearer or session.wearer() or Wearer(session)
        self.tracks: dict[str, Track] = {}
        self._calibrations: dict[str, Calibration] = {}
        for name in without:
            self._known(name)
        if calibrated:
            for name, task in session.tasks.items():
                check_calibrated(name, task)
        sensors = {name: sensor for name, sensor in session.sensors.items() if name not in without}
        for name, sensor in sensors.items():
            if sensor.sample_rate is not None:
                samples = sensor.longest if sensor.window is None else sensor.window.samples
                bank = sensor.align is not None and any(step["step"] == "bank" for step in sensor.chain or ())
                plain = session.chain(name, bank=False) if bank and name not in self.wearer.matrix else None
                self.tracks[name] = Track(name, sensor, session.chain(name), samples, plain)
                self._calibrations[name] = Calibration(name, sensor, self.tracks[name], self.wearer)
        if not self.tracks:
            what = f"none is left without {sorted(without)}" if without else "this bundle has none: use Session.predict"
            raise BundleError(f"a stream needs a sensor with time, but {what}")
        rates = {name: float(session.sensors[name].sample_rate or 0) for name in self.tracks}
        self._spans = {name: track.samples / rates[name] for name, track in self.tracks.items()}
        told = session.manifest.window
        self.window = max(self._spans.values()) if told.seconds is None else told.seconds
        self.step = step if step is not None else told.step if told.step is not None else self.window
        for key, value in (("step", self.step), ("late", late), ("hold", hold)):
            if value is not None and not (value >= 0 and (value > 0 or key == "late")):
                raise BundleError(f"{key} must be a time in seconds above 0, but got {value}")
        if max_queue is not None and max_queue < 1:
            raise BundleError(f"max_queue must be 1 or more, but got {max_queue}")
        self._late = inf if late is None else late
        self._held = {
            name: Held(name, sensor, self.window if hold is None else hold)
            for name, sensor in sensors.items()
            if sensor.sample_rate is None
        }
        for name in self._held:
            if session.sensors[name].statistics is not None and name not in self.wearer.running:
                raise BundleError(f"{name}: a stream cannot take statistics of what has no time: give it a wearer")
        self._max_queue, self._calibrated = max_queue, calibrated
        self._smoother = Smoother(smoothing)
        self._debouncer = Debouncer(debounce, session.tasks)
        self._lock = threading.RLock()
        self._start: float | None = None
        self._number = 0
        self._counts = Counts(session.sensors)

    @property
    def start(self) -> float | None:
        """Time of the first sample; None until the first decision could be due."""
        return self._start

    def push(self, sensor: str, values: Any, timestamps: Any = None) -> list[Decision]:
        """Take samples of one sensor, and make the decisions that are due.

        Args:
            sensor: its name.
            values: of a sensor with time, ``(samples, channels)`` as the source delivers them, before the chain, in
                the manifest's order of channels, unit and rate (`Sensor.stream`), NaN where a channel is off; of one
                without time, a value as `Session.predict` takes it, or a list of them where each has a timestamp.
            timestamps: of each sample in seconds, or of the first one; None counts on at the nominal rate, from 0. Of
                a value, the time from which it holds; None: now, the newest time of all sensors.

        Raises:
            BundleError: an unknown sensor, values or timestamps of another kind or shape, or the clocks of all sensors
                were set back before; nothing is taken then.
        """
        return self.push_all({sensor: (values, timestamps)})

    def push_all(self, chunks: Mapping[str, tuple[Any, Any]]) -> list[Decision]:
        """Take samples of several sensors, values and timestamps by name, before anything is decided.

        After a pause of the program, sensors are thus not late because another one was taken first.
        """
        arrived = clocks.monotonic()
        with self._lock:
            taken = [self._check(name, *chunk) for name, chunk in chunks.items()]
            for name, values, stamps in taken:
                self._take(name, values, stamps, arrived)
            return self._decide(self._due(wait=True))

    def flush(self) -> list[Decision]:
        """Make the decisions that wait for a sensor, without it."""
        with self._lock:
            return self._decide(self._due(wait=False))

    def absent(self, sensor: str) -> None:
        """A sensor has gone: decisions do not wait for it any longer, until it is pushed again.

        Raises:
            BundleError: there is no such sensor.
        """
        with self._lock:
            self._known(sensor)
            if sensor in self.tracks:
                self.tracks[sensor].living = False
            elif sensor in self._held:
                self._held[sensor].clear()

    @property
    def health(self) -> Health:
        """Counters so far."""
        with self._lock:
            return self._counts.health(self.tracks, self._held)

    def _known(self, sensor: str) -> None:
        if sensor not in self.session.sensors:
            raise BundleError(f"no sensor named {sensor!r}; known: {sorted(self.session.sensors)}")

    def _comes(self, sensor: str) -> None:
        self._known(sensor)
        if sensor not in self.tracks and sensor not in self._held:
            raise BundleError(f"{sensor}: a sensor must not be left out (without) to be pushed, but it is")

    def _check(self, name: str, values: Any, timestamps: Any) -> tuple[str, Any, Any]:
        """Refuse what cannot be taken, before anything is."""
        self._comes(name)
        if name in self.tracks:
            track = self.tracks[name]
            self._goes_on()
            array = track.check(values)
            try:
                return name, array, track.clock.stamps(len(array), timestamps, 0.0)
            except BundleError as error:
                raise BundleError(f"{name}: {error}") from None
        if timestamps is None:
            timestamps = self._newest() if self._newest() > -inf else 0.0
        if np.ndim(timestamps) == 0:
            values, timestamps = [values], [timestamps]
        stamps = np.asarray(timestamps, np.float64)
        if stamps.shape != (len(values),) or not (np.abs(stamps) <= LATEST).all():
            raise BundleError(f"{name}: timestamps must be seconds, one for each of {len(values)} values, but are not")
        return name, [self._held[name].check(value) for value in values], stamps

    def _take(self, name: str, values: Any, stamps: Any, arrived: float) -> None:
        if name in self._held:
            for value, stamp in zip(values, stamps, strict=True):
                self._held[name].push(value, float(stamp))
            return
        track = self.tracks[name]
        others = [other.time for other in self.tracks.values() if other is not track and other.begun and other.living]
        latest = max(others) + LARGEST_LEAD if others else inf
        last = all(other.clock.back for other in self.tracks.values() if other is not track and other.begun)
        track.push(values, stamps, latest=latest, last=last, arrived=arrived)
        if track.clock.back:
            track.living = False
        elif not track.living and track.begun:  # it is waited for again once it has caught up
            track.living = self._start is None or track.time >= self._time(self._number - 1)

    def _goes_on(self) -> None:
        """Raises BundleError where all clocks were set back."""
        for name, track in self.tracks.items():
            if track.clock.over is not None:
                due, said = track.clock.over
                raise BundleError(
                    f"{name}: timestamps must go on at {due:g} s, but the clocks of all sensors were set back, to {said:g} "
                    "s: begin a new stream"
                )

    def _newest(self) -> float:
        return max(track.time for track in self.tracks.values())

    def _time(self, number: int) -> float:
        assert self._start is not None
        return self._start + self.window + number * self.step

    def _due(self, *, wait: bool) -> list[tuple[int, set[str]]]:
        """Decisions that can be made now, with the sensors whose samples have come; none of them is due again."""
        due: list[tuple[int, set[str]]] = []
        if self._start is None and not self._begin(wait=wait):
            return due
        while True:
            time = self._time(self._number)
            ready = {name for name, track in self.tracks.items() if track.ready(time - self._spans[name])}
            waiting = [track for name, track in self.tracks.items() if name not in ready and track.living]
            if not ready or (wait and waiting and self._newest() < time + self._late):
                return due
            for track in waiting:
                track.living = False
            self._counts.late(self.tracks.keys() - ready)
            passed = self._nothing(time, ready)
            if passed:
                self._counts.empty += passed
                self._number += passed
                continue
            due.append((self._number, ready))
            self._number += 1

    def _nothing(self, time: float, ready: set[str]) -> int:
        """How many decisions from one about a time on lie in long gaps of all sensors, so that hours pass in no time."""
        resumed = min(self.tracks[name].resumes(time - self._spans[name]) for name in ready)
        resumed = min(resumed, *(held.resumes(time) for held in self._held.values()), inf)
        if resumed <= time:
            return 0
        return max(1, ceil((resumed - time) / self.step))

    def _begin(self, *, wait: bool) -> bool:
        """Set the start once all sensors have begun, or those that have not are late."""
        begun = [track for track in self.tracks.values() if track.begun]
        if not begun:
            return False
        start = min(track.clock.lines[0].time for track in begun)
        lacking = any(track.living and not track.begun for track in self.tracks.values())
        if wait and lacking and self._newest() < start + self.window + self._late:
            return False
        self._start = start
        return True

    def _decide(self, due: list[tuple[int, set[str]]]) -> list[Decision]:
        self._counts.queue = max(self._counts.queue, len(due))
        if self._max_queue is not None and len(due) > self._max_queue:
            self._counts.skipped += len(due) - self._max_queue
            due = due[-self._max_queue :]
        made = [decision for number, ready in due if (decision := self._answer(number, ready)) is not None]
        if due:
            self._forget()
        return made

    def _answer(self, number: int, ready: set[str]) -> Decision | None:
        time = self._time(number)
        needed = {name: self.tracks[name].first(time - self._spans[name]) + self.tracks[name].samples for name in ready}
        waiting = {name for name, last in needed.items() if not self._calibrations[name].reach(last)}
        if waiting and not self._counts.decisions:
            self._counts.calibrating += 1
            return None
        windows = {name: value for name, held in self._held.items() if (value := held.at(time)) is not None}
        for name in ready - waiting:
            sensor, track = self.session.sensors[name], self.tracks[name]
            window = fill(track.window(needed[name] - track.samples), lacks=sensor.lacks)
            if window is not None:
                windows[name] = self.wearer.aligned(name, as_window(sensor, window))
        self._counts.seen(windows)
        if not windows:
            self._counts.empty += 1
            return None
        statistics = {name: of for name, of in self.wearer.statistics.items() if name in windows}
        asked = self.session.predict(windows, statistics=statistics, calibrated=self._calibrated)
        raw = {task: answer[0] for task, answer in asked.items()}
        self._update(windows, needed)
        answers = self._smoother.push(number, raw)
        label, confidence = self._debouncer.push(time, answers)
        now = clocks.monotonic()
        came = [self.tracks[name].arrived(needed[name]) for name in windows if name in needed]
        lag = now - max(came, default=now)
        self._counts.decided(lag)
        present = {name: name in windows for name in self.session.sensors}
        return Decision(time, number, answers, raw, label, confidence, present, lag)

    def _update(self, windows: Mapping[str, Any], needed: Mapping[str, int]) -> None:
        """Let statistics that go on see windows that were decided, but those that share samples with the segment."""
        for name, last in needed.items():
            update = self.session.sensors[name].normalise.update
            if update and name in windows and last - self.tracks[name].samples >= self._calibrations[name].end:
                self.wearer.normalise_by(name, windows[name])

    def _forget(self) -> None:
        """Let go of what no later decision sees."""
        time = self._time(self._number)
        for name, track in self.tracks.items():
            if not track.begun:
                continue
            first = track.first(time - self._spans[name]) - 1
            track.keep(first if self._calibrations[name].done else min(first, self._calibrations[name].first))
        for held in self._held.values():
            held.keep(time)
