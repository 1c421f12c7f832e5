"""Training labels that are hidden on purpose, so that what unlabelled records are worth can be measured."""

from collections.abc import Iterable, Mapping

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.data.records import Records
from fusionkit.data.splits import Split
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import LabelSection, Recipe
from fusionkit.training.order import derive_seed


def hide_labels(
    recipe: Recipe, records: Records, tasks: Mapping[str, Task], targets: Mapping[str, Array], train: Array, fold: int
) -> dict[str, Array]:
    """Targets without those of training records that ``data.labels`` hides; all of them where it is silent.

    Which records keep theirs is drawn from seed and fold, the same for every model of a run. Records are drawn so that
    every combination of classes keeps its share, and one record at least where there are as many as combinations;
    groups are drawn alike. Records of other parts keep what they have.

    Args:
        recipe: says how many are kept.
        records: the study's.
        tasks: the tasks.
        targets: of every record, NaN where missing.
        train: rows of the training part.
        fold: its number.

    Raises:
        DataError: fewer have labels than are to keep them.
    """
    options = recipe.data.labels
    if options is None:
        return dict(targets)
    labelled = train[labelled_rows(targets, train)]
    draw = np.random.default_rng(derive_seed("labels", recipe.seed if options.seed is None else options.seed, fold))
    if options.by == "record":
        kept = _draw_records(options, _strata(tasks, targets, labelled), labelled, draw)
    else:
        groups = records.group(options.by)[labelled]
        names = np.unique(groups)
        _check_count(options, len(names))
        kept = labelled[np.isin(groups, draw.permutation(names)[: options.keep])]
    hidden = np.setdiff1d(train, kept)
    left = {name: np.array(values) for name, values in targets.items()}
    for values in left.values():
        values[hidden] = np.nan
    return left


def labelled_rows(targets: Mapping[str, Array], rows: Array) -> Array:
    """Which of some rows have a label of any task."""
    known = np.zeros(len(rows), dtype=bool)
    for values in targets.values():
        known |= ~np.isnan(values[rows]).reshape(len(rows), -1).any(1)
    return known


def label_notes(recipe: Recipe, split: Split, kept: Mapping[int, int], folds: Iterable[int]) -> list[str]:
    """What is said of hidden labels, a line for the folds together.

    Args:
        recipe: hides labels or not.
        split: the folds.
        kept: how many training records keep a label, by fold.
        folds: those that are trained.
    """
    options = recipe.data.labels
    if options is None:
        return []
    counts = ", ".join(f"{kept[number]} of {len(split.folds[number].train)} in fold {number}" for number in folds)
    drawn = "drawn by class" if options.by == "record" else f"those of {options.keep} {options.by}s"
    more = "beside them, training learns from records without labels"
    if not recipe.train.consistency:
        more = "the other records train no task"
    hidden = f"data.labels hides labels: training records that keep theirs are {counts} ({drawn})"
    return [f"{hidden}; {more}; validation and test keep all of theirs"]


def _strata(tasks: Mapping[str, Task], targets: Mapping[str, Array], rows: Array) -> Array:
    """The number of every row's combination of classes; a missing label is one more class."""
    classed = [
        np.nan_to_num(targets[name][rows].reshape(len(rows), -1), nan=-1.0)
        for name, task in tasks.items()
        if task.outcome == "probabilities"
    ]
    if not classed:
        return np.zeros(len(rows), dtype=np.int64)
    return np.unique(np.concatenate(classed, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _draw_records(options: LabelSection, strata: Array, rows: Array, draw: np.random.Generator) -> Array:
    """Rows that keep their labels: of every stratum its share, rounded by largest remainder."""
    _check_count(options, len(rows))
    sizes = np.bincount(strata)
    share = sizes * options.keep / max(len(rows), 1)
    count = np.floor(share).astype(np.int64)
    if options.keep >= len(sizes):
        count = np.maximum(count, 1)
    order = np.argsort(count - share, kind="stable")  # those that are owed most come first
    while count.sum() != options.keep:
        step = 1 if count.sum() < options.keep else -1
        able = (count < sizes) if step == 1 else (count > 1)
        place = next(int(one) for one in order[::step] if able[one])
        count[place] += step
        order = np.argsort(count - share, kind="stable")
    return np.concatenate([draw.permutation(rows[strata == one])[: count[one]] for one in range(len(sizes))])


def _check_count(options: LabelSection, there: int) -> None:
    if options.keep > there:
        what = "records" if options.by == "record" else f"{options.by}s"
        raise DataError(
            f"data.labels.keep must not exceed the {there} labelled training {what}, but got {options.keep}"
        )
