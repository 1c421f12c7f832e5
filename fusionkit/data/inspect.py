"""Say what a folder, a table, an archive, a data set, a study or a recording holds, as plain data."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Recording, Stored
from fusionkit.core.registry import modalities, sources
from fusionkit.data.checks import layout
from fusionkit.data.protocols import natural_order
from fusionkit.data.records import ROLES
from fusionkit.data.sources.npz import Npz
from fusionkit.data.sources.source import Cell, SensorColumn, Source
from fusionkit.data.study import Study
from fusionkit.data.table import READERS, read_table

EXAMPLES = 5
CLASSES = 20
ANY_CHANNEL = "signal"
"""The sensor that takes a recording's channels of whatever type."""


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a table.

    Attributes:
        name: its name.
        filled: how many cells are not empty.
        distinct: how many different values there are.
        form: ``file`` (paths of files, at least half of them there), ``number``, ``text`` or ``empty``.
        examples: the first different values.
        suffixes: endings of its files, most frequent first.
        missing: how many different files are not there.
        counts: how often each value occurs, in natural order; empty where there are more than `CLASSES`.
    """

    name: str
    filled: int
    distinct: int
    form: Literal["file", "number", "text", "empty"]
    examples: tuple[str, ...]
    suffixes: tuple[str, ...] = ()
    missing: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableFacts:
    """A table: how many rows, and its columns."""

    path: Path
    rows: int
    columns: tuple[ColumnFacts, ...]


@dataclass(frozen=True)
class ArrayFacts:
    """One array of an archive."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ArchiveFacts:
    """A NumPy archive; nothing but headers is read."""

    path: Path
    arrays: tuple[ArrayFacts, ...]


@dataclass(frozen=True)
class SensorFacts:
    """One sensor of a study; ``longest`` in samples, ``seconds`` stored in all, None for what has no time."""

    name: str
    kind: str
    sample_rate: float | None
    channels: tuple[str, ...]
    unit: str
    item: tuple[int, ...]
    dtype: str
    present: int
    recordings: int
    longest: int
    seconds: float | None


@dataclass(frozen=True)
class StudyFacts:
    """A study: its size, its sensors and its label columns."""

    path: Path
    digest: str
    records: int
    subjects: int
    sessions: int
    sensors: tuple[SensorFacts, ...]
    labels: tuple[ColumnFacts, ...]


@dataclass(frozen=True)
class ColumnOfSource:
    """One sensor of a data set, by the first record that has it.

    Attributes:
        name: of its column.
        entry: what a recipe says of it.
        present: how many records have it.
        recordings: how many stored recordings they lie in.
        first: rate, channels and shape of the first recording; None where it cannot be read.
        problem: why it cannot.
    """

    name: str
    entry: Mapping[str, Any]
    present: int
    recordings: int
    first: Stored | None
    problem: str = ""


