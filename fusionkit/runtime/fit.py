"""Whether a stream is what a sensor wants: which one it is, and how its samples become those of the manifest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np

from fusionkit.runtime.description import FORMATS, Channel, Description, shown
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Sensor, Source

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-3
"""By how much the rate that a stream gives may differ from the manifest's; how fast it really is, `Stream` measures."""

DECISION = "Decision"
"""Type of our own streams of answers, which are never taken for a sensor."""

_PREFIXES = {"": 1.0, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9}
_SHORT = {"": "", "milli": "m", "micro": "u", "nano": "n"}
VOLTS = {
    word: factor
    for prefix, factor in _PREFIXES.items()
    for word in (f"{prefix}volt", f"{prefix}volts", f"{_SHORT[prefix]}v")
} | {"µv": 1e-6, "μv": 1e-6}
"""Volts in one of each unit, in small letters; the two signs of micro are Unicode's."""


@dataclass(frozen=True)
class Fit:
    """Bring samples of a stream ``(time, channel)`` to what the manifest's sensor takes.

    Attributes:
        text: rows of text, of which the first column counts; the others do not matter then.
        order: which channels of the stream, in the manifest's order.
        factor: by which each of them is multiplied.
        mean: one signal is wanted, and it is the mean of these channels.
    """

    text: bool
    order: tuple[int, ...] = ()
    factor: tuple[float, ...] = ()
    mean: bool = False

    def __call__(self, values: Any) -> Any:
        """Samples in float32, or in float64 where the stream has more digits; texts as a list."""
        if self.text:
            return [str(row[0]) for row in values]
        exact = np.float32 if values.dtype in (np.float32, np.int8, np.int16) else np.float64
        chosen: Array = values if self._straight(values) else values[:, self.order]
        with np.errstate(over="ignore", invalid="ignore"):  # what cannot be is lost in the stream, without a word
            chosen = chosen.astype(exact)
            if any(one != 1 for one in self.factor):
                chosen *= np.array(self.factor, exact)
            return chosen.mean(1, keepdims=True) if self.mean else chosen

    def _straight(self, values: Array) -> bool:
        return self.order == tuple(range(values.shape[1]))


def choose(name: str, sensor: Sensor, streams: Sequence[Description], wanted: str | None = None) -> int | None:
    """Which stream is a sensor's: by ``wanted`` (a name or a source's id), else by the sensor's name, else by type.

    Letters may be large or small. The type is that of the sensor's name or kind: ``eeg`` takes a stream of type EEG.

    Returns:
        Its place among ``streams``; None where there is none.

    Raises:
        BundleError: there are several.
    """
    if wanted is None:
        rules = [
            [one.name.lower() == name.lower() for one in streams],
            [one.type.lower() in (name.lower(), sensor.kind) for one in streams],
        ]
    else:
        rules = [[one.name == wanted for one in streams], [one.source_id == wanted for one in streams]]
    for rule in rules:
        found = [place for place, one in enumerate(streams) if rule[place] and one.type != DECISION]
        if len(found) > 1:
            same = len({streams[place].name for place in found}) == 1
            names = ", ".join(repr(streams[place].source_id if same else streams[place].name) for place in found)
            what = "a source id" if same else "a name"
            raise BundleError(f"{name}: there must be one stream for it, but there are {names}: choose one by {what}")
        if found:
            return found[0]
    return None


def fit(name: str, sensor: Sensor, stream: Description, unit: str | None = None) -> Fit:
    """Check a stream against the manifest.

    Args:
        name: of the sensor.
        sensor: what the manifest says.
        stream: what the stream says.
        unit: what its samples are in, where it does not say.

    Raises:
        BundleError: samples of another kind, another rate, no such channels, or a unit that is not known.
    """
    where = f"{name}: stream {stream.name!r}"
    if is_text(sensor):
        if stream.format != "string":
            raise BundleError(f"{where} must be of text, but its samples are {stream.format}")
        return Fit(text=True)
    source = check_streams(name, sensor)
    if stream.format == "string":
        raise BundleError(f"{where} must be of numbers, but its samples are text")
    got = "none" if stream.sample_rate is None else f"{stream.sample_rate:g}"
    if stream.sample_rate is None or not isclose(stream.sample_rate, source.sample_rate or 0, rel_tol=TOLERANCE):
        raise BundleError(f"{where} must have a rate of {source.sample_rate:g} Hz, but has {got}")
    order = _order(where, source, stream.channels)
    factors = [_factor(where, source.unit, stream.channels[place], unit) for place in order]
    if sensor.kind == "audio":  # sound is from -1 to 1, as it was when it was read from a file
        kind = FORMATS[stream.format]
        factors = [1 / 2.0 ** (8 * kind.itemsize - 1) if kind.kind == "i" else 1.0] * len(order)
    return Fit(False, tuple(order), tuple(factors), mean=not source.channels and len(order) > 1)


