"""Calibration segments: the first seconds of a recording of every subject, or of every recording."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.data.records import Records
from fusionkit.data.study import StoredSensor

Over = Literal["subject", "recording"]


@dataclass(frozen=True)
class Segment:
    """One calibration segment.

    Attributes:
        group: number of the subject or recording that it is for.
        name: how messages call that.
        row: a record that lies in the same recording.
        first: its first stored sample.
        count: how many samples it has.
    """

    group: int
    name: str
    row: int
    first: int
    count: int


def sensor_groups(over: Over, sensor: StoredSensor, records: Records) -> Int[np.ndarray, " record"]:
    """Number of each record's subject or stored recording."""
    return records.group("subject") if over == "subject" else np.asarray(sensor.recording)


def find_segments(
    name: str, sensor: StoredSensor, records: Records, seconds: float, pattern: str | None, over: Over
) -> list[Segment]:
    """The calibration segment of every subject or recording that has the sensor.

    Args:
        name: the sensor's name, for messages.
        sensor: its stored samples.
        records: whose they are.
        seconds: length of a segment.
        pattern: which recording of a subject; by default the first one in the table.
        over: whether each subject has one segment, or each recording.

    Raises:
        DataError: the sensor has no time, or a group has no such recording or one that is too short.
    """
    if sensor.stored.sample_rate is None:
        raise DataError(f"a sensor must have time to be calibrated by its first {seconds:g} s, but {name} has none")
    samples = round(seconds * sensor.stored.sample_rate)
    groups = sensor_groups(over, sensor, records)
    names = [
        f"{over} {group!r}"
        for group in (records.group_names("subject") if over == "subject" else sensor.recording_name)
    ]
    segments = []
    for group, group_name in enumerate(names):
        rows = np.flatnonzero((groups == group) & sensor.present)
        if not rows.size:
            continue
        row = _first_row(pattern, records, sensor, rows)
        if row is None:
            seen = sorted({sensor.recording_name[int(r)] for r in sensor.recording[rows]})
            that = "" if pattern is None else f" that matches {pattern!r}"
            raise DataError(
                f"{group_name} must have a recording of {name}{that} to calibrate {seconds:g} s on, but has {seen[:5]}"
            )
        recording = int(sensor.recording[row])
        if samples > sensor.recording_count[recording]:
            raise DataError(
                f"{group_name} must have {seconds:g} s of {name} to calibrate on, but "
                f"{sensor.recording_name[recording]!r} has "
                f"{sensor.recording_count[recording] / sensor.stored.sample_rate:g} s"
            )
        segments.append(Segment(group, group_name, row, int(sensor.recording_offset[recording]), samples))
    return segments


def overlapping(segments: Iterable[Segment], sensor: StoredSensor) -> Bool[np.ndarray, " record"]:
    """Records whose windows share samples with a segment."""
    used = np.zeros(len(sensor.offset), np.bool_)
    for segment in segments:
        used |= (sensor.offset < segment.first + segment.count) & (sensor.offset + sensor.count > segment.first)
    used &= sensor.present
    return used


def time_order(sensor: StoredSensor) -> Int[np.ndarray, " row"]:
    """Records that have the sensor: recordings in the order of the table, the records of each by their start."""
    here = np.flatnonzero(sensor.present)
    _, first, inverse = np.unique(np.asarray(sensor.recording)[here], return_index=True, return_inverse=True)
    order: Array = here[np.lexsort((here, np.asarray(sensor.offset)[here], first[inverse]))]
    return order


def _first_row(
    pattern: str | None, records: Records, sensor: StoredSensor, rows: Int[np.ndarray, " row"]
) -> int | None:
    """The first of these rows whose stored recording has a file, stem or name in the table that matches."""
    for row in rows.tolist():
        stored = sensor.recording_name[int(sensor.recording[row])]
        names = (stored, PurePath(stored).stem, records.recording[row])
        if pattern is None or any(fnmatchcase(name, pattern) for name in names):
            return int(row)
    return None
