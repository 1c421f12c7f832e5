"""What data are, as tables for the terminal and as plain values for `--json`."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fusionkit.core.recording import Stored
from fusionkit.data.inspect import (
    ArchiveFacts,
    ColumnFacts,
    Facts,
    FileFacts,
    FolderFacts,
    SourceFacts,
    SourceReading,
    StudyFacts,
    TableFacts,
    describe_recording,
    read_as_sensors,
)
from fusionkit.data.splits import Split
from fusionkit.evaluation.parts import LabelFacts, PartFacts

SHOWN = 20
"""How many names are listed before the rest is only counted."""

FORMS = {"number": "numbers", "text": "text", "empty": "nothing"}


def plain_facts(facts: Any) -> Any:
    """Facts as JSON holds them: mappings, lists, text and numbers; what they are about under ``what``."""
    if isinstance(facts, FileFacts):
        read, refused = read_as_sensors(facts)
        return {
            **_plain(asdict(facts)),
            "what": "file",
            "read": [_plain(asdict(describe_recording(facts.path, kind, one))) for kind, one in read.items()],
            "refused": refused,
        }
    if is_dataclass(facts) and not isinstance(facts, type):
        what = type(facts).__name__.removesuffix("Facts").lower()
        return {"what": what, **_plain(asdict(facts))}
    return _plain([asdict(one) for one in facts])


def print_facts(screen: Console, facts: Facts) -> None:
    """Say what something is, then list what it holds."""
    if isinstance(facts, FolderFacts):
        _print_folder(screen, facts)
    elif isinstance(facts, TableFacts):
        screen.print(f"{facts.path}: a table of {_count(facts.rows, 'row')} and {_count(len(facts.columns), 'column')}")
        screen.print(_columns(facts.columns))
    elif isinstance(facts, ArchiveFacts):
        screen.print(f"{facts.path}: a NumPy archive of {_count(len(facts.arrays), 'array')}")
        table = Table("array", "shape", "type")
        for array in facts.arrays:
            table.add_row(array.name, _shape(array.shape), array.dtype)
        screen.print(table)
    elif isinstance(facts, StudyFacts):
        _print_study(screen, facts)
    elif isinstance(facts, SourceFacts):
        _print_source(screen, facts)
    else:
        _print_file(screen, facts)


def print_parts(screen: Console, split: Split, parts: Sequence[PartFacts], tasks: Sequence[str]) -> None:
    """One table of all folds: how many records and groups, which groups, and the labels of every task."""
    by, folds = split.options.by, len(split.folds)
    title = f"{split.options.kind} by {by}: {_count(folds, 'fold')}, {_count(len(split.ids), 'record')}"
    table = Table("fold", "part", title=title, title_justify="left")
    table.add_column("records", justify="right")
    for name in (f"{by}s", *tasks):
        table.add_column(name)
    for part in parts:
        first = part.part == "train"
        if first and part.fold:
            table.add_section()
        groups = f"{len(part.groups)}: {_some(part.groups, 6)}"
        labels = [_labels(part.tasks[task]) for task in tasks]
        table.add_row(str(part.fold) if first else "", part.part, str(part.records), groups, *labels)
    screen.print(table)


def _print_folder(screen: Console, facts: FolderFacts) -> None:
    count = sum(many for many, _ in facts.suffixes.values())
    screen.print(f"{facts.path}: a folder of {_count(count, 'file')}")
    table = Table("ending")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    for suffix, (many, size) in list(facts.suffixes.items())[:SHOWN]:
        table.add_row(suffix or "(none)", str(many), _bytes(size))
    if table.row_count:
        screen.print(table)
    for source in facts.sources:
        _print_source(screen, source)
    if facts.tables and not facts.sources:
        screen.print("look closer at:")
        for path in facts.tables[:SHOWN]:
            screen.print(f"  {path}")
        if len(facts.tables) > SHOWN:
            screen.print(f"  and {len(facts.tables) - SHOWN} more")


def _print_source(screen: Console, facts: SourceFacts) -> None:
    for reading in facts.readings:
        options = ", ".join(f"{name}: {value}" for name, value in {"kind": facts.kind, **reading.options}.items())
        screen.print(
            f"\ndata: {{{options}}}\n{_count(reading.records, 'record')} of {_count(reading.trials, 'trial')}, "
            f"{_names(reading.subjects, 'subject')}, {_names(reading.sessions, 'session')}"
        )
        if reading.sensors:
            screen.print(_signals(reading))
        if reading.labels:
            screen.print(_columns(reading.labels, "label"))
        for note in reading.notes:
            screen.print(f"note: {note}")
    for problem in facts.problems:
        screen.print(f"\nnot as {facts.kind}: {problem}")


def _signals(reading: SourceReading) -> Table:
    table = Table("sensor", "kind", "records", "recordings", "rate", "first recording", "channels")
    for sensor in reading.sensors:
        options = ", ".join(f"{name}: {_inline(value)}" for name, value in sensor.entry.items() if name != "kind")
        table.add_row(
            sensor.name,
            sensor.entry["kind"] + (f", {options}" if options else ""),
            f"{sensor.present} of {reading.records}",
            str(sensor.recordings),
            *(("", sensor.problem or "none", "") if sensor.first is None else _layout(sensor.first)),
        )
    return table


def _layout(stored: Stored) -> tuple[str, str, str]:
    """Rate, length with shape, and channels."""
    rate = "" if stored.sample_rate is None else f"{stored.sample_rate:g} Hz"
    length = "" if stored.seconds is None else f"{stored.seconds:g} s, "
    channels = _some(stored.channels, 6) + (f" in {stored.unit}" if stored.unit else "")
    return rate, f"{length}{_shape((stored.longest, *stored.item))}", channels


def _inline(value: Any) -> str:
    """A value as a recipe writes it in a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_inline(part)}" for name, part in value.items()) + "}"
    return str(value)


