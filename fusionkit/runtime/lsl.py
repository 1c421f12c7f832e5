"""Lab Streaming Layer: sensors from the network, decisions to it (extra ``lsl``)."""

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fusionkit.runtime.description import Description, read_description
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.feed import Change, Chunk, Feed
from fusionkit.runtime.fit import Fit, check_given, check_streams, choose, delivered, fit, is_text
from fusionkit.runtime.manifest import Sensor

Array = np.ndarray[Any, Any]

BUFFER = 30
"""Seconds that liblsl keeps for us."""
WAITING = 1000
"""Chunks that may wait for us; then liblsl keeps them, and drops the oldest."""
PULL = 0.2
"""Seconds that a receiver waits for samples, so that it hears that it should stop."""
FORGET = 3.0
"""Seconds after which a stream that does not answer is no more."""
SETTLING = 1.0
"""Seconds that a sensor without a name given is looked for at least, so that a second stream of its type is seen."""
OPENING = 5.0
"""Seconds that a stream may take to answer."""
CORRECTION = 5.0
"""Seconds between two looks at the offset of a stream's clock, which liblsl measures as often."""
PLACES = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")
"""Where liblsl looks for its settings."""


class LslFeed(Feed):
    """Sensors from LSL streams: found by name or type, checked against the manifest, and found again when they return.

    Every sensor has a thread that pulls its stream, so that no chunk waits for another. Timestamps are brought to the
    clock of this machine by the stream's time correction, so that sensors of several machines share it. A stream
    whose connection breaks is a `Change`; meanwhile it is looked for, and it may return as another outlet.

    A sensor of sentences takes a stream of text, where there is one, and is absent elsewhere; one of images is absent.

    Args:
        sensors: of the manifest.
        names: by sensor, name or source id of its stream, where it is not told by its name or type (see `choose`).
        units: by sensor, what samples are in where the stream does not say.
        without: sensors that are not asked for.
        wait: seconds to look for streams, at least one, so that a second stream of a type is seen.

    Raises:
        BundleError: a stream is not found or does not fit, or pylsl is not installed.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        *,
        names: Mapping[str, str] = MappingProxyType({}),
        units: Mapping[str, str] = MappingProxyType({}),
        without: Sequence[str] = (),
        wait: float = 10.0,
    ) -> None:
        pylsl = load_pylsl()
        check_given(names, units, sensors)
        self.sensors, self.notes = {}, []
        self._clock = pylsl.local_clock
        self._heard: queue.Queue[Chunk | Change | Exception] = queue.Queue(WAITING)
        self._stop = threading.Event()
        self._resolver = pylsl.ContinuousResolver(pred="name!=''", forget_after=FORGET)
        self._receivers: list[_Receiver] = []
        asked = {}
        for name, sensor in sensors.items():
            if name in without:
                continue
            if not is_text(sensor) and sensor.stream is not None and sensor.stream.sample_rate is None:
                self.notes.append(f"{name}: absent, for LSL carries no {sensor.kind}")
                continue
            if not is_text(sensor):
                check_streams(name, sensor)
            asked[name] = _Wanted(name, sensor, names.get(name), units.get(name))
        try:
            self._open(asked, wait)
        except BaseException:
            self.close()
            raise
        for receiver in self._receivers:
            receiver.start()

    def next(self, timeout: float) -> Chunk | Change | None:
        try:
            heard = self._heard.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(heard, Exception):
            raise heard
        return heard

    def now(self) -> float:
        """The clock of LSL on this machine."""
        return float(self._clock())

    def waiting(self) -> int:
        """Chunks that have arrived and are not taken."""
        return self._heard.qsize()

    def close(self) -> None:
        """Leave all streams."""
        self._stop.set()
        for receiver in self._receivers:
            if receiver.is_alive():
                receiver.join(2 * PULL + OPENING)

    def _open(self, asked: Mapping[str, "_Wanted"], wait: float) -> None:
        missing, began = dict(asked), time.monotonic()
        while missing:
            streams = _visible(self._resolver)
            settled = time.monotonic() - began >= SETTLING
            for name, wanted in list(missing.items()):
                if wanted.source is None and not settled:
                    continue
                place = choose(name, wanted.sensor, [one for one, _ in streams], wanted.source)
                if place is None:
                    continue
                receiver = _Receiver(wanted, self._resolver, self._heard, self._stop)
                if receiver.open(streams[place][1]):
                    del missing[name]
                    self._receivers.append(receiver)
                    self.sensors[name] = delivered(name, wanted.sensor, receiver.description, receiver.fit)
                    self.notes += receiver.notes
            needed = [one for one in missing.values() if not is_text(one.sensor) or one.source]
            if not needed and (not missing or (self.sensors and settled)):
                break
            if settled and time.monotonic() - began > wait:
                seen = ", ".join(sorted({repr(one.name) for one, _ in streams})) or "no stream"
                one = (needed or list(missing.values()))[0]
                what = f"named {one.source!r}" if one.source else f"named {one.name!r} or of type {one.sensor.kind!r}"
                raise BundleError(
                    f"{one.name}: there must be a stream {what}, but after {max(wait, SETTLING):g} s there is {seen}"
                )
            time.sleep(0.05)
        for name in missing:
            self.notes.append(f"{name}: absent, for there is no stream of text for it")
        if not self.sensors:
            raise BundleError("at least one sensor must come as a stream, but none does")


class _Wanted(NamedTuple):
    """A sensor and where it shall come from."""

    name: str
    sensor: Sensor
    source: str | None
    unit: str | None


class _Receiver(threading.Thread):
    """Pulls the stream of one sensor for as long as there is one, and looks for it when there is none."""

    def __init__(
        self, wanted: _Wanted, resolver: Any, heard: "queue.Queue[Chunk | Change | Exception]", stop: threading.Event
    ) -> None:
        super().__init__(name=f"lsl-{wanted.name}", daemon=True)
        self.wanted, self.notes = wanted, list[str]()
        self.fit: Fit
        self.description: Description
        self._resolver, self._heard, self._stop_ = resolver, heard, stop
        self._pylsl = load_pylsl()
        self._gone = (self._pylsl.util.LostError, self._pylsl.util.InternalError)
        self._inlet: Any = None
        self._lost = ("", 0.0)
        self._said = (True, "")

    def open(self, info: Any) -> bool:
        """Connect to a stream and check it; False where it does not answer.

        Raises:
            BundleError: it does not fit.
        """
        name = self.wanted.name
        inlet = self._pylsl.StreamInlet(info, max_buflen=BUFFER, recover=False)
        try:
            xml = inlet.info(timeout=OPENING).as_xml()
            described = read_description(xml.encode(), name)
            self.fit = fit(name, self.wanted.sensor, described, self.wanted.unit)
            inlet.open_stream(timeout=OPENING)
        except (*self._gone, TimeoutError):
            return False
        self.description, self._inlet = described, inlet
        self._correction, self._corrected = 0.0, -CORRECTION
        try:
            self._correction = inlet.time_correction(timeout=OPENING)
        except (*self._gone, TimeoutError):
            self.notes.append(f"{name}: its clock could not be compared with ours, so that its times stand as they are")
        return True

    def run(self) -> None:
        try:
            self._inlet.flush()  # what came while the others were looked for
            self._follow()
        except Exception as error:  # noqa: BLE001 - told to whoever reads, who would wait for ever otherwise
            self._put(error)

    def _follow(self) -> None:
        while not self._stop_.is_set():
            if self._inlet is None:
                self._look()
                continue
            try:
                self._pull()
            except self._gone:
                self._lost = (self.description.uid, time.monotonic())
                self._inlet = None
                self._say(False, f"stream {self.description.name!r} has gone")

    def _pull(self) -> None:
        text = self.fit.text
        values, stamps = self._inlet.pull_chunk(timeout=PULL, max_samples=1024, min_samples=1, as_numpy=not text)
        if not len(stamps):
            return
        now = time.monotonic()
        if now - self._corrected >= CORRECTION:
            self._corrected = now
            with suppress(TimeoutError):
                self._correction = self._inlet.time_correction(timeout=0.01)
        self._put(Chunk(self.wanted.name, self.fit(values), np.asarray(stamps) + self._correction))

    def _look(self) -> None:
        """Find the stream again, maybe as another outlet."""
        self._stop_.wait(0.05)
        streams = _visible(self._resolver)
        uid, when = self._lost
        if time.monotonic() - when < FORGET + 1:  # it may still be listed
            streams = [one for one in streams if one[0].uid != uid]
        try:
            place = choose(self.wanted.name, self.wanted.sensor, [one for one, _ in streams], self.wanted.source)
            if place is not None:
                self._lost = (streams[place][0].uid, time.monotonic())
                if self.open(streams[place][1]):
                    self._say(True, f"stream {self.description.name!r} is back")
        except BundleError as error:
            self._say(False, str(error))
            self._stop_.wait(1.0)

    def _say(self, present: bool, note: str) -> None:
        """Tell of a change, the same one once."""
        if (present, note) == self._said:
            return
        self._said = (present, note)
        self._put(Change(self.wanted.name, present, note, float(self._pylsl.local_clock())))

    def _put(self, one: Chunk | Change | Exception) -> None:
        while not self._stop_.is_set():
            try:
                self._heard.put(one, timeout=PULL)
                return
            except queue.Full:
                continue


class LslOutlet:
    """Publish samples, each with its own time.

    Args:
        description: of the stream.

    Raises:
        BundleError: pylsl is not installed.
    """

    def __init__(self, description: Description) -> None:
        pylsl = load_pylsl()
        info = pylsl.StreamInfo(
            description.name,
            description.type,
            len(description.channels),
            description.sample_rate or pylsl.IRREGULAR_RATE,
            description.format,
            description.source_id,
        )
        desc = info.desc()
        for key, value in description.about:
            desc.append_child_value(key, value)
        channels = desc.append_child("channels")
        for one in description.channels:
            channel = channels.append_child("channel")
            for key, value in (("label", one.label), ("unit", one.unit), ("type", one.type)):
                channel.append_child_value(key, value)
        self._outlet = pylsl.StreamOutlet(info)

    def push(self, sample: Sequence[float], time: float) -> None:
        """Send one sample, of a time on the clock of LSL."""
        self._outlet.push_sample(sample, time)

    def heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._outlet.have_consumers())


def load_pylsl() -> Any:
    """The library, loaded where it is needed; without messages of its own unless its settings ask for them.

    Raises:
        BundleError: it is not installed, or liblsl is not found.
    """
    try:
        import pylsl
    except ImportError:
        raise BundleError("LSL needs pylsl, but it is not installed: pip install 'fusionkit-torch[lsl]'") from None
    except (OSError, RuntimeError) as error:
        raise BundleError(f"LSL needs liblsl, but it cannot be loaded: {error}") from None
    _hush(pylsl)
    return pylsl


_hushed = threading.Event()


def _hush(pylsl: Any) -> None:
    if _hushed.is_set():
        return
    _hushed.set()
    if "LSLAPICFG" not in os.environ and not any(Path(place).expanduser().is_file() for place in PLACES):
        pylsl.set_config_content("[log]\nlevel = -3\n")


def _visible(resolver: Any) -> list[tuple[Description, Any]]:
    """Streams that can be seen now; those that say what no stream may be are none."""
    found = []
    for info in resolver.results():
        try:
            found.append((read_description(info.as_xml().encode(), "a stream"), info))
        except BundleError:
            continue
    return found
