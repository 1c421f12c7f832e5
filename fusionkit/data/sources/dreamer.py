"""DREAMER: EEG and ECG of 23 people who watched 18 film clips, by cheap wireless devices."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording
from fusionkit.core.registry import sources
from fusionkit.data.matlab import list_variables
from fusionkit.data.matlab_tree import Stored, read_tree
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial
from fusionkit.data.table import as_text

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

FILE = "DREAMER.mat"
RATINGS = ("valence", "arousal", "dominance")
Signal = Array | Stored
FACTORS: Mapping[str, float] = {"eeg": 1e-6, "ecg": 1.0}  # the file's EEG is in microvolts


PARTS = {"stimuli": "", "baseline": "_baseline"}
"""The recordings of a clip, and what the name of each has after the trial's."""


class Person(NamedTuple):
    """One person of the file: ratings of every clip, and by (column, part) its signals, which stay in the file."""

    age: str | None
    gender: str | None
    ratings: tuple[tuple[float, ...], ...]
    signals: Mapping[tuple[str, str], tuple[Signal, ...]]


class Contents(NamedTuple):
    """The file: people in its order, and per column the sampling rate and the channels."""

    people: tuple[Person, ...]
    rates: Mapping[str, float]
    channels: Mapping[str, tuple[str, ...]]


class _Record(NamedTuple):
    row: Row
    person: int
    clip: int
    part: str
    stretch: Stretch


@dataclass(frozen=True, kw_only=True)
class DreamerCell(Cell):
    """One column of one clip of a person, both from 0: all of it, or its last seconds."""

    path: Path
    column: str
    part: str
    person: int
    clip: int
    last: float | None
    from_file: ClassVar[bool] = True

    def _load(self, modality: "Modality") -> Recording:
        people, rates, channels = read_contents(self.path, _changed(self.path))
        signal = people[self.person].signals[self.column, self.part][self.clip]
        values = signal.read() if isinstance(signal, Stored) else signal
        if self.last is not None:
            values = values[-round(self.last * rates[self.column]) :]
        values = values.T.astype(np.float64) * FACTORS[self.column]
        return modality.from_array(values, rates[self.column], channels[self.column])

    def stamp(self) -> str:
        """Size and time of the file's last change, and which part of it."""
        return f"{self.path} {_changed(self.path)} {self.key} {self.column} {self.last}"


