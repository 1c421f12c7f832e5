"""What the data sets of the SEED laboratory share: electrodes, labels by trial, files by subject, cells, windows."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError, did_you_mean
from fusionkit.core.recording import Array, Recording
from fusionkit.data.matlab import list_variables, read_array
from fusionkit.data.protocols import natural_order
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

SAMPLE_RATE = 200.0
VOLT = 1e-6  # files hold microvolts
BANDS = ("delta", "theta", "alpha", "beta", "gamma")
_CHANNELS = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 "
    "TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)
CHANNELS = tuple(_CHANNELS.split())
"""The 62 electrodes in the order of the files (Channel Order.xlsx)."""
LEFT_RIGHT = tuple(
    (left, f"{left[:-1]}{int(left[-1]) + 1}") for left in CHANNELS if left[-1].isdigit() and int(left[-1]) % 2
)
"""The 27 pairs of DASM and RASM, in the order of their left electrodes (the files do not say theirs)."""
_FRONT_BACK = (
    "FT7-TP7 FC5-CP5 FC3-CP3 FC1-CP1 FCZ-CPZ FC2-CP2 FC4-CP4 FC6-CP6 FT8-TP8 F7-P7 F5-P5 F3-P3 F1-P1 FZ-PZ F2-P2 "
    "F4-P4 F6-P6 F8-P8 FP1-O1 FP2-O2 FPZ-OZ AF3-CB1 AF4-CB2"
)
FRONT_BACK = tuple((front, back) for front, _, back in (pair.partition("-") for pair in _FRONT_BACK.split()))
"""The 23 pairs of DCAU."""
EYE = (
    *(f"pupil_{n}" for n in range(1, 13)),
    *(f"dispersion_{n}" for n in range(1, 5)),
    *("fixation_duration_mean", "fixation_duration_std", "blink_duration_mean", "blink_duration_std"),
    *(f"saccade_{n}" for n in range(1, 5)),
    *(f"event_{n}" for n in range(1, 10)),
)
"""The 33 eye movement features: names of their groups, numbered where the order within a group is not published."""

Window = Annotated[
    Annotated[float, Field(gt=0)] | Literal["trial"] | None,
    Field(description="seconds of a record, or trial: all of it (default: one step of features; a whole raw trial)"),
]
Step = Annotated[float | None, Field(gt=0, description="seconds from record to record; default: window")]
Sessions = Annotated[list[int] | None, Field(min_length=1, description="which sessions; default: all")]
Subjects = Annotated[list[str | int] | None, Field(min_length=1, description="which subjects; default: all")]


@dataclass(frozen=True, kw_only=True)
class TrialCell(Cell):
    """One trial of one column, in one file.

    Attributes:
        path: the file.
        rate: hertz of what is read.
        channels: their names.
        seconds: how long the trial is.
    """

    path: Path
    rate: float
    channels: tuple[str, ...]
    seconds: float
    from_file: ClassVar[bool] = True

    @abstractmethod
    def values(self) -> Array:
        """The trial in the layout of a window: ``(channel, time)`` or ``(channel, band, time)``."""

    def _load(self, modality: "Modality") -> Recording:
        return modality.from_array(self.values(), self.rate, self.channels)

    def stamp(self) -> str:
        """Size and time of the file's last change, and how it is read."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None
        return f"{self.path} {status.st_size} {status.st_mtime_ns} {self.key}"


@dataclass(frozen=True, kw_only=True)
class MatlabCell(TrialCell):
    """A variable ``(channel, time)``, or ``(channel, time, band)`` where there are bands, times a factor."""

    variable: str
    bands: bool = False
    factor: float = 1.0

    def values(self) -> Array:
        """The variable, its time last."""
        array = read_array(self.path, self.variable, axes=3 if self.bands else 2) * self.factor
        return array.transpose(0, 2, 1) if self.bands else array


def check_trials(numbers: Iterable[int], count: int, path: Path) -> None:
    """Refuse a file that has not each of the trials 1 to ``count``.

    Raises:
        DataError: some are missing, or there are others.
    """
    numbers, expected = set(numbers), set(range(1, count + 1))
    for verb, odd in (("lacks", expected - numbers), ("has also", numbers - expected)):
        if odd:
            raise DataError(f"{path}: must have the trials 1 to {count}, but {verb} {', '.join(map(str, sorted(odd)))}")


