"""Write a study: under a temporary name, flushed, moved into place; one recording in memory at a time."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.data.records import ROLES, Records
from fusionkit.data.study import FORMAT, VERSION, Study, sample_digest

BLOCK = 2**22


@dataclass(frozen=True)
class NewSensor:
    """What a study is told of one sensor.

    Attributes:
        kind: the modality.
        stored: what all recordings share.
        recording: index of each record's recording; -1 where it lacks the sensor.
        start: first sample of each record's window within its recording.
        count: samples of each record's window; 0 where it lacks the sensor.
        recording_name: where each recording came from.
        recording_count: samples of each recording.
        recording_digest: see `sample_digest`.
        load: gives the samples of a recording by its index; called once for each, in order.
    """

    kind: str
    stored: Stored
    recording: Array
    start: Array
    count: Array
    recording_name: Sequence[str]
    recording_count: Sequence[int]
    recording_digest: Sequence[str]
    load: Callable[[int], Array]

    @classmethod
    def of(cls, recordings: Sequence[Recording | None], kind: str = "") -> "NewSensor":
        """Whole recordings that are in memory, one a record; None where the record lacks the sensor.

        Raises:
            DataError: no record has the sensor.
        """
        here = [recording for recording in recordings if recording is not None]
        if not here:
            raise DataError("a sensor must be present in some record, but it is absent from all")
        count = np.array([0 if r is None else len(r.values) for r in recordings], dtype=np.int64)
        present = np.array([r is not None for r in recordings])
        first = here[0]
        dtype = first.values.dtype.str
        item = tuple(first.values.shape[1:])
        return cls(
            kind=kind,
            stored=Stored(first.sample_rate, first.channels, first.unit, item, dtype, int(count.max())),
            recording=np.where(present, np.cumsum(present) - 1, -1),
            start=np.zeros(len(count), dtype=np.int64),
            count=count,
            recording_name=[f"row {row + 1}" for row in np.flatnonzero(present)],
            recording_count=[len(r.values) for r in here],
            recording_digest=[sample_digest(r.values) for r in here],
            load=lambda index: here[index].values,
        )


def save_study(
    path: Path,
    records: Records,
    sensors: Mapping[str, NewSensor],
    *,
    settings: str = "",
    scratch: Path | None = None,
) -> Study:
    """Write a study and open it. The caller sees to it that nobody else writes the same path.

    Args:
        path: the file; replaced where it exists.
        records: the table.
        sensors: every sensor by name.
        settings: what it was ingested with.
        scratch: the temporary name, on the same disk; by default beside ``path``.

    Example:
        ``save_study(path, Records.of([{"id": "a"}]), {"ecg": NewSensor.of([Recording(np.ones((4, 1)))])})``
    """
    temporary = scratch or path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w", alignment_threshold=1, alignment_interval=16) as file:
            file.attrs.update(format=FORMAT, version=VERSION, digest=study_digest(records, sensors))
            file.create_dataset("settings", data=settings, dtype=h5py.string_dtype())
            _write_records(file.create_group("records"), records)
            group = file.create_group("sensors")
            for name, sensor in sensors.items():
                _write_sensor(group.create_group(name), sensor)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # POSIX: the new name itself must reach the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return Study.open(path)


def study_digest(records: Records, sensors: Mapping[str, NewSensor]) -> str:
    """SHA-256 over the table, the windows, and the digests of the stored samples.

    Paths, names of recordings and the order in which they were written are no part of it.
    """
    told = {
        "version": VERSION,
        "records": {role: getattr(records, role) for role in ROLES},
        "labels": {name: [text or None for text in column] for name, column in records.labels.items()},
        "sensors": {name: _told(sensor) for name, sensor in sensors.items()},
        **({"unlabelled": records.unlabelled} if records.unlabelled else {}),
    }
    digest = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(told):  # the text of a large study is never held whole
        digest.update(piece.encode())
    return digest.hexdigest()


def _told(sensor: NewSensor) -> dict[str, object]:
    stored = sensor.stored
    seen: dict[int, int] = {-1: -1}
    shared = [seen.setdefault(int(index), len(seen) - 1) for index in sensor.recording]  # numbered by first use
    return {
        "kind": sensor.kind,
        "layout": [stored.sample_rate, stored.channels, stored.unit, stored.item, np.dtype(stored.dtype).name],
        "recording": shared,
        "digest": [sensor.recording_digest[index] if index >= 0 else "" for index in sensor.recording],
        "start": [
            int(start) if index >= 0 else -1 for start, index in zip(sensor.start, sensor.recording, strict=True)
        ],
        "count": [int(count) for count in sensor.count],
    }


def _write_texts(group: h5py.Group, name: str, texts: Sequence[str] | Array) -> None:
    group.create_dataset(name, data=np.array(texts, dtype=object), dtype=h5py.string_dtype())


def _write_records(group: h5py.Group, records: Records) -> None:
    for role in ROLES:
        _write_texts(group, role, getattr(records, role))
    if records.unlabelled:
        group.attrs["unlabelled"] = records.unlabelled
    cells = [[text or "" for text in column] for column in records.labels.values()]
    _write_texts(group, "label_names", list(records.labels))
    _write_texts(group, "labels", np.reshape(np.array(cells, dtype=object), (len(cells), len(records))))


def _write_sensor(group: h5py.Group, sensor: NewSensor) -> None:
    stored = sensor.stored
    group.attrs.update(kind=sensor.kind, unit=stored.unit)
    _write_texts(group, "channels", stored.channels)
    if stored.sample_rate is not None:
        group.attrs["sample_rate"] = float(stored.sample_rate)
    many = np.array(sensor.recording_count, dtype=np.int64)
    first = np.cumsum(many) - many
    present = sensor.recording >= 0
    offset = np.where(present, sensor.start + np.append(first, 0)[sensor.recording], -1)
    group.create_dataset("offset", data=offset.astype(np.int64))
    group.create_dataset("count", data=np.where(present, sensor.count, 0).astype(np.int64))
    group.create_dataset("recording", data=sensor.recording.astype(np.int64))
    _write_texts(group, "recording_name", sensor.recording_name)
    group.create_dataset("recording_offset", data=first)
    group.create_dataset("recording_count", data=many)
    _write_texts(group, "recording_digest", sensor.recording_digest)
    dtype = np.dtype(stored.dtype).newbyteorder("<")
    values = group.create_dataset("values", shape=(int(many.sum()), *stored.item), dtype=dtype)
    at = 0
    for block in _blocks(sensor):
        values[at : at + len(block)] = block
        at += len(block)


def _blocks(sensor: NewSensor) -> Iterator[Array]:
    """The samples of all recordings in order; short ones are joined, since every write costs the same."""
    waiting: list[Array] = []
    bytes_waiting = 0
    for index, count in enumerate(sensor.recording_count):
        samples = sensor.load(index)
        if samples.shape != (count, *sensor.stored.item):
            raise DataError(
                f"{sensor.recording_name[index]}: must have the shape {(count, *sensor.stored.item)}, "
                f"but got {samples.shape}"
            )
        if waiting and bytes_waiting + samples.nbytes > BLOCK:
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting, bytes_waiting = [], 0
        waiting.append(samples)
        bytes_waiting += samples.nbytes
    if waiting:
        yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
