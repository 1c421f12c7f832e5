"""Look at a table of files and guess an experiment: which columns are sensors, names, tasks, and a split that works.

Guesses are made from names, file endings and values; what may be no task at all is kept, with the reason, so that the
draft can show it commented out. The split is tried on the table's records before it is proposed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, UnknownNameError
from fusionkit.data.records import ROLES, Records
from fusionkit.data.sources.manifest import Manifest
from fusionkit.data.splits import Split, SplitOptions, make_split
from fusionkit.data.table import read_table
from fusionkit.recipe.channels import peek_channels
from fusionkit.recipe.columns import Column, brief, guess_roles, safe_name, tokens
from fusionkit.recipe.guess_tasks import TaskGuess, guess_tasks

PREFERRED = ("eeg", "audio", "image", "signal")
"""Which sensor takes a file that several can read."""

_PARTS = {
    "train": ("train", "training", "tr"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}


@dataclass(frozen=True)
class SensorGuess:
    """A sensor: its entry in the recipe, and what was seen."""

    name: str
    entry: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Guess:
    """What was found in a table.

    Attributes:
        roles: which columns name the record, its subject and so on.
        stand_in: the column that is taken for the subject where no column names one.
        sensors: in the order of the columns.
        tasks: likewise; those with a ``doubt`` are to be commented out.
        split: as a recipe says it.
        allow_leakage: why the split shares files between its parts, if it must.
        left_out: columns that are nothing, each with the reason.
        records: how many there are.
        subjects: how many there are; None where every record is its own.
    """

    roles: Mapping[str, str]
    stand_in: str | None
    sensors: Sequence[SensorGuess]
    tasks: Sequence[TaskGuess]
    split: Mapping[str, Any]
    allow_leakage: str | None
    left_out: Mapping[str, str]
    records: int
    subjects: int | None


def guess(path: Path) -> Guess:
    """Guess an experiment from a table of files.

    Raises:
        ConfigError: no column is a sensor, none is a task, or no split has every part.
        DataError: the table is missing or broken.
    """
    table = read_table(path)
    columns = {name: Column(name, tuple(row[name] for row in table.rows)) for name in table.columns}
    roles = guess_roles(columns.values())
    rest = {name: column for name, column in columns.items() if name not in roles.values()}
    sensors = list(_sensors(rest.values(), path.parent))
    if not sensors:
        raise ConfigError(f"{path}: a column must hold files of a known kind or sentences, but none does")
    taken = {str(sensor.entry.get("column", sensor.name)) for sensor in sensors}
    clock = {f"{name}_{end}" for name in taken for end in ("start", "stop")}
    files = [columns[name] for name in taken if _suffixes(columns[name])]
    stand_in = None if "subject" in roles else _stand_in(roles, rest.values(), files)
    if stand_in is not None:
        roles = {name: column for name, column in roles.items() if column != stand_in} | {"subject": stand_in}
    candidates = [column for name, column in rest.items() if name not in taken | clock | {stand_in}]
    records = _records(path, roles, [column.name for column in candidates])
    options, split, leak = _split(records, roles, candidates, files)
    tasks, left_out = guess_tasks(candidates, options, split, records, stand_in or "subject")
    if all(task.doubt for task in tasks):
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        why = "; ".join([*(f"{task.column.name}: {task.doubt}" for task in tasks), *([why] if why else [])])
        raise ConfigError(f"{path}: a column must look like a task, but none does" + (f" ({why})" if why else ""))
    groups = len(set(records.subject)) if "subject" in roles else None
    return Guess(roles, stand_in, sensors, tasks, options, leak, left_out, len(records), groups)


def _stand_in(roles: Mapping[str, str], columns: Iterable[Column], files: Sequence[Column]) -> str | None:
    """The column whose groups are held out where none names a subject."""
    if named := [roles[role] for role in ("session", "recording", "trial") if role in roles]:
        return named[0]
    people = [column for column in columns if tokens(column.name) & {"speaker", "site", "family", "group"}]
    repeated = [
        column for column in [*people, *files] if 2 < len(column.counts) < len(column.cells) == len(column.given)
    ]
    return repeated[0].name if repeated else None


def _sensors(columns: Iterable[Column], folder: Path) -> Iterator[SensorGuess]:
    used: set[str] = set()
    for column in columns:
        suffixes = _suffixes(column)
        kind = _reader(suffixes) if suffixes else ("text" if _sentences(column) else None)
        if kind is None:
            continue
        count = f"{len(column.given)} of {len(column.cells)} records" if None in column.cells else "every record"
        note = f"{', '.join(suffixes)}; {count}" if suffixes else f"sentences; {count}"
        channels = peek_channels(folder / column.given[0]) if kind == "eeg" else {}
        if channels and "eeg" not in channels:
            kind, channels = "signal", {}
        name = safe_name(column.name, used)
        entry: dict[str, Any] = {"kind": kind} | ({} if name == column.name else {"column": column.name})
        if channels:
            note += f"; {len(channels['eeg'])} EEG channels: {brief(channels['eeg'])}"
        yield SensorGuess(name, entry, note)
        for other, names in channels.items():
            if other != "eeg":
                entry = {"kind": "signal", "column": column.name, "channels": names}
                yield SensorGuess(safe_name(other, used), entry, f"in the same files: {brief(names)}")


def _suffixes(column: Column) -> list[str]:
    """File endings of a column of paths; none where a cell looks like no path."""
    found = Counter(Path(cell).suffix.lower() for cell in column.counts if len(cell) < 1024)
    known = {suffix for kind in _file_kinds() for suffix in registry.modalities.get(kind).suffixes}
    return sorted(found) if found and set(found) <= known else []


def _reader(suffixes: Sequence[str]) -> str | None:
    """The sensor that reads all of these."""
    return next((kind for kind in _file_kinds() if set(suffixes) <= registry.modalities.get(kind).suffixes), None)


def _file_kinds() -> list[str]:
    """Sensors whose cells are paths, the preferred ones first."""
    known = registry.modalities.kinds()
    kinds = [kind for kind in PREFERRED if kind in known] + [kind for kind in known if kind not in PREFERRED]
    return [kind for kind in kinds if not registry.modalities.get(kind).in_cells]


def _sentences(column: Column) -> bool:
    """Whether cells are sentences: mostly different, several words, long."""
    cells = column.given
    if column.numbers is not None or len(column.counts) < max(3, len(cells) // 2):
        return False
    return sum(map(len, cells)) / len(cells) >= 20 and sum(" " in cell.strip() for cell in cells) >= 0.7 * len(cells)


def _records(path: Path, roles: Mapping[str, str], labels: Sequence[str]) -> Records:
    rows = Manifest(path=path, columns=dict(roles)).rows()  # type: ignore[arg-type]
    named = {role: tuple(getattr(row, role) for row in rows) for role in ROLES}
    kept = {label: tuple(row.labels[label] for row in rows) for label in labels}
    return Records(**named, labels=kept, unlabelled=0)


def _split(
    records: Records, roles: Mapping[str, str], columns: Sequence[Column], files: Sequence[Column]
) -> tuple[dict[str, Any], Split, str | None]:
    """The first split that has every part and shares no file between them; else one that shares, with the reason."""
    leaking: tuple[dict[str, Any], Split, str] | None = None
    reasons: list[str] = []
    for options in _split_candidates(records, roles, columns):
        try:
            split = make_split(SplitOptions(**options), records)
        except (DataError, UnknownNameError) as error:
            reasons.append(str(error))
            continue
        shared = [column.name for column in files if _straddles(column, split)]
        if not shared:
            return options, split, None
        reason = f"files of {', '.join(shared)} occur on both sides of a split by {options['by']}"
        leaking = leaking or (options, split, reason)
    if leaking is None:
        raise ConfigError(f"the records must divide into training, validation and test, but {reasons[-1]}")
    return leaking


def _split_candidates(
    records: Records, roles: Mapping[str, str], columns: Sequence[Column]
) -> Iterator[dict[str, Any]]:
    groups = [role for role in ("subject", "session", "trial", "recording") if role in roles]
    by = groups or ["record"]
    for column in columns:
        parts = {part: [v for v in column.counts if v.lower() in words] for part, words in _PARTS.items()}
        if sum(map(len, parts.values())) == len(column.counts) and parts["train"] and parts["test"]:
            listed = {part: values for part, values in parts.items() if values}
            for group in [*by, "record"]:
                yield {"kind": "column", "by": group, "column": column.name, **listed}
    for group in by:
        count = len(records.group_names(group))
        yield {"kind": "k_fold", "by": group, "folds": max(2, min(4, count)), "validation": 0.25}


def _straddles(column: Column, split: Split) -> bool:
    for fold in split.folds:
        sides = [{column.cells[row] for row in rows} - {None} for rows in fold.parts().values()]
        if any(one & other for index, one in enumerate(sides) for other in sides[:index]):
            return True
    return False