def _print_study(screen: Console, facts: StudyFacts) -> None:
    screen.print(
        f"{facts.path}: a study of {_count(facts.records, 'record')} of {_count(facts.subjects, 'subject')} in "
        f"{_count(facts.sessions, 'session')} "
        f"(digest {facts.digest[:12]})"
    )
    table = Table("sensor", "kind", "records", "recordings", "stored", "rate", "shape", "channels")
    for sensor in facts.sensors:
        rate = "" if sensor.sample_rate is None else f"{sensor.sample_rate:g} Hz"
        stored = "" if sensor.seconds is None else f"{sensor.seconds:,.1f} s"
        channels = _some(sensor.channels, 6) + (f" in {sensor.unit}" if sensor.unit else "")
        table.add_row(
            sensor.name,
            sensor.kind,
            f"{sensor.present} of {facts.records}",
            str(sensor.recordings),
            stored,
            rate,
            f"{_shape((sensor.longest, *sensor.item))} {np.dtype(sensor.dtype)}",
            channels,
        )
    screen.print(table)
    if facts.labels:
        screen.print(_columns(facts.labels, "label"))


def _print_file(screen: Console, facts: FileFacts) -> None:
    if not facts.kinds:
        screen.print(f"{facts.path}: a file of {_bytes(facts.bytes)} that no sensor reads")
        return
    read, refused = read_as_sensors(facts)
    screen.print(f"{facts.path}: a recording of {_bytes(facts.bytes)}")
    table = Table("read as", "rate", "length", "shape", "channels")
    for kind, recording in read.items():
        one = describe_recording(facts.path, kind, recording)
        rate = "" if one.sample_rate is None else f"{one.sample_rate:g} Hz"
        length = "" if one.seconds is None else f"{one.seconds:g} s"
        channels = _some(one.channels, 8) + (f" in {one.unit}" if one.unit else "")
        table.add_row(one.kind, rate, length, f"{_shape(one.shape)} {one.dtype}", channels)
    screen.print(table)
    for kind, reason in refused.items():
        screen.print(f"not as {kind}: {reason}")


def _columns(columns: Sequence[ColumnFacts], first: str = "column") -> Table:
    table = Table(first, "holds")
    for name in ("filled", "different"):
        table.add_column(name, justify="right")
    table.add_column("for example, or how often")
    for column in columns:
        form = FORMS.get(column.form) or f"files ({', '.join(column.suffixes)})"
        if 0 < len(column.counts) < column.filled:
            examples = ", ".join(f"{_short(value)} ({count})" for value, count in column.counts.items())
        else:
            shown = (f"{float(x):.6g}" if column.form == "number" else _short(x) for x in column.examples)
            examples = ", ".join(shown)
        if column.missing:
            examples += f"; {_count(column.missing, 'file')} missing"
        table.add_row(column.name, form, str(column.filled), str(column.distinct), examples)
    return table


def _labels(facts: LabelFacts) -> str:
    said = [f"{name} {count}" for name, count in list(facts.classes.items())[:SHOWN]]
    if facts.mean is not None:
        said.append(f"{facts.labelled} values, mean {facts.mean:.4g}")
    if len(facts.classes) > SHOWN:
        said.append(f"{len(facts.classes) - SHOWN} more classes")
    if facts.missing:
        said.append(f"{facts.missing} missing")
    return ", ".join(said)


def _count(many: int, what: str) -> str:
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def _names(names: Sequence[str], what: str) -> str:
    return _count(len(names), what) + (f" ({_some(names, 6)})" if names else "")


def _some(names: Sequence[str], many: int) -> str:
    return ", ".join(names[:many]) + (f" and {len(names) - many} more" if len(names) > many else "")


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one value"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.4g} GB"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