@dataclass(frozen=True)
class SourceReading:
    """What a data set holds in one of its forms.

    Attributes:
        options: what a recipe says under ``data``, without the kind.
        trials: how many trials there are, over all subjects and sessions.
        labels: columns that are neither names of records nor signals.
    """

    options: Mapping[str, Any]
    records: int
    subjects: tuple[str, ...]
    sessions: tuple[str, ...]
    trials: int
    sensors: tuple[ColumnOfSource, ...]
    labels: tuple[ColumnFacts, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SourceFacts:
    """A folder or file in a format that a source knows; ``problems`` are those of the forms that cannot be read."""

    path: Path
    kind: str
    readings: tuple[SourceReading, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class RecordingFacts:
    """A file as one sensor reads it."""

    path: Path
    kind: str
    sample_rate: float | None
    channels: tuple[str, ...]
    unit: str
    shape: tuple[int, ...]
    dtype: str
    seconds: float | None


@dataclass(frozen=True)
class FileFacts:
    """Any other file, and the sensors that read its suffix."""

    path: Path
    bytes: int
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class FolderFacts:
    """A folder with all below it: files and bytes per suffix, the tables, archives and studies by path, and data sets.

    ``sources`` are what public data sets' readers find in it.
    """

    path: Path
    suffixes: dict[str, tuple[int, int]]
    tables: tuple[Path, ...]
    sources: tuple[SourceFacts, ...] = ()


Facts = FolderFacts | TableFacts | ArchiveFacts | StudyFacts | SourceFacts | FileFacts


def inspect(path: Path | str) -> Facts:
    """Look at whatever lies there.

    Raises:
        DataError: nothing lies there, or it is damaged; the message names it.
    """
    path = Path(path)
    if path.is_dir():
        return inspect_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    found = inspect_sources(path)
    if found:
        return found[0]
    suffix = path.suffix.lower()
    if suffix in READERS:
        return inspect_table(path)
    if suffix == ".npz":
        shapes = Npz(path=path).shapes
        return ArchiveFacts(path, tuple(ArrayFacts(name, shape, str(dtype)) for name, (shape, dtype) in shapes.items()))
    if suffix in (".h5", ".hdf5"):
        return inspect_study(path)
    return FileFacts(path, path.stat().st_size, readers_of(suffix))


def inspect_folder(path: Path) -> FolderFacts:
    """Count files by suffix; links are not followed."""
    counts: dict[str, tuple[int, int]] = {}
    tables: list[Path] = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            suffix = file.suffix.lower()
            many, size = counts.get(suffix, (0, 0))
            counts[suffix] = (many + 1, size + file.lstat().st_size)
            if suffix in READERS or suffix in (".npz", ".h5"):
                tables.append(file)
    suffixes = dict(sorted(counts.items(), key=lambda entry: (-entry[1][0], entry[0])))
    return FolderFacts(path, suffixes, tuple(tables), tuple(inspect_sources(path)))


def inspect_sources(path: Path) -> list[SourceFacts]:
    """Ask every source whether it knows this format, and those that do what it holds; one recording a sensor is read."""
    found: list[SourceFacts] = []
    for kind in sources.kinds():
        cls: type[Source] = sources.get(kind)
        if not cls.recognises(path):
            continue
        readings: list[SourceReading] = []
        problems: list[str] = []
        for options in cls.readings(path):
            try:
                readings.append(read_source(sources.build(kind, options), options))
            except (ConfigError, DataError) as error:
                problems.append(str(error))
        found.append(SourceFacts(path, kind, tuple(readings), tuple(dict.fromkeys(problems))))
    return found


def read_source(source: Source, options: Mapping[str, Any]) -> SourceReading:
    """Look at the records of a source.

    Raises:
        DataError: it is damaged.
    """
    rows = source.rows()
    columns = {
        name: SensorColumn(name, modalities.build(entry["kind"], {k: v for k, v in entry.items() if k != "kind"}), name)
        for name, entry in source.sensors().items()
    }
    names = [name for name in (rows[0].labels if rows else ()) if name not in (*ROLES, *columns)]
    return SourceReading(
        options=options,
        records=len(rows),
        subjects=_different(row.subject for row in rows),
        sessions=_different(row.session for row in rows),
        trials=len({(row.subject, row.session, row.trial) for row in rows}),
        sensors=tuple(_look(source, column, source.sensors()[name]) for name, column in columns.items()),
        labels=tuple(describe_column(name, [row.labels.get(name) for row in rows]) for name in names),
        notes=tuple(source.notes(columns)),
    )


def source_cells(source: Source, column: SensorColumn) -> list[Cell | None]:
    """A sensor of every record, not loaded."""
    return [source.cell(row, column) for row in range(len(source.rows()))]


def _look(source: Source, column: SensorColumn, entry: Mapping[str, Any]) -> ColumnOfSource:
    cells = [cell for cell in source_cells(source, column) if cell is not None]
    first, problem = None, ""
    if cells:
        try:
            first = layout(cells[0].load(column.modality), cells[0].where)
        except DataError as error:
            problem = str(error)
    return ColumnOfSource(column.name, entry, len(cells), len({cell.key for cell in cells}), first, problem)


def _different(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}, key=natural_order))


