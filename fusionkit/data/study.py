"""A study: one HDF5 file with the records, and per sensor every stored sample once.

Layout (attributes in brackets)::

    /                 [format="fusionkit-study", version, digest]
    /settings         text: what it was ingested with
    /records/         id subject session trial recording: text (record,)
                      label_names (label,), labels (label, record): text, empty where missing
                      [unlabelled: how many of the last records a second source adds; not there for 0]
    /sensors/<name>/  [kind, unit; sample_rate where it has time]
                      values (total, *item): contiguous, time first
                      offset, count, recording: int64 (record,), offset and recording -1 where the sensor is lacking
                      recording_name, recording_offset, recording_count, recording_digest: (recording,)
                      channels: text (channel,), may be empty
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from jaxtyping import Bool

from fusionkit.core.errors import DataError, FusionkitError, UnknownNameError
from fusionkit.core.recording import Array, Stored
from fusionkit.data.records import ROLES, Records

__all__ = ["FORMAT", "VERSION", "Records", "StoredSensor", "Study", "sample_digest", "study_settings"]

FORMAT = "fusionkit-study"
VERSION = 1


@dataclass(frozen=True, eq=False)
class StoredSensor:
    """One sensor of a study.

    Attributes:
        stored: what all of its recordings share.
        offset: first stored sample of each record's window; -1 where the record lacks the sensor.
        count: how many stored samples the window has; 0 where it is lacking.
        recording: index of the stored recording the window lies in; -1 where it is lacking.
        recording_name: where each recording came from (a path, or a row of a table).
        recording_offset: its first stored sample.
        recording_count: how many samples it has.
        recording_digest: see `sample_digest`; one signal under two names is found out by it.
        place: where the samples lie: file, byte, shape, dtype.
        kind: the modality it was read by.
    """

    stored: Stored
    offset: Array
    count: Array
    recording: Array
    recording_name: tuple[str, ...]
    recording_offset: Array
    recording_count: Array
    recording_digest: tuple[str, ...]
    place: tuple[Path, int, tuple[int, ...], str]
    kind: str = ""

    @cached_property
    def values(self) -> Array:
        """Every stored sample ``(total, *item)``, mapped from the file, read only."""
        path, byte, shape, dtype = self.place
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype=dtype, mode="r", offset=byte, shape=shape)

    @property
    def present(self) -> Bool[np.ndarray, " record"]:
        """Which records have this sensor."""
        present: Array = self.offset >= 0
        return present

    def slice(self, row: int) -> Array:
        """The stored samples ``(time, *item)`` of one record's window; no copy.

        Raises:
            DataError: the record lacks this sensor.
        """
        first = int(self.offset[row])
        if first < 0:
            raise DataError(f"a record must have a sensor to be read, but the record at {row} (from 0) lacks it")
        return self.values[first : first + int(self.count[row])]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "values"}  # a map is never pickled


@dataclass(frozen=True, eq=False)
class Study:
    """An opened study. Samples are mapped when they are first asked for; the file is not held open besides.

    Attributes:
        path: the file.
        records: the table.
        sensors: every sensor by name.
        digest: hash of records and stored samples; the same wherever and in whatever order they were written.
        settings: what it was ingested with, as JSON; empty where nothing is known of that.

    Example:
        ``with Study.open("study.h5") as study: study.sensors["eeg"].slice(0)``
    """

    path: Path
    records: Records
    sensors: dict[str, StoredSensor]
    digest: str
    settings: str = ""

    @classmethod
    def open(cls, path: Path | str) -> "Study":
        """Open a study for reading.

        Raises:
            DataError: the file is missing, truncated, or no study; the message names it.
        """
        path = Path(path)
        with _opened(path) as file:
            if file.attrs.get("version") != VERSION:
                raise DataError(f"must be a study of version {VERSION}, but got {file.attrs.get('version')!r}")
            records = _read_records(file["records"])
            group = _child(file, "sensors")
            sensors = {name: _read_sensor(_child(group, name), path, len(records)) for name in group}
            return cls(path, records, sensors, str(file.attrs["digest"]), _texts(file, "settings")[0])

    def sensor(self, name: str) -> StoredSensor:
        """One sensor.

        Raises:
            UnknownNameError: the study has no such sensor.
        """
        if name not in self.sensors:
            raise UnknownNameError(f"sensor in {self.path}", name, self.sensors)
        return self.sensors[name]

    def signals(self) -> dict[str, str]:
        """Digest of each sensor's recordings that records lie in, whatever these are called and in whatever order.

        Those of a second source's records are left out, so that the first is known with it and without.
        """
        first = len(self.records) - self.records.unlabelled
        found = {}
        for name, sensor in self.sensors.items():
            used = np.unique(sensor.recording[:first])
            digests = sorted({sensor.recording_digest[index] for index in used[used >= 0].tolist()})
            found[name] = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return found

    def verify(self) -> None:
        """Read every sample once and compare it with its digest.

        Raises:
            DataError: samples are not what was written; the message names file, sensor and recording.
        """
        for name, sensor in self.sensors.items():
            places = zip(sensor.recording_offset, sensor.recording_count, sensor.recording_digest, strict=True)
            for index, (first, count, digest) in enumerate(places):
                if sample_digest(sensor.values[first : first + count]) != digest:
                    raise DataError(
                        f"{self.path}: {name}: samples must match their digest, but those of "
                        f"{sensor.recording_name[index]} do not"
                    )

    def close(self) -> None:
        """Let go of the maps."""
        for sensor in self.sensors.values():
            sensor.__dict__.pop("values", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sample_digest(values: Array) -> str:
    """SHA-1 over dtype, shape and samples: the same signal has the same digest under every name."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest = hashlib.sha1(f"{plain.dtype.str}{values.shape}".encode(), usedforsecurity=False)
    digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def study_settings(path: Path) -> str:
    """What a study was ingested with; empty where it is of another version.

    Raises:
        DataError: the file is truncated, or no study.
    """
    with _opened(path) as file:
        return _texts(file, "settings")[0] if file.attrs.get("version") == VERSION else ""


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that says it is a study; whatever is wrong with it is an error that names it."""
    if not path.is_file():
        raise DataError(f"{path}: a study must be a file, but there is {'a folder' if path.is_dir() else 'none'}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(f"must be a fusionkit study, but its format is {file.attrs.get('format')!r}")
            yield file
    except FusionkitError as error:
        error.args = (f"{path}: {error}",)
        raise
    except Exception as error:  # h5py raises many kinds over damaged files
        raise DataError(f"{path}: must be a whole fusionkit study, but {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(part) for part in error.args).splitlines()
    return text[0] if text else type(error).__name__


def _child(group: h5py.Group, name: str) -> Any:
    """A member that lies in this very file: links and stores outside of it are never followed."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{group.name}/{name} must lie in the file itself, but it is missing or a link")
    child = group[name]
    if isinstance(child, h5py.Dataset) and (child.is_virtual or child.external):
        raise DataError(f"{child.name} must lie in the file itself, but its samples lie in another one")
    return child


