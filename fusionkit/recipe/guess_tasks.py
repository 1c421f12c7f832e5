"""Which columns of a table may be tasks, and what speaks against it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusionkit.data.records import Records
from fusionkit.data.splits import Split
from fusionkit.recipe.columns import Column, brief, safe_name, tokens

_GROUP_WORDS = frozenset(
    [
        "speaker",
        "actor",
        "site",
        "device",
        "operator",
        "rater",
        "annotator",
        "room",
        "lab",
        "camera",
        "microphone",
        "family",
        "fold",
        "split",
        "part",
        "partition",
        "block",
        "run",
        "day",
        "date",
        "time",
        "timestamp",
        "age",
        "sex",
        "gender",
        "handedness",
        "file",
        "filename",
        "path",
        "version",
        "name",
        "group",
    ]
)
MAX_CLASSES = 20


@dataclass
class TaskGuess:
    """A task: its entry in the recipe, what was seen, and why it may be none (then it is commented out)."""

    name: str
    column: Column
    kind: str
    notes: list[str] = field(default_factory=list)
    doubt: str = ""

    @property
    def entry(self) -> dict[str, Any]:
        """Its place in the recipe."""
        return {"kind": self.kind} | ({} if self.name == self.column.name else {"column": self.column.name})


def guess_tasks(
    columns: Sequence[Column], options: Mapping[str, Any], split: Split, records: Records, unit: str
) -> tuple[list[TaskGuess], dict[str, str]]:
    """Tasks in the order of the columns, doubtful ones too; and columns that are none, each with the reason.

    Args:
        columns: what is neither a name nor a sensor.
        options: the split, as a recipe says it.
        split: the same, made: what a fold's training records lack cannot be learned.
        records: names of the records.
        unit: what subjects are called: ``subject``, or the column that stands in for it.
    """
    tasks: list[TaskGuess] = []
    left_out: dict[str, str] = {}
    names: set[str] = set()
    for column in columns:
        kind, reason = _task_kind(column)
        if kind is None:
            left_out[column.name] = reason
            continue
        task = TaskGuess(safe_name(column.name, names), column, kind)
        task.doubt = _doubt(column, kind, options) or _unlearnable(column, kind, split)
        task.notes = list(_notes(column, kind, records, unit))
        tasks.append(task)
    for task in tasks:
        for other in tasks:
            if task is not other and not task.doubt and not other.doubt and _decides(other.column, task.column):
                task.notes.append(f"decided by {other.column.name}: the two are not independent")
    return tasks, left_out


def _task_kind(column: Column) -> tuple[str | None, str]:
    distinct = len(column.counts)
    if distinct < 2:
        return None, "empty" if not distinct else "the same value everywhere"
    if column.numbers is not None:
        whole = all(number == int(number) for number in column.numbers)
        if whole and distinct == len(column.cells) and max(column.numbers) - min(column.numbers) == distinct - 1:
            return None, "a counter"
        return ("classification" if whole and distinct <= 10 else "regression"), ""
    if distinct > MAX_CLASSES:
        return None, f"{distinct} different values"
    return "classification", ""


def _doubt(column: Column, kind: str, options: Mapping[str, Any]) -> str:
    """Why a column may say nothing that a model should answer."""
    if column.name in (options.get("column"), options.get("by")):
        return "the split uses it"
    if tokens(column.name) & _GROUP_WORDS:
        return f"{len(column.counts)} values under a name for groups or circumstances"
    codes = all(re.fullmatch(r"[A-Za-z]{1,8}[-_ ]?\d+", value) for value in column.counts)
    if kind == "classification" and codes and len(column.counts) > 5:
        return f"{len(column.counts)} values that look like names of groups: {brief(list(column.counts))}"
    return ""


def _unlearnable(column: Column, kind: str, split: Split) -> str:
    """Which class never occurs where a fold trains, or that nothing is labelled there."""
    for number, fold in enumerate(split.folds):
        seen = {column.cells[row] for row in fold.train} - {None}
        missing = sorted(set(column.counts) - seen) if kind == "classification" else []
        if missing:
            return f"class {missing[0]!r} does not occur where fold {number} trains"
        if len(seen) < 2:
            return f"fewer than two values where fold {number} trains"
    return ""


def _notes(column: Column, kind: str, records: Records, unit: str) -> Iterator[str]:
    if kind == "classification":
        yield ", ".join(f"{value} {count}" for value, count in sorted(column.counts.items()))
        if column.numbers is not None and len(column.counts) > 2:
            yield "ordinal, if the numbers are an order"
    elif column.numbers is not None:
        yield f"{min(column.numbers):g} to {max(column.numbers):g}"
    if len(column.given) < len(column.cells):
        yield f"{len(column.cells) - len(column.given)} of {len(column.cells)} records have none"
    pairs = {(name, cell) for name, cell in zip(records.subject, column.cells, strict=True) if cell is not None}
    if len(set(records.subject)) < len(records) and len(pairs) == len({name for name, _ in pairs}):
        yield f"constant within each {unit}, so n is {len(pairs)} of these and not {len(column.given)} records"


def _decides(one: Column, other: Column) -> bool:
    """Whether the value of ``one`` tells that of ``other``, and not the other way round."""
    pairs = {pair for pair in zip(one.cells, other.cells, strict=True) if None not in pair}
    enough = len(other.counts) < len(one.counts) <= MAX_CLASSES and len({value for _, value in pairs}) > 1
    return enough and len(pairs) == len({value for value, _ in pairs})