@sources.register("dreamer")
class Dreamer(Source):
    """Read DREAMER from its one file, ``DREAMER.mat``.

    Columns ``eeg`` (14 electrodes of the file, 128 Hz, volts) and ``ecg`` (two channels, 256 Hz, in the unit of the
    file), a sensor of kind ``signal``. Labels are the ratings ``valence``, ``arousal`` and ``dominance``, 1 to 5,
    ``valence_high`` and so on (``high`` where a rating is above ``threshold``, else ``low``), ``age`` and ``gender``.
    Trials are the clips in the order of the file. The EEG has an offset of thousands of microvolts, which is left in
    place: band features do not see it, raw samples do.

    The file is one compressed variable of 2 GB. A process passes through it once, and then reads one clip at a time;
    it keeps where the clips lie, about 50 kB each, and holds the samples of one alone.

    Args:
        path: the file, or a folder up to three levels above.
        seconds: how much of the end of each clip is used, as the literature does; null: all of it.
        baseline: ``keep`` makes a recording of its own, ``<trial>_baseline``, of the 61 s before each clip, for
            ``normalise: {kind: calibration, recording: "*_baseline"}``; its records have no labels.
        window: seconds of a record; default: a trial is one record.
        step: seconds from record to record; default: ``window``.
        threshold: ratings above it are high. 3 is the middle of the scale, so a rating of 3 is low.

    Raises:
        ConfigError: ``step`` without ``window``.
        DataError: there is no such file, or it is damaged; the message names it and the field.

    Reference:
        Katsigiannis and Ramzan, DREAMER: a database for emotion recognition through EEG and ECG signals from wireless
        low-cost off-the-shelf devices, IEEE Journal of Biomedical and Health Informatics 22(1), 2018.

    Example:
        ``data: {kind: dreamer, path: DREAMER.mat, window: 4}``
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="DREAMER.mat, or a folder above")],
        seconds: Annotated[float | None, Field(gt=0, description="how much of each clip's end; null: all")] = 60.0,
        baseline: Annotated[Literal["drop", "keep"], Field(description="record the time before each clip")] = "drop",
        window: Annotated[float | None, Field(gt=0, description="seconds of a record; default: the trial")] = None,
        step: Annotated[float | None, Field(gt=0, description="seconds from record to record")] = None,
        threshold: Annotated[float, Field(ge=1, le=5, description="ratings above it are high")] = 3.0,
    ) -> None:
        self.path = Path(path)
        self.duration = seconds
        self.keeps = baseline == "keep"
        self.cutting = Cutting.of(window, step)
        self.threshold = threshold

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether this is the file, by its name and its variable, or a folder with it in reach."""
        try:
            found = _find(path)
            return found is not None and "DREAMER" in list_variables(found)
        except (OSError, DataError):
            return False

    @cached_property
    def file(self) -> Path:
        """The file itself."""
        found = _find(self.path)
        if found is None:
            raise DataError(f"{self.path}: there must be a file {FILE} here or below, but there is none")
        return found

    @cached_property
    def contents(self) -> Contents:
        """What is kept of the file."""
        return read_contents(self.file, _changed(self.file))

    @cached_property
    def _records(self) -> list[_Record]:
        found: list[_Record] = []
        for number, person in enumerate(self.contents.people):
            known = {"age": person.age, "gender": person.gender}
            for clip, ratings in enumerate(person.ratings):
                if self.keeps:
                    found += self._cut(number, clip, "baseline", known | self._labels(()))
                found += self._cut(number, clip, "stimuli", known | self._labels(ratings))
        if not found:
            raise DataError(
                f"{self.file}: a trial must be as long as window, {self.cutting.window or 0:g} s, but none is"
            )
        return found

    def _cut(self, number: int, clip: int, part: str, labels: dict[str, str | None]) -> Iterator[_Record]:
        """Records of one recording."""
        signals = self.contents.people[number].signals
        seconds = min(signals[column, part][clip].shape[0] / rate for column, rate in self.contents.rates.items())
        if (last := self._last(part)) is not None:
            seconds = min(seconds, last)
        stretches = self.cutting.stretches(seconds)
        names = (str(number + 1), "1", str(clip + 1))
        rows = rows_of_trial(*names, stretches, labels, whole=self.cutting.window is None, part=PARTS[part])
        for row, stretch in zip(rows, stretches, strict=True):
            yield _Record(row, number, clip, part, stretch)

    def _last(self, part: str) -> float | None:
        return self.duration if part == "stimuli" else None

    def _labels(self, ratings: tuple[float, ...]) -> dict[str, str | None]:
        """Ratings as text, and whether they are high; None all where there are no ratings."""
        labels: dict[str, str | None] = dict.fromkeys([*RATINGS, *(f"{name}_high" for name in RATINGS), *FACTORS])
        for name, rating in zip(RATINGS, ratings, strict=False):
            if not math.isnan(rating):
                labels[name] = f"{rating:g}"
                labels[f"{name}_high"] = "high" if rating > self.threshold else "low"
        return labels

    def columns(self) -> list[str]:
        """Names of rows, signals and labels."""
        high = [f"{name}_high" for name in RATINGS]
        return ["id", "subject", "session", "trial", *FACTORS, *RATINGS, *high, "age", "gender"]

    def rows(self) -> list[Row]:
        """Every record, person by person and clip by clip."""
        return [record.row for record in self._records]

    @property
    def title(self) -> str:
        """Name of the file."""
        return FILE

    def where(self, row: int) -> str:
        """Person and trial, from 1."""
        record = self._records[row].row
        return f"{FILE} subject {record.subject} trial {record.recording}"

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """One signal of one clip."""
        if sensor.column not in FACTORS:
            raise DataError(f"a sensor must be one of {list(FACTORS)}, but {sensor.column!r} is a label")
        record = self._records[row]
        name = f"{record.row.subject}_1_{record.row.recording}"
        return DreamerCell(
            key=name,
            where=f"{self.where(row)}, column {sensor.column}",
            name=name,
            start=record.stretch.start,
            stop=record.stretch.stop,
            path=self.file,
            column=sensor.column,
            part=record.part,
            person=record.person,
            clip=record.clip,
            last=self._last(record.part),
        )

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """EEG, and ECG as a signal."""
        return {"eeg": {"kind": "eeg"}, "ecg": {"kind": "signal"}}

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """The offset of the EEG, where samples are used as they are."""
        return [
            f"{name}: DREAMER's EEG stands on an offset of thousands of microvolts, which raw samples keep unless "
            "preprocess takes it away"
            for name, sensor in sensors.items()
            if sensor.column == "eeg" and not sensor.modality.hertz()
        ]

    def fingerprint(self) -> str:
        """Hash of the file's place, size and time, and of the options."""
        file = [str(self.file.resolve()), _changed(self.file)]
        return hashed(self.kind, file, self.duration, self.keeps, self.cutting, self.threshold)