def inspect_table(path: Path) -> TableFacts:
    """Look at every column of a table, and for the files it names."""
    table = read_table(path)
    columns = tuple(describe_column(name, [row[name] for row in table.rows], path.parent) for name in table.columns)
    return TableFacts(path, len(table.rows), columns)


def inspect_study(path: Path) -> StudyFacts:
    """Look at a study; no sample is read."""
    with Study.open(path) as study:
        sensors = tuple(
            SensorFacts(
                name=name,
                kind=sensor.kind,
                sample_rate=sensor.stored.sample_rate,
                channels=sensor.stored.channels,
                unit=sensor.stored.unit,
                item=sensor.stored.item,
                dtype=sensor.stored.dtype,
                present=int(sensor.present.sum()),
                recordings=len(sensor.recording_name),
                longest=sensor.stored.longest,
                seconds=sensor.recording_count.sum() / sensor.stored.sample_rate if sensor.stored.sample_rate else None,
            )
            for name, sensor in study.sensors.items()
        )
        records = study.records
        labels = tuple(describe_column(name, cells) for name, cells in records.labels.items())
        subjects, sessions = (len(records.group_names(by)) for by in ("subject", "session"))
        return StudyFacts(path, study.digest, len(records), subjects, sessions, sensors, labels)


def read_as_sensors(facts: FileFacts) -> tuple[dict[str, Recording], dict[str, str]]:
    """Read a file as every sensor that takes its suffix, with the sensors' default options.

    A recording without a channel of the sensors' own types is read as a ``signal``.

    Returns:
        What each sensor reads, and why others do not.

    Raises:
        DataError: sensors take its suffix, but none can read it.
    """
    read: dict[str, Recording] = {}
    refused: dict[str, str] = {}
    for kind in (*facts.kinds, ANY_CHANNEL) if facts.kinds else ():
        if kind == ANY_CHANNEL and read:
            continue
        try:
            read[kind] = modalities.build(kind).read(facts.path)
        except DataError as error:
            if kind in facts.kinds:
                refused[kind] = str(error)
    if refused and not read:
        raise DataError("\n".join(dict.fromkeys(refused.values())))
    return read, refused


def describe_recording(path: Path, kind: str, recording: Recording) -> RecordingFacts:
    """What one sensor reads of one file."""
    stored = layout(recording, str(path))
    return RecordingFacts(
        path=path,
        kind=kind,
        sample_rate=stored.sample_rate,
        channels=stored.channels,
        unit=stored.unit,
        shape=recording.values.shape,
        dtype=str(recording.values.dtype),
        seconds=stored.seconds,
    )


def readers_of(suffix: str) -> tuple[str, ...]:
    """Kinds of the sensors that read files of a suffix (``.edf``), sorted."""
    return tuple(kind for kind in modalities.kinds() if suffix.lower() in modalities.get(kind).suffixes)


def describe_column(name: str, cells: Sequence[str | None], folder: Path | None = None) -> ColumnFacts:
    """Look at one column; cells may be paths where ``folder`` is given."""
    filled = [cell for cell in cells if cell is not None]
    values = list(dict.fromkeys(filled))
    examples = tuple(values[:EXAMPLES])
    if not values:
        return ColumnFacts(name, 0, 0, "empty", ())
    numbers = all(_is_number(value) for value in values)
    counted = Counter(filled) if len(values) <= CLASSES else Counter[str]()
    counts = {value: counted[value] for value in sorted(counted, key=float if numbers else natural_order)}
    if numbers:
        return ColumnFacts(name, len(filled), len(values), "number", examples, counts=counts)
    there = [value for value in values if folder is not None and _is_there(folder, value)]
    if len(there) * 2 < len(values):
        return ColumnFacts(name, len(filled), len(values), "text", examples, counts=counts)
    endings = [Path(value).suffix.lower() for value in there]
    suffixes = tuple(sorted(set(endings), key=lambda ending: (-endings.count(ending), ending)))
    return ColumnFacts(name, len(filled), len(values), "file", examples, suffixes, len(values) - len(there))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_there(folder: Path, text: str) -> bool:
    try:
        return (folder / text).is_file()
    except (OSError, ValueError):  # a sentence is too long a name
        return False
