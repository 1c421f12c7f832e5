"""What each part of a split holds: groups, records, and how often every class occurs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.data.records import Records
from fusionkit.data.splits import Split
from fusionkit.heads.task import Task


@dataclass(frozen=True)
class LabelFacts:
    """One task's labels in one part.

    Attributes:
        labelled: records with a label.
        missing: records without one.
        classes: how many records have each class; empty where the label is a value.
        mean: mean of the values; None where the label is a class, or nothing is labelled.
    """

    labelled: int
    missing: int
    classes: dict[str, int]
    mean: float | None


@dataclass(frozen=True)
class PartFacts:
    """One part of one fold; ``unlabelled`` are the records of ``data.unlabelled`` that it may see."""

    fold: int
    part: str
    records: int
    groups: tuple[str, ...]
    tasks: dict[str, LabelFacts]


def describe_split(
    split: Split, records: Records, tasks: Mapping[str, Task], targets: Sequence[Mapping[str, Array]]
) -> list[PartFacts]:
    """Count what every part of every fold holds.

    Args:
        split: the folds.
        records: the table they were made of.
        tasks: which have learned their classes.
        targets: of every fold, every record's target by task.
    """
    group, names = records.group(split.options.by), records.group_names(split.options.by)
    return [
        PartFacts(
            fold=number,
            part=part,
            records=len(rows),
            groups=tuple(names[index] for index in np.unique(group[rows])),
            tasks={name: _labels(task, targets[number][name][rows]) for name, task in tasks.items()},
        )
        for number, fold in enumerate(split.folds)
        for part, rows in fold.sets().items()
    ]


def untrainable(split: Split, tasks: Mapping[str, Task], targets: Sequence[Mapping[str, Array]]) -> list[str]:
    """Why training would refuse a fold, a line each: a class that its training part lacks, or no label at all."""
    lines = []
    for number, fold in enumerate(split.folds):
        for name, task in tasks.items():
            try:
                task.fit(targets[number][name][fold.train], name)
            except DataError as error:
                lines.append(f"fold {number}: {error}")
    return lines


def _labels(task: Task, target: Array) -> LabelFacts:
    known = target[~np.isnan(target.reshape(len(target), -1)).any(1)]
    missing = len(target) - len(known)
    if task.outcome == "value":
        return LabelFacts(len(known), missing, {}, float(known.mean()) if len(known) else None)
    if target.ndim == 1:
        counts = np.bincount(known.astype(np.int64), minlength=len(task.classes))
    else:
        counts = known.sum(0)
    return LabelFacts(len(known), missing, dict(zip(task.classes, map(int, counts), strict=True)), None)