def _texts(group: h5py.Group, name: str) -> list[str]:
    return [str(text) for text in np.ravel(_child(group, name).asstr()[()])]


def _numbers(group: h5py.Group, name: str, length: int) -> Array:
    numbers = np.asarray(_child(group, name)[()], dtype=np.int64)
    if numbers.shape != (length,):
        raise DataError(f"{group.name}/{name} must have {length} entries, but its shape is {numbers.shape}")
    return numbers


def _read_records(group: h5py.Group) -> Records:
    roles = {name: tuple(_texts(group, name)) for name in ROLES}
    names = _texts(group, "label_names")
    cells = np.reshape(np.array(_texts(group, "labels"), dtype=object), (len(names), len(roles["id"])))
    labels = {name: tuple(text or None for text in column) for name, column in zip(names, cells, strict=True)}
    if len({len(role) for role in roles.values()}) != 1:
        raise DataError("every column of the records must have the same length")
    unlabelled = int(group.attrs.get("unlabelled", 0))
    if not 0 <= unlabelled <= len(roles["id"]):
        raise DataError(f"unlabelled records must be some of the {len(roles['id'])}, but they are {unlabelled}")
    return Records(**roles, labels=labels, unlabelled=unlabelled)


def _read_sensor(group: h5py.Group, path: Path, records: int) -> StoredSensor:
    values = _child(group, "values")
    total, item, dtype = values.shape[0], tuple(values.shape[1:]), values.dtype
    byte = values.id.get_offset()
    if dtype.kind not in "fiu" or (values.size and byte is None):
        raise DataError(f"{values.name} must be plain numbers stored contiguous, but got {dtype} {values.chunks}")
    offset, count, recording = (_numbers(group, name, records) for name in ("offset", "count", "recording"))
    names = tuple(_texts(group, "recording_name"))
    recording_offset = _numbers(group, "recording_offset", len(names))
    recording_count = _numbers(group, "recording_count", len(names))
    for what, first, many in (("window", offset, count), ("recording", recording_offset, recording_count)):
        if np.any(many < 0) or np.any(first < -1) or np.any(first + many > total):
            raise DataError(f"{group.name}: every {what} must lie within the {total} stored samples")
    if np.any((recording < -1) | (recording >= len(names)) | ((recording < 0) != (offset < 0))):
        raise DataError(f"{group.name}: every window must name one of the {len(names)} recordings")
    rate = group.attrs.get("sample_rate")
    stored = Stored(
        sample_rate=None if rate is None else float(rate),
        channels=tuple(_texts(group, "channels")),
        unit=str(group.attrs["unit"]),
        item=item,
        dtype=dtype.str,
        longest=int(count.max(initial=0)),
    )
    return StoredSensor(
        stored=stored,
        offset=offset,
        count=count,
        recording=recording,
        recording_name=names,
        recording_offset=recording_offset,
        recording_count=recording_count,
        recording_digest=tuple(_texts(group, "recording_digest")),
        place=(path, int(byte or 0), (total, *item), dtype.str),
        kind=str(group.attrs["kind"]),
    )