def matlab_cells(
    path: Path, pattern: str, channels: tuple[str, ...], rate: float, trials: int, *, bands: bool, factor: float = 1.0
) -> dict[int, MatlabCell]:
    """Cells of a file whose variables are trials, by the number in their names; nothing is loaded.

    Args:
        path: the file.
        pattern: of a variable's name in any case, with one group, the number; other variables are passed over.
        channels: names of the rows.
        rate: hertz.
        trials: how many there must be.
        bands: whether there is a third axis, the five bands.
        factor: what values are multiplied by.

    Raises:
        DataError: the file is damaged, a variable has another shape, or a number is missing or there twice.
    """
    cells: dict[int, MatlabCell] = {}
    where = f"{path.parent.name}/{path.name}"
    for variable, shape in list_variables(path).items():
        match = re.fullmatch(pattern, variable, re.IGNORECASE)
        if match is None:
            continue
        fits = shape[:1] == (len(channels),) and shape[2:] == ((len(BANDS),) if bands else ())
        if len(shape) < 2 or shape[1] < 1 or not fits:
            wanted = f"({len(channels)}, time{f', {len(BANDS)}' if bands else ''})"
            raise DataError(f"{path}: variable {variable}: must be {wanted}, but is {shape}")
        number = int(match[1])
        if number in cells:
            raise DataError(
                f"{path}: a trial must have one variable, but trial {number} has {cells[number].variable} and {variable}"
            )
        name = f"{where}:{variable}"
        cells[number] = MatlabCell(
            key=name,
            where=where,
            name=name,
            path=path,
            rate=rate,
            channels=channels,
            seconds=shape[1] / rate,
            variable=variable,
            bands=bands,
            factor=factor,
        )
    check_trials(cells, trials, path)
    return dict(sorted(cells.items()))


@dataclass(frozen=True)
class Trial:
    """One trial: whose, what was shown, and where its columns are (those it has)."""

    subject: str
    session: str
    number: int
    label: int
    cells: Mapping[str, TrialCell]

    @property
    def seconds(self) -> float:
        """Of the shortest column."""
        return min(cell.seconds for cell in self.cells.values())


