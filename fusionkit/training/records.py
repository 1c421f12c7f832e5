"""What is known of the records before any signal is read: the table, its split, the tasks and their targets."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from fusionkit.core import registry
from fusionkit.core.errors import located
from fusionkit.core.modality import Array, Modality
from fusionkit.data.ingest import check_columns, gather_records
from fusionkit.data.records import ROLES, Records
from fusionkit.data.sources.joined import Grouping, Joined
from fusionkit.data.sources.source import SensorColumn, Source
from fusionkit.data.splits import Split, make_split
from fusionkit.data.study import Study
from fusionkit.data.unlabelled import unlabelled_notes, with_unlabelled
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_modalities, build_tasks
from fusionkit.recipe.sections import Recipe
from fusionkit.training.labels import hide_labels, label_notes, labelled_rows


def build_source(recipe: Recipe) -> Source:
    """The source that the recipe's ``data`` section names, and the one beside it."""
    with located("data"):
        source: Source = registry.sources.build(recipe.data.kind, recipe.data.options)
    beside, split = recipe.data.unlabelled, recipe.data.split
    if beside is None:
        return source
    with located("data.unlabelled"):
        second: Source = registry.sources.build(beside.kind, beside.options)
    grouping = Grouping(split.by, split.column, transductive=beside.transductive is not None)
    labels = dict.fromkeys(entry.column for entry in recipe.tasks.values())
    return Joined(source, second, list(labels), grouping)


def sensor_columns(recipe: Recipe, modalities: dict[str, Modality]) -> dict[str, SensorColumn]:
    """Where in the table each sensor's cells are."""
    return {
        name: SensorColumn(name, modalities[name], entry.column, entry.start, entry.stop)
        for name, entry in recipe.modalities.items()
    }


def label_columns(recipe: Recipe, source: Source, *, divided: bool = True) -> dict[str, str]:
    """Columns of the table that a study must keep, and what for: the tasks', and those that a split goes by.

    Args:
        recipe: names them.
        source: has them, or names of its own (subject, session ...) that a split may go by too.
        divided: the records are to be split, so that a column which the split goes by must be there.
    """
    wanted: dict[str, str] = {}
    for name, entry in recipe.tasks.items():
        wanted.setdefault(entry.column, f"tasks.{name}.column")
    split, there = recipe.data.split, source.columns()
    for use, column in (("data.split.by", split.by), ("data.split.column", split.column)):
        if column and (column in there or (divided and column not in (*ROLES, "record"))):
            wanted.setdefault(column, use)
    return wanted


def read_records(recipe: Recipe) -> Records:
    """The table alone, so that what is wrong with names, labels and split is told before hours of reading signals.

    Raises:
        DataError: the table is missing or damaged, or lacks columns.
    """
    source = build_source(recipe)
    labels = label_columns(recipe, source)
    check_columns(source, sensor_columns(recipe, build_modalities(recipe)), labels)
    return gather_records(source, labels)


def divide(recipe: Recipe, records: Records) -> Split:
    """Split records as the recipe says.

    Raises:
        DataError: they cannot be split so; the message names the table.
    """
    with located(f"{build_source(recipe).title}: data.split"):
        return make_split(recipe.data.split, records, recipe.seed)


def add_unlabelled(recipe: Recipe, split: Split, records: Records) -> Split:
    """The split with the rows of ``data.unlabelled`` that each fold may see; as it is where the recipe has none."""
    beside = recipe.data.unlabelled
    return split if beside is None else with_unlabelled(split, records, beside.transductive)


def notes_of_unlabelled(recipe: Recipe, split: Split, study: Study) -> list[str]:
    """What a report must say of the records of ``data.unlabelled``."""
    source = build_source(recipe)
    return unlabelled_notes(split, study, source.second.title) if isinstance(source, Joined) else []


def learn_tasks(recipe: Recipe, records: Records) -> tuple[dict[str, Task], dict[str, Array]]:
    """The tasks with the classes of the whole study, and every record's targets.

    Raises:
        DataError: a label is none of the classes or no number; the message names table, task, row and value.
    """
    tasks, targets = build_tasks(recipe), {}
    with located(build_source(recipe).title):
        for name, task in tasks.items():
            labels = records.known(recipe.tasks[name].column)
            task.learn(labels, name)
            targets[name] = task.encode(labels, name)
    return tasks, targets


def check_labels(recipe: Recipe, records: Records, split: Split, folds: Iterable[int]) -> list[str]:
    """Refuse labels that some fold cannot be trained on; what is to be said of those that are hidden.

    Raises:
        DataError: a label breaks a rule, or a class does not occur in the training part of a fold.
    """
    tasks, targets = learn_tasks(recipe, records)
    kept = {}
    for number in folds:
        train = split.folds[number].train
        with located(f"{build_source(recipe).title}: fold {number}"):
            left = hide_labels(recipe, records, tasks, targets, train, number)
            kept[number] = int(labelled_rows(left, train).sum())
            for name, task in tasks.items():
                task.fit(left[name][train], name)
    return label_notes(recipe, split, kept, kept)


def name_rows(records: Records, rows: Tensor, generated: Sequence[str] = ()) -> str:
    """Some rows by the names of their records, for messages; a step without new ones drew from a replay buffer.

    Generated records lie behind those of the study.
    """
    if not len(rows):
        return "drawn from the buffer"
    names, count = records.id, len(records)
    return ", ".join(names[row] if row < count else generated[row - count] for row in rows[:8].tolist()) + (
        ", ..." if len(rows) > 8 else ""
    )
