"""DEAP: EEG and peripheral signals of 32 people who watched 40 music videos, as its authors preprocessed them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording
from fusionkit.core.registry import sources
from fusionkit.data.folders import find_below, find_folders, has_folder, subject_files
from fusionkit.data.matlab import find_variable, read_array
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial
from fusionkit.data.table import as_text
from fusionkit.data.unpickle import unpickle_file

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

SAMPLE_RATE = 128.0
BASELINE = 3.0
BAND = (4.0, 45.0)
EEG = (
    *("Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1", "Oz", "Pz"),
    *("Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2", "P4", "P8", "PO4", "O2"),
)
RATINGS = ("valence", "arousal", "dominance", "liking")
_MICROVOLTS = 1e-6
_FOLDERS = {"python": "data_preprocessed_python", "matlab": "data_preprocessed_matlab"}
_SUFFIX = {"python": ".dat", "matlab": ".mat"}


class Signals(NamedTuple):
    """Channels of the files that are one column: the first one's place, their names, what makes them SI, the unit."""

    first: int
    names: tuple[str, ...]
    factor: float
    unit: str


SIGNALS: Mapping[str, Signals] = {
    "eeg": Signals(0, EEG, _MICROVOLTS, "V"),
    "eog": Signals(32, ("hEOG", "vEOG"), _MICROVOLTS, "V"),
    "emg": Signals(34, ("zEMG", "tEMG"), _MICROVOLTS, "V"),
    "gsr": Signals(36, ("GSR",), 1.0, "ohm"),
    "respiration": Signals(37, ("respiration",), 1.0, ""),
    "plethysmograph": Signals(38, ("plethysmograph",), 1.0, ""),
    "temperature": Signals(39, ("temperature",), 1.0, ""),
}


@dataclass(frozen=True, kw_only=True)
class DeapCell(Cell):
    """One column of one trial of a file; ``trial`` counts from 0, ``skip`` samples are left out at its start."""

    path: Path
    column: str
    trial: int
    skip: int
    from_file: ClassVar[bool] = True

    def _load(self, modality: "Modality") -> Recording:
        signals = SIGNALS[self.column]
        channels = slice(signals.first, signals.first + len(signals.names))
        values = (
            _signals(self.path, _changed(self.path))[self.trial, channels, self.skip :].astype(np.float64)
            * signals.factor
        )
        recording = modality.from_array(values, SAMPLE_RATE, signals.names)
        return recording if modality.kind == "eeg" else replace(recording, unit=signals.unit)

    def stamp(self) -> str:
        """Size and time of the file's last change, and which part of it."""
        return f"{self.path} {_changed(self.path)} {self.column} {self.trial} {self.skip}"


