"""Where records come from: rows with names and labels, and for every sensor a cell that can be loaded."""

import hashlib
import inspect
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fusionkit.core.errors import DataError, FusionkitError, did_you_mean
from fusionkit.core.recording import Array, Recording
from fusionkit.data.records import ROLES

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

Role = Literal["id", "subject", "session", "trial", "recording"]


@dataclass(frozen=True)
class Row:
    """One record before it is stored. ``labels`` holds every column of the table as text, None where empty."""

    id: str
    subject: str
    session: str = ""
    trial: str = ""
    recording: str = ""
    labels: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SensorColumn:
    """One sensor of a recipe, and where a source finds it.

    Attributes:
        name: its name in the recipe and in the study.
        modality: what reads it.
        column: the column that holds it.
        start, stop: columns with the seconds where a record starts and stops within its recording; by default
            ``<column>_start`` and ``<column>_stop`` where the source has such columns.
    """

    name: str
    modality: "Modality"
    column: str
    start: str | None = None
    stop: str | None = None

    def settings(self) -> dict[str, Any]:
        """What decides how it is read, as plain JSON: equal settings give equal samples."""
        options = [
            name
            for name, parameter in inspect.signature(type(self.modality)).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        state = vars(self.modality)
        if all(name in state for name in options):  # else it keeps them in a form of its own
            state = {name: state[name] for name in options}
        cls = type(self.modality)
        return {
            "modality": f"{cls.__module__}:{cls.__qualname__}",
            "options": {name: _plain(value) for name, value in state.items()},
            "column": self.column,
            "start": self.start,
            "stop": self.stop,
        }


@dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """One sensor of one record, not yet loaded.

    Attributes:
        key: cells with an equal key are one stored recording, read once.
        where: how errors call it (``manifest.csv row 3, column eeg``).
        name: what the stored recording is called.
        start, stop: seconds within the recording; None is its very start or end.
    """

    key: str
    where: str
    name: str = ""
    start: float | None = None
    stop: float | None = None
    from_file: ClassVar[bool] = False  # True: slow to load and cheap to pickle, so other processes may load it

    def load(self, modality: "Modality") -> Recording:
        """Read the whole recording; whatever a reading library raises becomes an error of ours.

        Raises:
            DataError: it cannot be read; `where` is added by the caller.
        """
        try:
            return self._load(modality)
        except (FusionkitError, MemoryError):
            raise
        except Exception as error:  # readers of other people's formats raise anything
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise DataError(f"{self.name}: cannot be read as {modality.kind}: {reason}") from error

    @abstractmethod
    def _load(self, modality: "Modality") -> Recording: ...

    def stamp(self) -> str:
        """Changes when what `load` gives may have changed; part of how a cached study is recognised."""
        return self.key


@dataclass(frozen=True, kw_only=True)
class FileCell(Cell):
    """A file that the modality reads."""

    path: Path
    from_file: ClassVar[bool] = True

    def _load(self, modality: "Modality") -> Recording:
        return modality.read(self.path)

    def stamp(self) -> str:
        """Size and time of the last change."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None
        return f"{self.path} {status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayCell(Cell):
    """One record's array, in the layout of a window."""

    values: Array
    sample_rate: float | None = None
    channels: tuple[str, ...] = ()

    def _load(self, modality: "Modality") -> Recording:
        return modality.from_array(self.values, self.sample_rate, self.channels)


@dataclass(frozen=True, kw_only=True)
class TextCell(Cell):
    """A value written in the table itself."""

    text: str

    def _load(self, modality: "Modality") -> Recording:
        return modality.from_cell(self.text)

    def stamp(self) -> str:
        """The text itself."""
        return f"{self.key} {self.text}"


class Source(ABC):
    """A place that records come from. Its keyword-only arguments are its recipe options."""

    kind: ClassVar[str]

    @abstractmethod
    def columns(self) -> list[str]:
        """Names of everything it has: sensors and labels."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """Every record, in order.

        Raises:
            DataError: the source is missing or damaged; the message names file and row.
        """

    @abstractmethod
    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """One sensor of one record (rows from 0), or None where the record lacks it.

        Raises:
            DataError: the cell names nothing that can be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with the table and the options; files that the table names are looked at by ``Cell.stamp``."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder or file is such a source, told by names and headers alone."""
        del path
        return False

    @classmethod
    def readings(cls, path: Path) -> list[dict[str, Any]]:
        """What a recipe may say of a source that is recognised: options for each form that its data are there in."""
        return [{"path": path}]

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """Columns of signals, and a recipe's entry for each (``{"eeg": {"kind": "eeg"}}``); none where recipes say."""
        return {}

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """What whoever uses these sensors of it must know, a line each; the report shows them."""
        del sensors
        return []

    @property
    def unlabelled(self) -> int:
        """How many of the last rows have no labels and are not divided by a split."""
        return 0

    @property
    def title(self) -> str:
        """How errors call it."""
        return self.kind

    def where(self, row: int) -> str:
        """How errors call a record (from 0): ``manifest.csv row 3`` is the third, the header not counted."""
        return f"{self.title} row {row + 1}"

    def columns_of(self, sensors: Mapping[str, SensorColumn]) -> dict[str, str | None]:
        """Columns that must be there for these sensors, as `check_columns` takes them."""
        asked: dict[str, str | None] = {}
        for name, sensor in sensors.items():
            asked[f"modalities.{name}.column"] = sensor.column
            asked |= {f"modalities.{name}.start": sensor.start, f"modalities.{name}.stop": sensor.stop}
        return asked

    def check_columns(self, asked: Mapping[str, str | None]) -> None:
        """Refuse columns that do not exist.

        Args:
            asked: what each column is for (``modalities.eeg.column``), and its name; None is not asked for.

        Raises:
            DataError: one line for every column that the source lacks, with the nearest it has.
        """
        known = self.columns()
        lines = [
            f"{self.title}: {use}: no column named {name!r}{did_you_mean(name, known)}; known: {sorted(known)}"
            for use, name in asked.items()
            if name is not None and name not in known
        ]
        if lines:
            raise DataError("\n".join(lines))

    def seconds(self, row: Row, sensor: SensorColumn) -> tuple[float | None, float | None]:
        """Start and stop of a record within its recording, from the sensor's columns.

        Raises:
            DataError: they are no seconds, negative, or start is not before stop.
        """
        start = _seconds(row, sensor.start or f"{sensor.column}_start")
        stop = _seconds(row, sensor.stop or f"{sensor.column}_stop")
        if stop is not None and stop <= (start or 0.0):
            raise DataError(f"start must be before stop, but start is {start or 0.0:g} s and stop {stop:g} s")
        return start, stop


def gather_rows(
    table: Sequence[Mapping[str, str | None]], columns: Sequence[str], roles: Mapping[Role, str], file: str
) -> list[Row]:
    """Rows of a table, with their names found by ``roles`` or by columns of that very name.

    ``id`` defaults to the number of the row, ``subject`` to the id (every record its own), ``recording`` to the
    trial, then the session; what is unknown is empty.

    Raises:
        DataError: a named column does not exist, an id or a subject is empty, or two rows share an id.
    """
    for role, column in roles.items():
        if column not in columns:
            near = did_you_mean(column, columns)
            raise DataError(f"{file}: columns.{role}: no column named {column!r}{near}; known: {sorted(columns)}")
    asked: dict[str, str] = {role: role for role in ROLES} | dict(roles)
    found = {role: column for role, column in asked.items() if column in columns}
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, labels in enumerate(table, start=1):
        names = {role: labels[column] or "" for role, column in found.items()}
        for role in ("id", "subject"):
            if names.get(role) == "":
                raise DataError(f"{file} row {number}, column {found[role]}: {role} must not be empty")
        name = names.get("id", str(number))
        if name in seen:
            raise DataError(f"{file}: id must be unique, but rows {seen[name]} and {number} are both {name!r}")
        seen[name] = number
        session, trial = names.get("session", ""), names.get("trial", "")
        recording = names.get("recording") or trial or session
        rows.append(Row(name, names.get("subject", name), session, trial, recording, labels))
    return rows


def label_uses(labels: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Label columns by what they are for, as ``Source.check_columns`` takes them: ``{"column state": "state"}``."""
    uses = labels.items() if isinstance(labels, Mapping) else ((label, f"column {label}") for label in labels)
    return {use: label for label, use in uses}


def hashed(*parts: object) -> str:
    """SHA-256 over plain values, for fingerprints and names of cached files."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _seconds(row: Row, column: str) -> float | None:
    text = row.labels.get(column)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{column} must be seconds from 0 on, but got {text!r}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(str(part) for part in value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
