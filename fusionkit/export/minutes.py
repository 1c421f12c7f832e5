"""A few labelled minutes of one person: which records are learned from, and which judge."""

from collections.abc import Mapping

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.data.segments import time_order
from fusionkit.data.study import StoredSensor, Study

JUDGE = 0.3
"""Share of every recording, its end, that decides whether a change is kept."""
FEWEST = 8
"""Labelled records that an adaptation takes at least."""


def divide(study: Study, targets: Mapping[str, Array]) -> tuple[Array, Array]:
    """Labelled rows that are learned from, and those that judge: the end of each recording, sharing no sample.

    Where every record is a recording of its own, or none has time, the order of the table is that of time.

    Args:
        study: of one person.
        targets: by task.

    Raises:
        DataError: there are several people or too few records, or all overlap.
    """
    people = sorted(set(study.records.subject))
    if len(people) > 1:
        raise DataError(f"an adaptation must be to one person, but there are {len(people)}: {', '.join(people[:5])}")
    rows = np.flatnonzero(np.any([~np.isnan(t.reshape(len(t), -1)).all(1) for t in targets.values()], axis=0))
    if len(rows) < FEWEST:
        raise DataError(f"an adaptation must have {FEWEST} labelled records or more, but has {len(rows)}")
    clock = _clock(study)
    if clock is None:
        cut = len(rows) - round(JUDGE * len(rows))
        return rows[:cut], rows[cut:]
    order = time_order(clock)
    order = order[np.isin(order, rows)]
    whole = np.asarray(clock.recording)[order]
    if np.bincount(whole).max() < 2:  # a recording a record: one sequence, in the order of the table
        whole = np.zeros_like(whole)
    fit: list[int] = []
    judge: list[int] = []
    for recording in np.unique(whole):
        mine = order[whole == recording]
        cut = len(mine) - max(1, round(JUDGE * len(mine))) if len(mine) > 1 else 1
        judge += mine[cut:].tolist()
        fit += [row for row in mine[:cut].tolist() if not _overlap(clock, row, mine[cut:])]
    if not fit or not judge:
        raise DataError("records must lie apart in time, so that later ones can judge, but they overlap")
    return np.sort(np.array(fit)), np.sort(np.array(judge))


def _overlap(sensor: StoredSensor, row: int, others: Array) -> bool:
    same = np.asarray(sensor.recording)[others] == sensor.recording[row]
    first, stop = sensor.offset[others], sensor.offset[others] + sensor.count[others]
    return bool((same & (first < sensor.offset[row] + sensor.count[row]) & (stop > sensor.offset[row])).any())


def _clock(study: Study) -> StoredSensor | None:
    """The sensor with time that most records have."""
    timed = [sensor for sensor in study.sensors.values() if sensor.stored.sample_rate is not None]
    return max(timed, key=lambda sensor: int(sensor.present.sum()), default=None)


def seconds_of(study: Study, rows: Array) -> float | None:
    """How long the records are together; what two share counts once."""
    clock = _clock(study)
    if clock is None:
        return None
    rows = rows[clock.present[rows]]
    rows = rows[np.argsort(clock.offset[rows])]
    samples = end = 0
    for first, count in zip(clock.offset[rows].tolist(), clock.count[rows].tolist(), strict=True):
        samples += max(0, first + count - max(first, end))
        end = max(end, first + count)
    return samples / float(clock.stored.sample_rate or 1)