class SeedFamily(Source):
    """Trials of a data set of the SEED laboratory; each is one stored recording, and windows of it are records.

    Args:
        path: the folder of the data, or any above it.
        window: seconds of a record, ``trial``, or None: see `Window`.
        step: seconds from record to record.
        sessions, subjects: which ones to take; None: all.
    """

    emotions: ClassVar[Mapping[int, str]]
    smoothed: ClassVar[str] = "the laboratory smoothed these features"  # or may have: see `notes`

    def __init__(
        self,
        path: Path,
        window: float | Literal["trial"] | None,
        step: float | None,
        sessions: Sequence[int] | None,
        subjects: Sequence[str | int] | None,
    ) -> None:
        if step is not None and window == "trial":
            raise ConfigError(f"step is from window to window, but window is trial (step is {step:g} s)")
        self.path = Path(path)
        self._window, self._step, self._sessions, self._subjects = window, step, sessions, subjects
        self.remarks: list[str] = []  # what reading finds that the user must know

    @abstractmethod
    def _hop(self) -> float | None:
        """Seconds of one step of ready-made features; None where the samples are raw."""

    @abstractmethod
    def _found(self) -> Iterator[Trial]:
        """Every trial of the folder, subject by subject."""

    @cached_property
    def cutting(self) -> Cutting:
        """How trials become records."""
        hop = self._hop()
        window = None if self._window == "trial" else hop if self._window is None else self._window
        for name, seconds in (("window", window), ("step", self._step)):
            if hop is not None and seconds is not None and (seconds < hop or round(seconds / hop, 6) % 1):
                raise ConfigError(f"{name} must be a multiple of the features' {hop:g} s, but is {seconds:g} s")
        return Cutting.of(window, self._step)

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial that is asked for.

        Raises:
            DataError: a file is damaged or breaks its format, a session or subject is not there, or a trial is
                shorter than a window; the message names it.
        """
        every = list(self._found())
        for what, asked in (("sessions", self._sessions), ("subjects", self._subjects)):
            known = {getattr(trial, what[:-1]) for trial in every}
            for name in map(str, asked or ()):
                if name not in known:
                    near = did_you_mean(name, known)
                    raise DataError(
                        f"{self.path}: {what}: there is none named {name!r}{near}; known: "
                        f"{sorted(known, key=natural_order)}"
                    )
        sessions, subjects = ({str(one) for one in asked or ()} for asked in (self._sessions, self._subjects))
        wanted = [
            trial
            for trial in every
            if (not sessions or trial.session in sessions) and (not subjects or trial.subject in subjects)
        ]
        if not wanted:
            raise DataError(
                f"{self.path}: sessions and subjects must have trials in common, but {sorted(sessions)} and "
                f"{sorted(subjects, key=natural_order)} have none"
            )
        for trial in wanted:
            if not self.cutting.stretches(trial.seconds):
                raise DataError(
                    f"{next(iter(trial.cells.values())).name}: window must fit into every trial, but is "
                    f"{self.cutting.window:g} s, and trial {trial.number} has {trial.seconds:g} s"
                )
        return wanted

    @cached_property
    def _records(self) -> list[tuple[Row, Trial, Stretch]]:
        records = []
        for trial in self.trials:
            stretches = self.cutting.stretches(trial.seconds)
            labels = {"emotion": self.emotions[trial.label], "label": str(trial.label)}
            rows = rows_of_trial(
                trial.subject, trial.session, str(trial.number), stretches, labels, whole=self.cutting.window is None
            )
            records += [(row, trial, stretch) for row, stretch in zip(rows, stretches, strict=True)]
        return records

    def columns(self) -> list[str]:
        """Names, labels, and the sensors that some trial has."""
        sensors = dict.fromkeys(column for trial in self.trials for column in trial.cells)
        return [*self._records[0][0].labels, *sensors]

    def rows(self) -> list[Row]:
        """Every record, trial by trial."""
        return [row for row, _, _ in self._records]

    def where(self, row: int) -> str:
        """The record's name."""
        return f"{self.title} record {self._records[row][0].id}"

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """The trial's column, and where the record lies in it; None where the trial lacks it."""
        _, trial, stretch = self._records[row]
        where = f"{self.where(row)}, column {sensor.column}"
        if sensor.column in trial.cells:
            return replace(trial.cells[sensor.column], where=where, start=stretch.start, stop=stretch.stop)
        if sensor.column not in {column for other in self.trials for column in other.cells}:
            raise DataError(f"{where}: a sensor must be eeg or eye, but {sensor.column!r} is not")
        return None

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """Those that some trial has; eye movement is no EEG."""
        ready = {} if self._hop() is None else {"features": {"kind": "ready"}}
        entries: dict[str, Mapping[str, Any]] = {"eeg": {"kind": "eeg", **ready}, "eye": {"kind": "signal"}}
        return {name: entries[name] for name in entries if any(name in trial.cells for trial in self.trials)}

    def fingerprint(self) -> str:
        """Hash of the place, the trials and how they are cut."""
        trials = [
            (trial.subject, trial.session, trial.number, trial.label, trial.seconds, [*trial.cells])
            for trial in self.trials
        ]
        return hashed(self.kind, str(self.path.resolve()), self.cutting, trials)

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """What was found while reading, and what smoothing of ready-made features means."""
        lacking = [
            f"{self.kind}: subjects {', '.join(subjects)} have no {column} in some or all of their trials"
            for column in self.sensors()
            if (subjects := dict.fromkeys(trial.subject for trial in self.trials if column not in trial.cells))
        ]
        ready = self._hop() is not None and any(sensor.column == "eeg" for sensor in sensors.values())
        smoothed = (
            f"{self.kind}: {self.smoothed} within each trial, which looks ahead and crosses windows: records of one trial "
            "may never straddle a split, and no stream can give such features"
        )
        return [*([smoothed] if ready else []), *lacking, *self.remarks]
