"""What a bundle must know of the person who wears the sensors: how windows are aligned, what features are normalised by."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.runtime.alignment import MeanCovariance, align, alignment_matrix, calibrate_alignment
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.features import FeatureGraphs
from fusionkit.runtime.reference import read_arrays
from fusionkit.runtime.statistics import RunningStatistics

if TYPE_CHECKING:
    from fusionkit.runtime.session import Session

Array = np.ndarray[Any, Any]
PARTS = ("count", "mean", "square")
ORIGIN = ("kind", "layout", "shape", "sample_rate", "channels", "unit", "align", "normalise", "statistics", "chain")
"""What of a sensor a wearer's numbers depend on, beside its graph of features."""
LIMIT_BYTES = 2**28
LARGEST = 1e30
"""What a number of a wearer may be, so that its shift and scale are numbers in float32."""


class Wearer:
    """A person's alignment and statistics, taken from windows by the graphs of a bundle alone.

    Of a calibration segment (where the manifest gives ``seconds``): `align_by`, then `normalise_by` with the segment as
    one long window, in that order, for statistics are those of aligned windows. Of a whole recording, which no stream
    can do: `align_by_all` and `normalise_by` with all of its windows. Statistics go on with every later call of
    `normalise_by`, as ``normalise.update`` wants it: ask for `statistics` first, so that no window is its own measure.

    Args:
        session: of the bundle.
        graphs: that features are made by; several wearers of one bundle may share them.

    Attributes:
        matrix: by sensor that is aligned, ``(channel, channel)``.
        running: by sensor that is normalised by the wearer, what was seen of its features.

    Example:
        >>> wearer = Wearer(session)  # doctest: +SKIP
        >>> wearer.normalise_by("eeg", first_minute)  # doctest: +SKIP
        >>> session.predict({"eeg": window}, statistics=wearer.statistics)  # doctest: +SKIP
    """

    def __init__(self, session: "Session", graphs: FeatureGraphs | None = None) -> None:
        self.session = session
        self._graphs = graphs or FeatureGraphs(session)
        self.matrix: dict[str, Array] = {}
        self.running: dict[str, RunningStatistics] = {}

    @property
    def lacks(self) -> list[str]:
        """Sensors that are asked for an alignment or statistics which are not taken yet."""
        return [
            name
            for name, sensor in self.session.sensors.items()
            if (sensor.align is not None and name not in self.matrix)
            or (sensor.statistics is not None and name not in self.running)
        ]

    @property
    def statistics(self) -> dict[str, tuple[Array, Array]]:
        """Shift and scale ``(channel, subchannel)`` by sensor, as `Session.predict` takes them."""
        return {name: (one.shift, one.scale) for name, one in self.running.items()}

    def align_by(self, name: str, segment: Array) -> None:
        """Take the alignment from a calibration segment ``(channel, time)``, without the filters of bands.

        Raises:
            BundleError: the sensor is not aligned, or the segment has other axes or no more samples than channels.
        """
        options = self._aligned_sensor(name)
        segment = self._channels(name, segment)
        if segment.shape[1] <= len(segment):
            raise BundleError(
                f"{name}: a segment must have more samples than channels to align by, {len(segment)}, but has "
                f"{segment.shape[1]}"
            )
        self.matrix[name] = calibrate_alignment(segment, options.samples, options.scale).astype(np.float32)

    def align_by_all(self, name: str, windows: Iterable[Array]) -> None:
        """Take the alignment from all windows ``(channel, time)`` of a person: transductive, for no stream knows them.

        Raises:
            BundleError: the sensor is not aligned, a window has other axes, or there is none.
        """
        options, covariance = self._aligned_sensor(name), None
        for window in windows:
            window = self._channels(name, window)
            covariance = covariance or MeanCovariance(len(window))
            covariance.update(window)
        if covariance is None:
            raise BundleError(f"{name}: at least one window must be given to align by, but there is none")
        self.matrix[name] = alignment_matrix(covariance.value, options.scale).astype(np.float32)

    def aligned(self, name: str, window: Array) -> Array:
        """One window ``(channel, ..., time)`` as the graph takes it; as it is where the sensor is not aligned.

        Raises:
            BundleError: no such sensor, or its alignment is not taken yet.
        """
        if self._sensor(name).align is None:
            return np.asarray(window)
        if name not in self.matrix:
            raise BundleError(f"{name}: the wearer's alignment must be taken before windows are aligned (align_by)")
        return align(self.matrix[name], np.asarray(window))

    def normalise_by(self, name: str, windows: Array, lengths: Array | None = None) -> None:
        """Let statistics see the features of one window, or of a batch, aligned where the manifest asks for it.

        Args:
            name: the sensor.
            windows: one window of any length, or a batch of them.
            lengths: real samples of each; default all.

        Raises:
            BundleError: the sensor is not normalised by its wearer, or windows are of another shape.
        """
        self.see(name, self.features(name, windows, lengths))

    def features(self, name: str, windows: Array, lengths: Array | None = None) -> Array:
        """Features ``(step, channel, subchannel)`` of all real steps of some windows.

        Raises:
            BundleError: as `normalise_by`.
        """
        self._sensor(name)
        features, real = self._graphs(name, windows, lengths)
        made: Array = features[real]
        return made

    def see(self, name: str, features: Array) -> None:
        """Let statistics see features ``(step, channel, subchannel)``; NaN, which was not measured, is not counted."""
        self.running.setdefault(name, RunningStatistics(features.shape[1:])).update(features)

    def to_bytes(self) -> bytes:
        """As a NumPy archive: no samples, only what was taken of them, and a digest of the sensor that it is true of."""
        arrays: dict[str, Any] = {f"{name}.matrix": matrix for name, matrix in self.matrix.items()}
        for name in {**self.matrix, **self.running}:
            arrays[f"{name}.origin"] = _origin(self.session, name)
        for name, one in self.running.items():
            arrays |= {f"{name}.{part}": getattr(one, part) for part in PARTS}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # counts pack so well that a reader would take them for a bomb
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Keep it for the next time that this person comes."""
        Path(path).write_bytes(self.to_bytes())

    @staticmethod
    def load(session: "Session", path: str | Path) -> "Wearer":
        """Take back what `save` kept.

        Raises:
            BundleError: it is no such file, or of a bundle whose sensors or graphs of features are others.
        """
        path = Path(path)
        try:
            if path.stat().st_size > LIMIT_BYTES:
                raise BundleError(f"{path}: a wearer must have at most {LIMIT_BYTES} bytes, but has more")
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{path}: a wearer must be a file that can be read, but {error.strerror or error}"
            ) from None
        return Wearer.from_bytes(session, content, str(path), alone=True)

    @staticmethod
    def from_bytes(session: "Session", content: bytes, where: str, *, alone: bool = False) -> "Wearer":
        """Take back what `to_bytes` gave.

        Args:
            session: of the bundle that it was taken by.
            content: what `to_bytes` gave.
            where: what the user calls it.
            alone: it must say of itself which sensors it is true of, for it does not lie in the bundle.

        Raises:
            BundleError: as `load`.
        """
        made = Wearer(session)
        known: dict[str, tuple[int, ...]] = {}
        for name, sensor in session.sensors.items():
            if sensor.align is not None:
                known[f"{name}.matrix"] = (len(sensor.channels),) * 2
            if sensor.statistics is not None:
                known |= {f"{name}.{part}": tuple(sensor.statistics) for part in PARTS}
            if sensor.align is not None or sensor.statistics is not None:
                known[f"{name}.origin"] = (hashlib.sha256().digest_size,)
        arrays = _read(content, known, where)
        for key, values in arrays.items():
            name, part = key.rsplit(".", 1)
            if part == "origin":
                continue
            origin = arrays.get(f"{name}.origin")
            if alone if origin is None else not np.array_equal(origin, _origin(session, name)):
                what = "but does not say of which" if origin is None else "but is of another bundle's"
                raise BundleError(f"{where}: a wearer must be of this bundle's {name}, {what}: calibrate it anew")
            if part == "matrix":
                made.matrix[name] = values.astype(np.float32)
                continue
            missing = [one for one in PARTS if f"{name}.{one}" not in arrays]
            if missing:
                raise BundleError(f"{where}: a wearer must have {name}.{missing[0]} beside {key}, but has not")
            running = made.running.setdefault(name, RunningStatistics(known[key]))
            setattr(running, part, values.astype(np.float64))
        return made

    def _sensor(self, name: str) -> Any:
        if name not in self.session.sensors:
            raise BundleError(f"no sensor named {name!r}; known: {sorted(self.session.sensors)}")
        return self.session.sensors[name]

    def _aligned_sensor(self, name: str) -> Any:
        options = self._sensor(name).align
        if options is None:
            raise BundleError(f"{name}: a sensor must be aligned (align) to take an alignment, but is not")
        return options

    def _channels(self, name: str, values: Array) -> Array:
        values, channels = np.asarray(values), len(self._sensor(name).channels)
        if values.ndim != 2 or len(values) != channels or values.dtype.kind not in "iuf":
            raise BundleError(
                f"{name}: what is aligned by must be numbers ({channels} channels, time), but is {values.dtype} "
                f"{list(values.shape)}"
            )
        return values


def _origin(session: "Session", name: str) -> Array:
    """SHA-256 of what a wearer's numbers of a sensor depend on, as bytes."""
    told = {key: getattr(session.sensors[name], key) for key in ORIGIN}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode())
    digest.update(session.files.get(f"features/{name}.onnx", b""))
    return np.frombuffer(digest.digest(), np.uint8)


