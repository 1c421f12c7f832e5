"""Any data set that MOABB lists: runs of EEG, and the events in them."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError, UnknownNameError
from fusionkit.core.recording import Recording
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

NEEDS = "MOABB must be installed for this: pip install 'fusionkit-torch[eeg]'"


@dataclass(frozen=True, kw_only=True)
class MoabbCell(Cell):
    """The EEG of one run."""

    dataset: str
    subject: int
    session: str
    run: str
    from_file: ClassVar[bool] = True

    def _load(self, modality: "Modality") -> Recording:
        raw = _runs(self.dataset, self.subject)[self.session, self.run]
        channels = [
            str(name) for name, type in zip(raw.ch_names, raw.get_channel_types(), strict=True) if type == "eeg"
        ]
        if not channels:
            raise DataError(f"{self.name}: there must be a channel of type eeg, but got {raw.ch_names}")
        values = raw.get_data(picks=channels, verbose="ERROR")
        return modality.from_array(values, float(raw.info["sfreq"]), channels)

    def stamp(self) -> str:
        """Which run of which version."""
        return f"moabb {_version()} {self.dataset} {self.key}"


class Event(NamedTuple):
    """One event of a run: its class, and its second from the run's start."""

    name: str
    second: float


class Run(NamedTuple):
    """What is known of a run without its samples."""

    session: str
    name: str
    seconds: float
    events: tuple[Event, ...]


@sources.register("moabb")
class Moabb(Source):
    """Read a data set by MOABB's name of it; MOABB downloads what is not there yet.

    Column ``eeg``: all channels of type EEG, in volts. A record is a stretch around an event, its class is the label
    ``event``; records refer into their run, which is stored once and whole. Events whose stretch leaves the run are
    left out, as MOABB does. Label columns are also ``session`` and ``run``. MOABB gives all runs of a person
    together, so a process keeps those of the last one.

    Args:
        dataset: MOABB's class (``BNCI2014_001``).
        subjects: MOABB's numbers of the people; default: everyone.
        events: which classes; default: all of the data set.
        window: seconds from the event to a record's start and stop; default: MOABB's interval of the data set.

    Raises:
        ConfigError: MOABB is not installed, ``window`` does not rise, or there is no such data set, person or event.
        DataError: MOABB cannot read it, or no event is left.

    Reference:
        Jayaram and Barachant, MOABB: trustworthy algorithm benchmarking for BCIs, Journal of Neural Engineering
        15(6), 2018.

    Example:
        ``data: {kind: moabb, dataset: BNCI2014_001, subjects: [1, 2], events: [left_hand, right_hand]}``
    """

    def __init__(
        self,
        *,
        dataset: Annotated[str, Field(description="MOABB's name of the data set's class")],
        subjects: Annotated[list[int] | None, Field(min_length=1, description="numbers of people")] = None,
        events: Annotated[list[str] | None, Field(min_length=1, description="classes")] = None,
        window: Annotated[tuple[float, float] | None, Field(description="seconds from the event: start, stop")] = None,
    ) -> None:
        if window is not None and not window[0] < window[1]:
            raise ConfigError(f"window must rise, but is {list(window)}")
        self.dataset = dataset
        self.subjects = subjects
        self.events = events
        self.window = window

    @cached_property
    def _known(self) -> Any:
        """MOABB's object, with the options checked against it."""
        known = _dataset(self.dataset)
        for option, asked, there in (
            ("subjects", self.subjects or [], known.subject_list),
            ("events", self.events or [], list(known.event_id)),
        ):
            for one in asked:
                if one not in there:
                    raise ConfigError(f"{option}: {self.dataset} has no {one!r}; known: {there}")
        return known

    @cached_property
    def _records(self) -> list[tuple[Row, int, Run, Event]]:
        known = self._known
        found = []
        for subject in self.subjects or known.subject_list:
            trials: Counter[str] = Counter()
            for run in _described(self.dataset, subject):
                for event in run.events:
                    start, stop = self._stretch(event)
                    if self.events and event.name not in self.events:
                        continue
                    if start < 0 or stop > run.seconds:
                        continue
                    trials[run.session] += 1
                    names = {"subject": str(subject), "session": run.session, "trial": str(trials[run.session])}
                    id = "_".join(names.values())
                    labels = {"id": id, **names, "run": run.name, "event": event.name, "eeg": None}
                    found.append((Row(id, **names, recording=run.name, labels=labels), subject, run, event))
        if not found:
            raise DataError(f"{self.dataset}: there must be events in its runs, but there is none of them")
        return found

    def _stretch(self, event: Event) -> tuple[float, float]:
        first, last = self.window or self._known.interval
        return event.second + first, event.second + last

    def columns(self) -> list[str]:
        """Names of rows, the signal and the label."""
        return ["id", "subject", "session", "trial", "run", "eeg", "event"]

    def rows(self) -> list[Row]:
        """Every event, run by run."""
        return [row for row, *_ in self._records]

    @property
    def title(self) -> str:
        """MOABB's name."""
        return self.dataset

    def where(self, row: int) -> str:
        """Data set and record."""
        return f"{self.dataset} record {self._records[row][0].id}"

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """The run that an event lies in, and where."""
        if sensor.column != "eeg":
            raise DataError(f"a sensor must be 'eeg', but {sensor.column!r} is a label")
        _, subject, run, event = self._records[row]
        start, stop = self._stretch(event)
        name = f"{subject}_{run.session}_{run.name}"
        return MoabbCell(
            key=name,
            where=f"{self.dataset} {name}",
            name=name,
            start=start,
            stop=stop,
            dataset=self.dataset,
            subject=subject,
            session=run.session,
            run=run.name,
        )

    def sensors(self) -> Mapping[str, Mapping[str, Any]]:
        """The EEG."""
        return {"eeg": {"kind": "eeg"}}

    def fingerprint(self) -> str:
        """Hash of MOABB's version and the options."""
        return hashed(self.kind, _version(), self.dataset, self.subjects, self.events, self.window)


