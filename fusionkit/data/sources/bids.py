"""Folders in the Brain Imaging Data Structure: recordings of EEG with the tables beside them."""

import csv
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError, did_you_mean, located
from fusionkit.core.recording import Recording
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import Cell, FileCell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

NEEDS = "mne-bids must be installed for this: pip install 'fusionkit-torch[eeg]'"
SUFFIXES = (".edf", ".bdf", ".vhdr", ".set")
ENTITIES = ("subject", "session", "trial", "task", "run")
_NAMED = re.compile(rb"(?im)^\s*(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$")


@dataclass(frozen=True, kw_only=True)
class BidsCell(FileCell):
    """A recording, with the types that its ``channels.tsv`` gives to channels."""

    types: tuple[tuple[str, str], ...] = ()

    def _load(self, modality: "Modality") -> Recording:
        recording, types = modality.read(self.path), dict(self.types)
        others = {name: types[name] for name in recording.channels if types.get(name, "EEG") != "EEG"}
        if modality.kind == "eeg" and others:
            listed = ", ".join(f"{name} is {type}" for name, type in list(others.items())[:5])
            raise DataError(
                f"{self.name}: an EEG sensor must read channels of type EEG, but channels.tsv says that {listed}; "
                f"name the sensor's channels in the recipe"
            )
        return recording

    def stamp(self) -> str:
        """Size and time of the last change, and the types."""
        return f"{super().stamp()} {self.types}"