def delivered(name: str, sensor: Sensor, stream: Description, how: Fit) -> Description:
    """What comes out of a fit, as a stream that says of itself what the manifest wants."""
    if how.text or sensor.stream is None:
        return Description(name, sensor.kind, (Channel("text"),), None, "string", stream.source_id)
    exact = FORMATS[stream.format] in (FORMATS["float32"], FORMATS["int8"], FORMATS["int16"])
    unit = sensor.stream.unit
    channels = tuple(Channel(label, unit, sensor.kind) for label in sensor.stream.channels or (name,))
    format_ = "float32" if exact else "double64"
    return Description(name, sensor.kind, channels, sensor.stream.sample_rate, format_, stream.source_id)


def check_streams(name: str, sensor: Sensor) -> Source:
    """What a stream must deliver for a sensor.

    Raises:
        BundleError: it cannot come as a stream.
    """
    if sensor.stream is None or sensor.chain is None:
        raise BundleError(f"{name}: a stream needs causal steps, but this sensor looked ahead when it was trained")
    if sensor.stream.sample_rate is None:
        raise BundleError(f"{name}: a stream of samples needs a rate, but this sensor ({sensor.kind}) has none")
    return sensor.stream


def is_text(sensor: Sensor) -> bool:
    """Whether a sensor takes sentences."""
    return sensor.layout == "token"


def check_given(names: Mapping[str, str], units: Mapping[str, str], sensors: Iterable[str]) -> None:
    """Refuse streams and units that are given for no sensor, and units that are not known.

    Raises:
        BundleError: there is such a one.
    """
    known = sorted(sensors)
    for given, what in ((names, "a source"), (units, "a unit")):
        for name in given:
            if name not in known:
                raise BundleError(f"{what} must be given for a sensor, but got {name!r}; known: {known}")
    for name, unit in units.items():
        if unit.lower() not in VOLTS:
            raise BundleError(f"{name}: a unit must be volts, millivolts, microvolts or nanovolts, but got {unit!r}")


def _order(where: str, source: Source, channels: Sequence[Channel]) -> list[int]:
    labels = [one.label for one in channels]
    if len(source.channels) <= 1 and (len(labels) == 1 or not source.channels):
        return list(range(len(labels)))  # one signal: whatever it is called; sound of two channels is averaged
    if not any(labels):
        raise BundleError(f"{where} must say the names of its {len(labels)} channels, but gives none")
    small = [label.lower() for label in labels]
    order, missing = [], []
    for wanted in source.channels:
        exact = [place for place, label in enumerate(labels) if label == wanted]
        alike = exact or [place for place, label in enumerate(small) if label == wanted.lower()]
        if len(alike) > 1:
            raise BundleError(f"{where} must have one channel {wanted!r}, but has {len(alike)}")
        order += alike
        missing += [] if alike else [wanted]
    if missing:
        names = shown(", ".join(label[:40] for label in labels[:20])) + (" ..." if len(labels) > 20 else "")
        raise BundleError(f"{where} must have the channels {', '.join(missing)}, but has {names}")
    return order


def _factor(where: str, wanted: str, channel: Channel, given: str | None) -> float:
    """What makes samples of a channel those of the manifest; only voltages are converted."""
    unit = given or channel.unit
    if not wanted or unit == wanted:
        return 1.0
    if wanted.lower() in VOLTS and unit.lower() in VOLTS:
        return VOLTS[unit.lower()] / VOLTS[wanted.lower()]
    label = shown(channel.label[:40]) or "its channel"
    said = f"is in {unit!r}" if unit else "does not say"
    raise BundleError(f"{where} must say a unit that becomes {wanted} for {label}, but {said}: give one")