@lru_cache(maxsize=1)
def read_contents(path: Path, changed: str) -> Contents:
    """Everything but the signals, which stay in the file; it stays in memory, since clips are asked for one by one.

    Raises:
        DataError: a field is missing or has another shape; the message names it.
    """
    del changed
    top = read_tree(path, "DREAMER")
    rates = {column: _rate(_field(top, path, f"{column.upper()}_SamplingRate"), path, column) for column in FACTORS}
    names = _field(top, path, "EEG_Electrodes")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{path}: EEG_Electrodes must be a cell of names, but is {_said(names)}")
    channels = {"eeg": tuple(names), "ecg": ("ECG1", "ECG2")}
    data = _field(top, path, "Data")
    data = data if isinstance(data, list) else [data]
    people = [_person(one, path, f"Data{{{number}}}.", channels) for number, one in enumerate(data, start=1)]
    return Contents(tuple(people), rates, channels)


def _person(data: Any, path: Path, place: str, channels: Mapping[str, tuple[str, ...]]) -> Person:
    """One person's ratings and signals."""
    columns: list[list[float]] = []
    for name in RATINGS:
        scores = _field(data, path, f"Score{name.capitalize()}", place)
        if not isinstance(scores, np.ndarray) or not scores.size or (columns and scores.size != len(columns[0])):
            wanted = f"of {len(columns[0])} clips" if columns else "of every clip"
            raise DataError(f"{path}: {place}Score{name.capitalize()} must be ratings {wanted}, but is {_said(scores)}")
        columns.append(scores.reshape(-1).astype(float).tolist())
    signals = {}
    for column, names in channels.items():
        device = _field(data, path, column.upper(), place)
        for part in PARTS:
            where = f"{path}: {place}{column.upper()}.{part}"
            cells = _field(device, path, part, f"{place}{column.upper()}.")
            cells = cells if isinstance(cells, list) else [cells]
            if len(cells) != len(columns[0]):
                raise DataError(f"{where} must have a cell for each of {len(columns[0])} ratings, but has {len(cells)}")
            for values in cells:
                if (
                    not isinstance(values, np.ndarray | Stored)
                    or len(values.shape) != 2
                    or values.shape[1] != len(names)
                    or not values.shape[0]
                ):
                    raise DataError(f"{where} must hold numbers (time, {len(names)}), but has {_said(values)}")
            signals[column, part] = tuple(cells)
    age, gender = (_text(_field(data, path, name, place)) for name in ("Age", "Gender"))
    return Person(age, gender, tuple(zip(*columns, strict=True)), signals)


def _rate(value: Any, path: Path, column: str) -> float:
    if not isinstance(value, np.ndarray) or value.size != 1 or not 0 < value.item() < math.inf:
        raise DataError(f"{path}: {column.upper()}_SamplingRate must be a number above 0, but is {_said(value)}")
    return float(value.item())


def _field(struct: Any, path: Path, name: str, place: str = "") -> Any:
    if not isinstance(struct, dict) or name not in struct:
        got = sorted(struct) if isinstance(struct, dict) else _said(struct)
        raise DataError(f"{path}: there must be a field {place}{name}, but got {got}")
    return struct[name]


def _text(value: Any) -> str | None:
    """Text or one number, as text; None for anything else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = f"{value.item():g}"
    return as_text(value.strip()) if isinstance(value, str) else None


def _said(value: Any) -> str:
    """What a value is, for errors."""
    if isinstance(value, np.ndarray | Stored):
        return f"{value.dtype} of shape {value.shape}"
    known = {"a struct": dict, "a cell": list, "text": str}
    return next((what for what, kind in known.items() if isinstance(value, kind)), "nothing that is read")


def _changed(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return f"{status.st_size} {status.st_mtime_ns}"


def _find(path: Path) -> Path | None:
    """The file: the path itself, or the nearest below."""
    if path.is_file():
        return path if path.name.lower() == FILE.lower() else None
    levels = (sorted(path.glob(f"{level}*")) for level in ("", "*/", "*/*/"))
    return next((found for level in levels for found in level if found.name.lower() == FILE.lower()), None)