class _File(NamedTuple):
    """One recording: its file, the names in its file's name, and the tables beside it."""

    path: Path
    names: Mapping[str, str]
    events: Path | None
    channels: Path | None

    @property
    def stem(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem.removesuffix("_eeg")

    @property
    def recording(self) -> str:
        """The part of the name that tells recordings of one session apart."""
        return "_".join(part for part in self.stem.split("_") if not part.startswith(("sub-", "ses-")))


class _Record(NamedTuple):
    row: Row
    file: _File
    stretch: Stretch


@sources.register("bids")
class Bids(Source):
    """Read the EEG of a BIDS folder; the files of `derivatives` and `sourcedata` are left alone.

    Column ``eeg``: every ``*_eeg`` file in EDF, BDF, BrainVision or EEGLAB format, read by the sensor itself, so that
    its channels and its preprocessing are chosen as with any file. A record is a recording; with ``window``, a window
    of it; with ``events``, the ``window`` seconds from the onset of each event of its ``events.tsv``. What leaves a
    recording is in no record. Subject, session, task and run are those of the file's name; recordings, or events, of a
    session are numbered as its trials. Label columns are the columns of ``participants.tsv`` and, with ``events``,
    those of ``events.tsv`` and ``event``. Files are never followed out of the folder.

    Args:
        path: the folder, with ``dataset_description.json`` in it.
        tasks: which tasks; default: all.
        events: which words of the column ``trial_type`` become records, and what they are called in the label
            ``event``: ``{T1: left, T2: right}``.
        window: seconds of a record.
        step: seconds from record to record; default: ``window``. Not with ``events``.

    Raises:
        ConfigError: mne-bids is not installed, ``step`` without ``window``, ``events`` without ``window`` or with ``step``.
        DataError: there is no EEG, a table breaks a rule, or a file lies outside; the message names it.

    Reference:
        Pernet et al., EEG-BIDS, an extension to the brain imaging data structure for electroencephalography,
        Scientific Data 6, 2019.

    Example:
        ``data: {kind: bids, path: ds001, tasks: [motor], events: {T1: left, T2: right}, window: 3}``
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder with dataset_description.json")],
        tasks: Annotated[list[str] | None, Field(min_length=1, description="which tasks")] = None,
        events: Annotated[
            dict[str, str] | None, Field(min_length=1, description="trial_type of a record: its class")
        ] = None,
        window: Annotated[float | None, Field(gt=0, description="seconds of a record; default: all")] = None,
        step: Annotated[float | None, Field(gt=0, description="seconds from record to record")] = None,
    ) -> None:
        if events is not None and (window is None or step is not None):
            raise ConfigError(
                f"events need a window from their onset and no step, but window is {window} and step {step}"
            )
        self.path = Path(path)
        self.tasks = tasks
        self.events = events
        self.cutting = Cutting.of(window, step)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder describes itself and has EEG of a subject in it."""
        return (path / "dataset_description.json").is_file() and any(
            next(path.glob(f"sub-*/{between}eeg"), None) for between in ("", "ses-*/")
        )

    @cached_property
    def _root(self) -> Path:
        if not self.path.is_dir():
            raise DataError(
                f"{self.path}: {'must be a folder, but is a file' if self.path.exists() else 'no such folder'}"
            )
        return self.path.resolve()

    @cached_property
    def _files(self) -> list[_File]:
        """Every recording, by the order of names."""
        bids = _mne_bids()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = bids.find_matching_paths(
                    self._root, datatypes="eeg", suffixes="eeg", extensions=list(SUFFIXES), tasks=self.tasks
                )
            except Exception as error:  # of names that are no BIDS
                raise DataError(f"{self.path}: must be a BIDS folder, but {_line(error)}") from error
        files = []
        for place in sorted(found, key=lambda one: str(one.fpath)):
            path = Path(place.fpath)
            if not path.relative_to(self._root).parts[0].startswith("sub-"):
                continue
            for part in path.parent.glob(f"{path.stem}.*"):
                self._check_inside(part)
            if path.suffix == ".vhdr":
                for name in _NAMED.findall(path.read_bytes()):
                    self._check_inside(path.parent / name.decode("utf-8", "replace"))
            names = {name: place.entities.get(name) or "" for name in ("subject", "session", "task", "run")}
            files.append(_File(path, names, self._beside(path, "events"), self._beside(path, "channels")))
        for one, two in pairwise(files):
            if one.stem == two.stem:
                raise DataError(f"{self.path}: a recording must be one file, but {one.path} and {two.path} are one")
        if not files:
            which = f" of task {' or '.join(self.tasks)}" if self.tasks else ""
            raise DataError(f"{self.path}: there must be EEG{which} (sub-*/eeg/*_eeg.edf ...), but there is none")
        return files

    def _beside(self, path: Path, suffix: str) -> Path | None:
        """The nearest table, in the recording's folder or above, whose name contradicts no part of the recording's."""
        parts = set(path.stem.split("_"))
        for folder in path.parents:
            tables = [table for table in folder.glob(f"*{suffix}.tsv") if table.stem.split("_")[-1] == suffix]
            fitting = [table for table in tables if parts.issuperset(table.stem.split("_")[:-1])]
            if fitting:
                nearest = max(fitting, key=lambda table: len(table.stem.split("_")))
                self._check_inside(nearest)
                return nearest
            if folder == self._root:
                break
        return None

    def _check_inside(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self._root):
            raise DataError(f"{path}: a file must lie in the folder, but this one leads out of it")

    @cached_property
    def _participants(self) -> dict[str, dict[str, str | None]]:
        """What ``participants.tsv`` says of each subject."""
        path = self.path / "participants.tsv"
        if not path.exists():
            return {}
        self._check_inside(path)
        rows = _read_tsv(path)
        if rows and "participant_id" not in rows[0]:
            raise DataError(f"{path}: there must be a column participant_id, but there are {list(rows[0])}")
        return {(row.pop("participant_id") or "").removeprefix("sub-"): row for row in rows}

    @cached_property
    def _labels(self) -> list[str]:
        """Columns that come from tables."""
        told = dict.fromkeys(name for row in self._participants.values() for name in row)
        happened = dict.fromkeys(name for table in self._events.values() for row in table for name in row)
        mine = ["event"] if self.events is not None else []
        return [name for name in dict.fromkeys(mine) | told | happened if name not in ("id", "eeg", *ENTITIES)]

    @cached_property
    def _events(self) -> dict[Path, list[dict[str, str | None]]]:
        """The events that are asked for, by recording; ``onset`` is in seconds from its start."""
        if self.events is None:
            return {}
        tables: dict[Path, list[dict[str, str | None]]] = {}
        seen: set[str] = set()
        for file in self._files:
            if file.events is None:
                raise DataError(f"{file.path}: there must be an events.tsv beside the recording, but there is none")
            rows = _read_tsv(file.events)
            if rows and not {"onset", "trial_type"} <= rows[0].keys():
                raise DataError(f"{file.events}: there must be columns onset and trial_type, but got {list(rows[0])}")
            seen |= {row["trial_type"] or "n/a" for row in rows}
            tables[file.path] = [
                row | {"event": self.events[row["trial_type"] or ""]}
                for row in rows
                if row["trial_type"] in self.events
            ]
        for name in self.events:
            if name not in seen:
                near = did_you_mean(name, seen)
                raise DataError(f"{self.path}: events: no trial_type is {name!r}{near}; known: {sorted(seen)}")
        return tables

    @cached_property
    def _records(self) -> list[_Record]:
        trials: Counter[tuple[str, str]] = Counter()
        found: list[_Record] = []
        for file in self._files:
            session = (file.names["subject"], file.names["session"])
            told = self._participants.get(file.names["subject"], {})
            if self.events is None:
                trials[session] += 1
                stretches = self.cutting.stretches(
                    math.inf if self.cutting.window is None else _length(file.path, file.path.stat().st_mtime_ns)
                )
                whole = self.cutting.window is None
                for number, stretch in enumerate(stretches, start=1):
                    id = file.stem if whole else f"{file.stem}_{number}"
                    found.append(_Record(self._row(id, str(trials[session]), file, told), file, stretch))
                continue
            length = _length(file.path, file.path.stat().st_mtime_ns)
            for number, event in enumerate(self._events[file.path], start=1):
                stretch = self._stretch(event, file, number)
                if stretch.stop is None or stretch.stop > length:
                    continue
                trials[session] += 1
                id = f"{file.stem}_{trials[session]}"
                found.append(_Record(self._row(id, str(trials[session]), file, told | event), file, stretch))
        if not found:
            what = "an event" if self.events else "a window"
            raise DataError(
                f"{self.path}: there must be {what} whose {self.cutting.window or 0:g} s lie in its recording, but "
                f"there is none"
            )
        return found

    def _stretch(self, event: Mapping[str, str | None], file: _File, number: int) -> Stretch:
        assert self.cutting.window is not None
        try:
            onset = float(event["onset"] or "n/a")
        except ValueError:
            onset = math.nan
        if not 0 <= onset < math.inf:
            raise DataError(
                f"{file.events}: onset must be seconds from 0 on, but that of event {number} is {event['onset']!r}"
            )
        return Stretch(onset, onset + self.cutting.window)

    def _row(self, id: str, trial: str, file: _File, told: Mapping[str, str | None]) -> Row:
        names = {name: file.names[name] for name in ("subject", "session")} | {"trial": trial}
        labels = {name: told.get(name) for name in self._labels}
        own = {"id": id, **names, "task": file.names["task"] or None, "run": file.names["run"] or None, "eeg": None}
        return Row(id, **names, recording=file.recording, labels={**labels, **own})

    def columns(self) -> list[str]:
        """Names of rows, the signal, and columns of the tables."""
        return ["id", *ENTITIES, "eeg", *self._labels]

    def rows(self) -> list[Row]:
        """Every record, by the order of files."""
        return [record.row for record in self._records]

    @property
    def title(self) -> str:
        """Name of the folder."""
        return self.path.name

    def where(self, row: int) -> str:
        """Name of the file."""
        return self._records[row].file.path.name

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """The recording of one record, and where it lies in it."""
        if sensor.column != "eeg":
            raise DataError(f"a sensor must be 'eeg', but {sensor.column!r} is a label")
        _, file, stretch = self._records[row]
        name = file.path.relative_to(self._root).as_posix()
        return BidsCell(
            key=name,
            where=name,
            name=name,
            start=stretch.start,
            stop=stretch.stop,
            path=file.path,
            types=tuple((channel, type) for channel, (type, _) in self._channels(file).items()),
        )

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """The EEG."""
        return {"eeg": {"kind": "eeg"}}

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """Channels that ``channels.tsv`` calls bad, which are read all the same."""
        del sensors
        bad = {file.stem: [name for name, (_, bad) in self._channels(file).items() if bad] for file in self._files}
        first = next((f"{name} of {stem}" for stem, names in bad.items() for name in names[:1]), None)
        if first is None:
            return []
        count, files = sum(map(len, bad.values())), sum(map(bool, bad.values()))
        return [
            f"channels.tsv calls {count} channels in {files} recordings bad ({first}, for one); they are read as they are"
        ]

    def fingerprint(self) -> str:
        """Hash of the place, and of all records with their labels and seconds."""
        records = [(record.row.id, record.row.labels, record.stretch) for record in self._records]
        return hashed(self.kind, str(self._root), records)

    def _channels(self, file: _File) -> dict[str, tuple[str, bool]]:
        """Type of every channel, and whether it is bad, as far as ``channels.tsv`` knows."""
        if file.channels is None:
            return {}
        if file.channels not in self._known_channels:
            rows = _read_tsv(file.channels)
            self._known_channels[file.channels] = {
                row.get("name") or "": ((row.get("type") or "EEG").upper(), (row.get("status") or "").lower() == "bad")
                for row in rows
            }
        return self._known_channels[file.channels]

    @cached_property
    def _known_channels(self) -> dict[Path, dict[str, tuple[str, bool]]]:
        return {}


def _read_tsv(path: Path) -> list[dict[str, str | None]]:
    """Rows of a table as BIDS writes them: tabs, no quotes, ``n/a`` for what is missing.

    Raises:
        DataError: it cannot be read, or a row has more or fewer cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [cells for cells in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: must be a table in UTF-8, but {_line(error)}") from None
    if not lines:
        raise DataError(f"{path}: a table must have a header, but is empty")
    header, *rows = lines
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            raise DataError(
                f"{path} row {number}: must have {len(header)} cells as the header has, but has {len(cells)}"
            )
    return [
        {name: None if cell.strip() in ("", "n/a") else cell.strip() for name, cell in zip(header, cells, strict=True)}
        for cells in rows
    ]


@lru_cache(maxsize=4096)
def _length(path: Path, changed: int) -> float:
    """Seconds of a recording, by its header, which is read once a process."""
    import mne

    del changed

    with warnings.catch_warnings(), located(str(path)):
        warnings.simplefilter("ignore")
        try:
            raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
        except Exception as error:  # MNE's readers raise anything
            raise DataError(f"must be a recording that MNE reads, but {_line(error)}") from error
        return float(raw.n_times / raw.info["sfreq"])


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _mne_bids() -> Any:
    try:
        import mne_bids
    except ImportError as error:
        raise ConfigError(f"{NEEDS} ({error})") from None
    return mne_bids