@sources.register("deap")
class Deap(Source):
    """Read DEAP as preprocessed: ``data_preprocessed_python/sNN.dat`` or ``data_preprocessed_matlab/sNN.mat``.

    Columns ``eeg`` (32 electrodes, volts), ``eog`` (hEOG, vEOG) and ``emg`` (zEMG, tEMG) in volts, and, in the unit
    of the files, ``gsr``, ``respiration``, ``plethysmograph`` and ``temperature``, which are sensors of kind
    ``signal``; all at 128 Hz. Labels are the ratings ``valence``, ``arousal``, ``dominance`` and ``liking``, 1 to 9,
    and ``valence_high`` and so on: ``high`` where a rating is above ``threshold``, else ``low``. Trials are numbered
    in the order of the videos, which is not the order in which they were shown. A trial is one stored recording. A
    process keeps the last file that it read, about 100 MB.

    Args:
        path: the folder of that name, or one up to three levels above; or one with the files themselves in it.
        form: ``python`` or ``matlab``; ``auto`` takes Python's where both are there.
        baseline: ``keep`` stores the 3 s before the video, too, for `normalise` by calibration and for filters to
            settle; no record lies in them.
        window: seconds of a record; default: a trial is one record, of 60 s.
        step: seconds from record to record; default: ``window``.
        threshold: ratings above it are high. 5 is the middle of the scale, so a rating of 5 is low.

    Raises:
        ConfigError: ``step`` without ``window``.
        DataError: there are no such files, or one is damaged; the message names it.

    Reference:
        Koelstra et al., DEAP: a database for emotion analysis using physiological signals, IEEE Transactions on
        Affective Computing 3(1), 2012.

    Example:
        ``data: {kind: deap, path: DEAP, window: 4}``
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder of the files, or one above")],
        form: Annotated[Literal["auto", "python", "matlab"], Field(description="which files")] = "auto",
        baseline: Annotated[Literal["drop", "keep"], Field(description="store the 3 s before the video")] = "drop",
        window: Annotated[float | None, Field(gt=0, description="seconds of a record; default: the trial")] = None,
        step: Annotated[float | None, Field(gt=0, description="seconds from record to record")] = None,
        threshold: Annotated[float, Field(ge=1, le=9, description="ratings above it are high")] = 5.0,
    ) -> None:
        self.path = Path(path)
        self.form = form
        self.keeps = baseline == "keep"
        self.cutting = Cutting.of(window, step)
        self.threshold = threshold

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder is one of DEAP's, or has one in reach."""
        return has_folder(path, _FOLDERS.values())

    @cached_property
    def files(self) -> list[Path]:
        """A file per person, in the order of their numbers."""
        folders = {form: name for form, name in _FOLDERS.items() if self.form in ("auto", form)}
        found = find_folders(self.path, folders.values())
        for form, name in folders.items():
            if not found and find_below(self.path, f"s01{_SUFFIX[form]}"):  # copied into a folder of another name
                found[name] = self.path
            if name in found:
                pattern = rf"(s\d\d)()\{_SUFFIX[form]}"
                return [file.path for file in subject_files(found[name], pattern, f"s01{_SUFFIX[form]}")]
        raise DataError(
            f"{self.path}: there must be a folder {' or '.join(folders.values())} here or below, but there is none"
        )

    @cached_property
    def _records(self) -> list[tuple[Row, Path, int, Stretch]]:
        first = BASELINE if self.keeps else 0.0
        found = []
        for path in self.files:
            trials = _trials(path, _changed(path))
            seconds = trials.samples / SAMPLE_RATE - (0.0 if self.keeps else BASELINE)
            stretches = self.cutting.stretches(seconds, first)
            for trial, ratings in enumerate(trials.ratings):
                labels = self._labels(ratings)
                rows = rows_of_trial(
                    path.stem.lower(), "1", str(trial + 1), stretches, labels, whole=self.cutting.window is None
                )
                found += [(row, path, trial, stretch) for row, stretch in zip(rows, stretches, strict=True)]
        if not found:
            raise DataError(f"{self.path}: a trial must be as long as window, {self.cutting.window:g} s, but none is")
        return found

    def _labels(self, ratings: tuple[float, ...]) -> dict[str, str | None]:
        known = {name: as_text(rating) for name, rating in zip(RATINGS, ratings, strict=True)}
        high = {
            f"{name}_high": None if known[name] is None else ("low", "high")[rating > self.threshold]
            for name, rating in zip(RATINGS, ratings, strict=True)
        }
        return known | high | dict.fromkeys(SIGNALS)

    def columns(self) -> list[str]:
        """Names of rows, signals and ratings."""
        return ["id", "subject", "session", "trial", *SIGNALS, *RATINGS, *(f"{name}_high" for name in RATINGS)]

    def rows(self) -> list[Row]:
        """Every record: people by their numbers, videos by theirs."""
        return [row for row, *_ in self._records]

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.path.name

    def where(self, row: int) -> str:
        """File and trial, from 1."""
        _, path, trial, _ = self._records[row]
        return f"{path.name} trial {trial + 1}"

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """One signal of one trial."""
        if sensor.column not in SIGNALS:
            raise DataError(f"a sensor must be one of {list(SIGNALS)}, but {sensor.column!r} is a label")
        _, path, trial, stretch = self._records[row]
        name = f"{path.name} trial {trial + 1}"
        return DeapCell(
            key=name,
            where=f"{name}, column {sensor.column}",
            name=name,
            start=stretch.start,
            stop=stretch.stop,
            path=path,
            column=sensor.column,
            trial=trial,
            skip=0 if self.keeps else round(BASELINE * SAMPLE_RATE),
        )

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """All of its signals."""
        return {name: {"kind": "eeg" if name == "eeg" else "signal"} for name in SIGNALS}

    def fingerprint(self) -> str:
        """Hash of the files' places, sizes and times, and of the options."""
        files = [(str(path.resolve()), _changed(path)) for path in self.files]
        return hashed(self.kind, files, self.keeps, self.cutting, self.threshold)

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """Bands that DEAP's own filter has taken away."""
        low, high = BAND
        lines = []
        for name, sensor in sensors.items():
            bands = sensor.modality.hertz().items() if sensor.column == "eeg" else ()
            outside = [
                f"{band} ({lower:g}-{upper:g} Hz)" for band, (lower, upper) in bands if lower < low or upper > high
            ]
            if outside:
                lines.append(
                    f"{name}: DEAP's preprocessed EEG is band-passed from {low:g} to {high:g} Hz: what "
                    f"{', '.join(outside)} holds outside of that is the filter's rest, no brain wave"
                )
        return lines


