"""Turn a source into a study: every recording is read once, checked, kept as a part, and joined at the end."""

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from fusionkit import __version__
from fusionkit.core.errors import ConfigError, DataError, FusionkitError, located
from fusionkit.core.recording import Recording, Stored
from fusionkit.data.checks import difference, layout, unfinite, window
from fusionkit.data.parts import Part, Parts, parts_in
from fusionkit.data.records import ROLES, Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed, label_uses
from fusionkit.data.sources.study import StudySource
from fusionkit.data.study import VERSION, Study, study_settings

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

Progress = Callable[[int, int, str], None]
PROBLEMS = 10
EXPECTED = "the trained model"


@dataclass(slots=True)
class _Job:
    """One recording to be read, and the cells that lie in it by row."""

    sensor: SensorColumn
    id: str
    cells: dict[int, Cell] = field(default_factory=dict)
    part: Part | None = None
    windows: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """The first cell that asks for it."""
        return next(iter(self.cells.values()))


class _Problems:
    """Errors of different rows, told together: up to ten, one a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)
        if len(self.lines) >= PROBLEMS:
            self.check()

    def check(self) -> None:
        if self.lines:
            raise DataError("\n".join(self.lines))


def open_or_ingest(
    source: Source,
    sensors: Mapping[str, SensorColumn],
    labels: Sequence[str] | Mapping[str, str],
    cache: Path | str,
    *,
    expected: Mapping[str, Stored] | None = None,
    progress: Progress | None = None,
    workers: int = 0,
) -> Study:
    """The study of a source: itself where it is one, else ingested into a file of ``cache`` named by its content.

    Args:
        source: where the records come from.
        sensors: what is read of it, by name.
        labels: see `ingest`.
        cache: a folder.
        expected, progress, workers: see `ingest`.
    """
    if isinstance(source, StudySource):
        study = source.view(list(sensors.values()), labels)
        for name, stored in (expected or {}).items():
            if name in study.sensors and study.sensors[name].present.any():
                problem = difference(stored, EXPECTED, study.sensors[name].stored, str(study.path))
                if problem:
                    raise DataError(f"{name}: {problem}")
        return study
    settings = [{name: sensor.settings() for name, sensor in sensors.items()}, sorted(labels)]
    path = Path(cache) / f"{hashed(source.fingerprint(), settings)[:20]}.h5"
    return ingest(source, sensors, labels, path, expected=expected, progress=progress, workers=workers)


def ingest(
    source: Source,
    sensors: Mapping[str, SensorColumn],
    labels: Sequence[str] | Mapping[str, str],
    path: Path | str,
    *,
    expected: Mapping[str, Stored] | None = None,
    progress: Progress | None = None,
    workers: int = 0,
) -> Study:
    """Read every recording of a source into a study, or open the study where it was made of the same before.

    A recording that several records share is read and stored once. A kill loses the recordings in flight and no
    more: the others wait in ``<path>.parts``. One recording per worker is in memory at a time. Two processes may ask
    for the same study: one makes it.

    Args:
        source: where the records come from.
        sensors: what is read of it, by the name it gets in the study.
        labels: columns to keep beside the names of subjects, sessions, trials and recordings; a mapping says what
            each is for (``tasks.state.column``), which is how errors call it.
        path: the file to be made; a study of other content is replaced, any other file is not.
        expected: what sensors must agree with (those a model was trained on); such a sensor may be absent from all
            records, where any other must be present in one.
        progress: called after every recording with how many are done, how many there are, and its name.
        workers: how many processes read files; 0 reads them in this one.

    Raises:
        DataError: up to ten findings, one a line, each with file, row and rule.
    """
    path = Path(path)
    expected = expected or {}
    for name in sensors:
        if not name or "/" in name or name == ".":
            raise ConfigError(f"the name of a sensor must be a word without '/', but got {name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    check_columns(source, sensors, labels)
    rows = source.rows()
    jobs = _plan(source, rows, sensors, expected)
    settings = _settings(source, sensors, labels, jobs, expected)
    with FileLock(f"{path}.lock"):
        folder = path.with_name(f"{path.name}.parts")
        if path.exists() and study_settings(path) == settings:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed after its last step but one
            return Study.open(path)
        with parts_in(folder) as parts:
            _read_all(jobs, parts, expected, progress, workers)
            made = {
                name: _joined(sensor, [job for job in jobs if job.sensor is sensor], len(rows), parts, expected)
                for name, sensor in sensors.items()
            }
            return save_study(
                path, gather_records(source, labels), made, settings=settings, scratch=parts.folder / "study.h5"
            )


def check_columns(
    source: Source, sensors: Mapping[str, SensorColumn], labels: Sequence[str] | Mapping[str, str]
) -> None:
    """Refuse columns that a source lacks, whatever they are for, before anything is read.

    Raises:
        DataError: a line for every such column.
    """
    source.check_columns({**source.columns_of(sensors), **label_uses(labels)})


def gather_records(source: Source, labels: Iterable[str]) -> Records:
    """The table of a study: names, and the labels that are kept."""
    rows = source.rows()
    roles = {role: tuple(getattr(row, role) for row in rows) for role in ROLES}
    kept = {label: tuple(row.labels[label] for row in rows) for label in labels}
    return Records(**roles, labels=kept, unlabelled=source.unlabelled)


def _plan(
    source: Source, rows: Sequence[Row], sensors: Mapping[str, SensorColumn], expected: Mapping[str, Stored]
) -> list[_Job]:
    """One job per recording, by its first record; every cell is looked up before any file is read."""
    problems = _Problems()
    jobs: list[_Job] = []
    fingerprint = source.fingerprint()
    for name, sensor in sensors.items():
        settings = sensor.settings()
        reading = (__version__, settings["modality"], settings["options"])
        found: dict[str, _Job] = {}
        for row in range(len(rows)):
            try:
                with located(f"{source.where(row)}, column {sensor.column}"):
                    cell = source.cell(row, sensor)
                    if cell is None:
                        continue
                    if cell.key not in found:
                        content = [cell.stamp()] if cell.from_file else [cell.stamp(), sensor.column, fingerprint]
                        found[cell.key] = _Job(sensor, hashed(reading, content))
                    found[cell.key].cells[row] = cell
            except FusionkitError as error:
                problems.add(str(error))
        if not found and name not in expected and not problems.lines:
            problems.add(
                f"{source.title}: modalities.{name}: a sensor must be present in some record, but column "
                f"{sensor.column!r} is empty in all {len(rows)}"
            )
        jobs += found.values()
    problems.check()
    return sorted(jobs, key=lambda job: min(job.cells))  # sensors of one file come together


def _settings(
    source: Source,
    sensors: Mapping[str, SensorColumn],
    labels: Iterable[str],
    jobs: Sequence[_Job],
    expected: Mapping[str, Stored],
) -> str:
    told = {
        "version": [VERSION, __version__],
        "source": source.fingerprint(),
        "sensors": {name: sensor.settings() for name, sensor in sensors.items()},
        "labels": list(labels),
        "recordings": hashed([job.id for job in jobs]),
        "expected": {name: _layout_only(stored) for name, stored in expected.items()},
    }
    return json.dumps(told, sort_keys=True)


def _layout_only(stored: Stored) -> list[object]:
    return [stored.sample_rate, list(stored.channels), stored.unit, list(stored.item), stored.dtype]


def _read_all(
    jobs: Sequence[_Job], parts: Parts, expected: Mapping[str, Stored], progress: Progress | None, workers: int
) -> None:
    """Read what is not there yet, and check everything."""
    problems = _Problems()
    layouts = {name: (stored, EXPECTED) for name, stored in expected.items()}
    for done, (job, read) in enumerate(_recordings(jobs, parts, workers), start=1):
        try:
            with located(job.cell.where):
                if isinstance(read, str):
                    raise DataError(read)
                found = layout(read, job.cell.name)
                job.part = job.part or parts.append(job.id, read)
                known, known_name = layouts.setdefault(job.sensor.name, (found, job.cell.name))
                problem = difference(known, known_name, found, job.cell.name)
                if problem:
                    raise DataError(problem)
        except FusionkitError as error:
            problems.add(str(error))
        else:
            _cut(job, read, problems)
        if progress is not None:
            progress(done, len(jobs), job.cell.name)
    problems.check()


def _cut(job: _Job, recording: Recording, problems: _Problems) -> None:
    """Find every record's window, and refuse those with samples that are no numbers."""
    for row, cell in job.cells.items():
        try:
            with located(f"{cell.where}: {cell.name}"):
                job.windows[row] = window(cell.start, cell.stop, len(recording.values), recording.sample_rate)
        except FusionkitError as error:
            problems.add(str(error))
    for row, finding in zip(job.windows, unfinite(recording, job.windows.values()), strict=True):
        if finding:
            problems.add(f"{job.cells[row].where}: {job.cells[row].name}: {finding}")