@lru_cache(maxsize=1)
def _runs(dataset: str, subject: int) -> dict[tuple[str, str], Any]:
    """MNE's raw objects of one person by session and run; the last person's stay in memory.

    Raises:
        DataError: MOABB cannot get them.
    """
    known = _dataset(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sessions: Mapping[str, Mapping[str, Any]] = known.get_data(subjects=[subject])[subject]
        except Exception as error:  # downloads and readers of many laboratories
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise DataError(f"{dataset}: MOABB cannot get subject {subject}: {reason}") from error
    return {(session, run): raw for session, runs in sessions.items() for run, raw in runs.items()}


@lru_cache(maxsize=1024)
def _described(dataset: str, subject: int) -> tuple[Run, ...]:
    """The runs of one person without their samples."""
    known = _dataset(dataset)
    runs = _runs(dataset, subject)
    return tuple(
        Run(session, name, raw.n_times / float(raw.info["sfreq"]), tuple(_events(raw, known)))
        for (session, name), raw in runs.items()
    )


def _events(raw: Any, dataset: Any) -> list[Event]:
    """Events as MOABB finds them: on the trigger channel, else by annotations, which mark the interval's start."""
    import mne

    rate, codes = float(raw.info["sfreq"]), dataset.event_id
    if "stim" in raw.get_channel_types():
        found = mne.find_events(raw, shortest_event=0, verbose="ERROR")
        shift = 0
    else:
        wanted = {name: code for name, code in codes.items() if name in set(raw.annotations.description)}
        if not wanted:
            return []
        found, _ = mne.events_from_annotations(raw, event_id=wanted, verbose="ERROR")
        shift = int(dataset.interval[0] * rate)
    names = {int(code): name for name, group in codes.items() for code in np.atleast_1d(group)}
    return [
        Event(names[int(code)], (int(sample) - int(raw.first_samp) - shift) / rate)
        for sample, _, code in found
        if int(code) in names
    ]


def _dataset(name: str) -> Any:
    datasets = _moabb().datasets
    cls = getattr(datasets, name, None)
    if not (isinstance(cls, type) and issubclass(cls, datasets.base.BaseDataset)):
        known = {
            x for x, y in vars(datasets).items() if isinstance(y, type) and issubclass(y, datasets.base.BaseDataset)
        }
        raise UnknownNameError("MOABB data set", name, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cls()


def _version() -> str:
    return str(_moabb().__version__)


def _moabb() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import moabb
            import moabb.datasets
        except ImportError as error:
            raise ConfigError(f"{NEEDS} ({error})") from None
    return moabb