class Trials(NamedTuple):
    """What is known of a file's trials: four ratings each, and their length."""

    ratings: tuple[tuple[float, ...], ...]
    samples: int


@lru_cache(maxsize=64)
def _trials(path: Path, changed: str) -> Trials:
    """Ratings and length of a file's trials, which stay in memory where the signals do not.

    Raises:
        DataError: the file is no DEAP file; the message names it.
    """
    if _is_pickle(path):
        arrays = _unpickled(path, changed)
        shape, ratings = arrays["data"].shape, arrays["labels"]
    else:
        shape, ratings = find_variable(path, "data").shape, read_array(path, "labels")
    channels, least = SIGNALS["temperature"].first + 1, round(BASELINE * SAMPLE_RATE)
    if len(shape) != 3 or not shape[0] or shape[1] != channels or shape[2] <= least:
        raise DataError(f"{path}: data must be (trials, {channels}, more than {least}), but its shape is {shape}")
    if ratings.shape != (shape[0], len(RATINGS)):
        raise DataError(
            f"{path}: labels must be {len(RATINGS)} ratings of each of {shape[0]} trials, but its shape is "
            f"{ratings.shape}"
        )
    return Trials(tuple(tuple(map(float, row)) for row in ratings), int(shape[2]))


def _signals(path: Path, changed: str) -> Array:
    """All signals of a file: (trial, channel, time)."""
    return _unpickled(path, changed)["data"] if _is_pickle(path) else _loaded(path, changed)


@lru_cache(maxsize=1)
def _unpickled(path: Path, changed: str) -> dict[str, Array]:
    """The arrays of a pickle; the last one stays in memory, since its trials are asked for one by one."""
    del changed
    found = unpickle_file(path)
    for name, axes in (("data", 3), ("labels", 2)):
        array = found.get(name) if isinstance(found, dict) else None
        if not isinstance(array, np.ndarray):
            known = sorted(map(str, found)) if isinstance(found, dict) else type(found).__name__
            raise DataError(f"{path}: must hold an array {name!r}, but holds {known}")
        if array.ndim != axes or array.dtype.kind not in "fiu":
            raise DataError(
                f"{path}: {name} must be numbers of {axes} axes, but is {array.dtype} of shape {array.shape}"
            )
    return {"data": found["data"], "labels": found["labels"]}


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: str) -> Array:
    """The signals of a MATLAB file; the last ones stay in memory."""
    del changed
    return read_array(path, "data", axes=3)


def _is_pickle(path: Path) -> bool:
    return path.suffix.lower() == ".dat"


def _changed(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return f"{status.st_size} {status.st_mtime_ns}"
