"""DREAMER: EEG and ECG of 23 people who watched 18 film clips, by cheap wireless devices."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording
from fusionkit.core.registry import sources
from fusionkit.data.matlab import list_variables, read_variable
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial
from fusionkit.data.table import as_text

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

FILE = "DREAMER.mat"
RATINGS = ("valence", "arousal", "dominance")
FACTORS: Mapping[str, float] = {"eeg": 1e-6, "ecg": 1.0}  # the file's EEG is in microvolts


class Clip(NamedTuple):
    """What one person showed at one clip: ratings, and (time, channel) in the file's unit by column."""

    ratings: tuple[float, ...]
    stimulus: dict[str, Array]
    baseline: dict[str, Array]


class Person(NamedTuple):
    """One person of the file."""

    age: str | None
    gender: str | None
    clips: tuple[Clip, ...]


class Contents(NamedTuple):
    """What is kept of the file: people in its order, and per column the sampling rate and the channels."""

    people: tuple[Person, ...]
    rates: Mapping[str, float]
    channels: Mapping[str, tuple[str, ...]]


class _Record(NamedTuple):
    row: Row
    signals: Mapping[str, Array]
    name: str
    stretch: Stretch


@dataclass(frozen=True, kw_only=True, eq=False)
class DreamerCell(Cell):
    """Samples of one clip, (time, channel) as in the file, and the factor that makes volts of them."""

    values: Array
    factor: float
    sample_rate: float
    channels: tuple[str, ...]

    def _load(self, modality: "Modality") -> Recording:
        values = self.values.T.astype(np.float64) * self.factor
        return modality.from_array(values, self.sample_rate, self.channels)


@sources.register("dreamer")
class Dreamer(Source):
    """Read DREAMER from its one file, ``DREAMER.mat``.

    Columns ``eeg`` (14 electrodes of the file, 128 Hz, volts) and ``ecg`` (two channels, 256 Hz, in the unit of the
    file), a sensor of kind ``signal``. Labels are the ratings ``valence``, ``arousal`` and ``dominance``, 1 to 5,
    ``valence_high`` and so on (``high`` where a rating is above ``threshold``, else ``low``), ``age`` and ``gender``.
    Trials are the clips in the order of the file. The EEG has an offset of thousands of microvolts, which is left in
    place: band features do not see it, raw samples do.

    The file is one variable of 2 GB, so that one process reads all of it at once (that much memory for a moment) and
    keeps what is asked for: about 230 MB for the last minute of every clip.

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
        return _read(self.file, _changed(self.file), self.duration, self.keeps)

    @cached_property
    def _records(self) -> list[_Record]:
        found: list[_Record] = []
        for number, person in enumerate(self.contents.people, start=1):
            for trial, clip in enumerate(person.clips, start=1):
                known = {"age": person.age, "gender": person.gender}
                if self.keeps:
                    found += self._cut(str(number), str(trial), clip.baseline, known | self._labels(()), "_baseline")
                found += self._cut(str(number), str(trial), clip.stimulus, known | self._labels(clip.ratings), "")
        if not found:
            raise DataError(
                f"{self.file}: a trial must be as long as window, {self.cutting.window or 0:g} s, but none is"
            )
        return found

    def _cut(
        self, subject: str, trial: str, signals: Mapping[str, Array], labels: dict[str, str | None], part: str
    ) -> Iterator[_Record]:
        """Records of one recording; ``part`` is what its name has after the trial's."""
        seconds = min(len(values) / self.contents.rates[column] for column, values in signals.items())
        stretches = self.cutting.stretches(seconds)
        rows = rows_of_trial(subject, "1", trial, stretches, labels, whole=self.cutting.window is None, part=part)
        for row, stretch in zip(rows, stretches, strict=True):
            yield _Record(row, signals, f"{subject}_1_{trial}{part}", stretch)

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
        return DreamerCell(
            key=record.name,
            where=f"{self.where(row)}, column {sensor.column}",
            name=record.name,
            start=record.stretch.start,
            stop=record.stretch.stop,
            values=record.signals[sensor.column],
            factor=FACTORS[sensor.column],
            sample_rate=self.contents.rates[sensor.column],
            channels=self.contents.channels[sensor.column],
        )

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """EEG, and ECG as a signal."""
        return {"eeg": {"kind": "eeg"}, "ecg": {"kind": "signal"}}

    def fingerprint(self) -> str:
        """Hash of the file's place, size and time, and of the options."""
        file = [str(self.file.resolve()), _changed(self.file)]
        return hashed(self.kind, file, self.duration, self.keeps, self.cutting, self.threshold)