def _plain(told: Any) -> dict[str, Any]:
    """A part of a manifest as JSON has it."""
    return dict(told if isinstance(told, Mapping) else vars(told))


def _read(content: bytes, known: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Array]:
    """Arrays of a NumPy archive, each of a known name and shape."""
    found = read_arrays(content, f"{where}: a wearer")
    unknown = sorted(found.keys() - known.keys())
    if unknown:
        raise BundleError(f"{where}: a wearer must be of this bundle's sensors, but has {unknown[0][:60]!r}")
    for name, values in found.items():
        if name.endswith(".origin"):
            if values.shape != known[name] or values.dtype != np.uint8:
                raise BundleError(f"{where}: {name} must be a digest of {known[name][0]} bytes, but is {values.dtype}")
            continue
        if values.shape != known[name] or values.dtype.kind != "f" or not np.isfinite(values).all():
            raise BundleError(
                f"{where}: {name} must be finite numbers of shape {list(known[name])}, but is {values.dtype} "
                f"{list(values.shape)}"
            )
        counted = name.endswith((".count", ".square"))
        if (np.abs(values) > LARGEST).any() or (counted and (values < 0).any()):
            raise BundleError(f"{where}: {name} must be from {0 if counted else -LARGEST:g} to {LARGEST:g}, but is not")
    return found
