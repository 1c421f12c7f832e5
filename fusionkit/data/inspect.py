"""Say what a folder, a table, an archive, a study or a recording holds, as plain data; printing is the caller's."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.core.registry import modalities
from fusionkit.data.checks import layout
from fusionkit.data.sources.npz import Npz
from fusionkit.data.study import Study
from fusionkit.data.table import READERS, read_table

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

EXAMPLES = 5


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
    """

    name: str
    filled: int
    distinct: int
    form: Literal["file", "number", "text", "empty"]
    examples: tuple[str, ...]
    suffixes: tuple[str, ...] = ()
    missing: int = 0


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
    """A folder with all below it: files and bytes per suffix, and the tables, archives and studies by path."""

    path: Path
    suffixes: dict[str, tuple[int, int]]
    tables: tuple[Path, ...]


Facts = FolderFacts | TableFacts | ArchiveFacts | StudyFacts | FileFacts


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
    return FolderFacts(path, dict(sorted(counts.items(), key=lambda entry: (-entry[1][0], entry[0]))), tuple(tables))


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


def inspect_recording(path: Path, modality: "Modality") -> RecordingFacts:
    """Read one file as one sensor does.

    Raises:
        DataError: it cannot be read as that.
    """
    recording: Recording = modality.read(path)
    stored = layout(recording, str(path))
    return RecordingFacts(
        path=path,
        kind=modality.kind,
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
    if all(_is_number(value) for value in values):
        return ColumnFacts(name, len(filled), len(values), "number", examples)
    there = [value for value in values if folder is not None and _is_there(folder, value)]
    if len(there) * 2 < len(values):
        return ColumnFacts(name, len(filled), len(values), "text", examples)
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