@lru_cache(maxsize=1)
def _read(path: Path, changed: str, seconds: float | None, baseline: bool) -> Contents:
    """Read the file, and keep what is asked for as float32; it stays in memory, since trials are asked for one by one.

    Raises:
        DataError: a field is missing or has another shape; the message names it.
    """
    del changed
    top = read_variable(path, "DREAMER")
    rates = {column: float(_field(top, path, f"{column.upper()}_SamplingRate")) for column in FACTORS}
    channels = {
        "eeg": tuple(str(name) for name in np.atleast_1d(_field(top, path, "EEG_Electrodes"))),
        "ecg": ("ECG1", "ECG2"),
    }
    cells = _cells(_field(top, path, "Data"))
    taken = {"stimuli": seconds, **({"baseline": None} if baseline else {})}
    places = [f"Data{{{number}}}." for number in range(1, len(cells) + 1)]
    people = tuple(
        _person(data, path, place, taken, rates, channels) for data, place in zip(cells, places, strict=True)
    )
    return Contents(people, rates, channels)


def _person(
    data: Any,
    path: Path,
    place: str,
    taken: Mapping[str, float | None],
    rates: Mapping[str, float],
    channels: Mapping[str, tuple[str, ...]],
) -> Person:
    """One person's ratings, and of each part of a clip the last seconds that are ``taken``."""
    ratings = [np.atleast_1d(_field(data, path, f"Score{name.capitalize()}", place)).astype(float) for name in RATINGS]
    clips = [Clip(tuple(map(float, scores)), {}, {}) for scores in zip(*ratings, strict=True)]
    for column, names in channels.items():
        device = _field(data, path, column.upper(), place)
        for part, seconds in taken.items():
            where = f"{path}: {place}{column.upper()}.{part}"
            cells = _cells(_field(device, path, part, f"{place}{column.upper()}."))
            if len(cells) != len(clips):
                raise DataError(f"{where} must have a cell for each of {len(clips)} ratings, but has {len(cells)}")
            for clip, cell in zip(clips, cells, strict=True):
                values = np.asarray(cell)
                if values.ndim != 2 or values.shape[1] != len(names) or values.dtype.kind not in "fiu":
                    raise DataError(
                        f"{where} must hold numbers (time, {len(names)}), but has {values.dtype} of shape {values.shape}"
                    )
                first = 0 if seconds is None else max(0, len(values) - round(seconds * rates[column]))
                kept = clip.stimulus if part == "stimuli" else clip.baseline
                kept[column] = values[first:].astype(np.float32)
    return Person(_text(data, path, "Age", place), _text(data, path, "Gender", place), tuple(clips))


def _field(struct: Any, path: Path, name: str, place: str = "") -> Any:
    fields = getattr(struct, "_fieldnames", None)
    if fields is None or name not in fields:
        raise DataError(f"{path}: there must be a field {place}{name}, but got {fields or type(struct).__name__}")
    return getattr(struct, name)


def _text(struct: Any, path: Path, name: str, place: str) -> str | None:
    return as_text(str(_field(struct, path, name, place)))


def _cells(cell: Any) -> list[Any]:
    """What a cell array holds; one of a single element was squeezed to that element."""
    return list(cell) if isinstance(cell, np.ndarray) and cell.dtype == object else [cell]


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
    return next((found for level in ("", "*/", "*/*/") for found in sorted(path.glob(f"{level}{FILE}"))), None)