def _recordings(jobs: Sequence[_Job], parts: Parts, workers: int) -> Iterator[tuple[_Job, Recording | str]]:
    """Every recording, or what is wrong with it, in the order of the jobs; at most ``workers`` are read ahead."""
    queue = deque(job for job in jobs if job.cell.from_file and job.id not in parts)
    if workers < 1 or len(queue) < 2:
        queue.clear()
    pool = ProcessPoolExecutor(min(workers, len(queue)), mp_context=get_context("spawn")) if queue else None
    ahead: dict[str, Future[Recording | str]] = {}
    try:
        for job in jobs:
            while pool is not None and queue and len(ahead) < workers:
                next_job = queue.popleft()
                ahead[next_job.id] = pool.submit(_load, next_job.cell, next_job.sensor.modality)
            found = parts.find(job.id)
            if found is not None:
                job.part, recording = found
                yield job, recording
            elif job.id in ahead:
                try:
                    yield job, ahead.pop(job.id).result()
                except BrokenProcessPool:
                    raise DataError(f"{job.cell.where}: a process that reads files was ended from outside") from None
            else:
                yield job, _load(job.cell, job.sensor.modality)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _load(cell: Cell, modality: "Modality") -> Recording | str:
    """Runs in a worker too, so an error goes back as plain text."""
    try:
        return cell.load(modality)
    except FusionkitError as error:
        return str(error)


def _joined(
    sensor: SensorColumn, jobs: Sequence[_Job], records: int, parts: Parts, expected: Mapping[str, Stored]
) -> NewSensor:
    """What the study is told of a sensor whose recordings are all read."""
    found = [job.part for job in jobs if job.part is not None]
    recording, start, count = (np.full(records, fill, dtype=np.int64) for fill in (-1, 0, 0))
    for index, job in enumerate(jobs):
        for row, (first, many) in job.windows.items():
            recording[row], start[row], count[row] = index, first, many
    longest = int(count.max(initial=0))
    if found:
        first_part = found[0]
        stored = Stored(
            sample_rate=first_part.sample_rate,
            channels=tuple(first_part.channels),
            unit=first_part.unit,
            item=tuple(first_part.shape[1:]),
            dtype=first_part.dtype,
            longest=longest,
        )
    else:
        stored = replace(expected[sensor.name], longest=0)
    return NewSensor(
        kind=sensor.modality.kind,
        stored=stored,
        recording=recording,
        start=start,
        count=count,
        recording_name=[job.cell.name for job in jobs],
        recording_count=[part.shape[0] for part in found],
        recording_digest=[part.digest for part in found],
        load=lambda index: parts.load(found[index]),
    )
