"""What the cells of an experiment scored: by strategy, seed and subject, paired, and every number in one table."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Float, Int

from fusionkit.compare.cells.cell import open_run
from fusionkit.compare.experiment.grid import Block, Experiment
from fusionkit.core.modality import Array
from fusionkit.evaluation.baselines import choose_best_single, majority
from fusionkit.evaluation.metric import Better, Metric
from fusionkit.evaluation.metrics import known, primary_metric
from fusionkit.evaluation.predict import prediction
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_tasks
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.fold import FoldResult

BEST_SINGLE = "best single"


@dataclass(frozen=True)
class Scores:
    """One task of one setting, scored by its main metric on the test records that all strategies answered.

    A strategy that failed in a cell is nan there, and where a metric is not defined, too.

    Attributes:
        task: its name.
        metric: its main metric.
        better: which direction of that is better.
        strategies: labels: what was asked for, sensors alone, ``best single``, ``late mean``, ``majority``.
        sensors: those of them that are a sensor alone.
        by: what the split keeps whole: ``subject``, ``trial`` or another.
        subjects: names of these groups.
        fold: that each subject is tested in.
        pooled: over all test records, ``(strategy, seed)``.
        folds: ``(strategy, seed, fold)``.
        by_subject: ``(strategy, seed, subject)``.
        test_share: of the records that a fold trains on or tests, the share that it tests, in the mean: validation and
            calibration records teach no weight.
        chosen: the sensor that validation chose, by seed and fold; empty where a sensor has no validation score, for
            the best of the others need not be the best.
        within: whether there are more groups than subjects: those of one subject are not independent.
    """

    task: str
    metric: str
    better: Better
    strategies: tuple[str, ...]
    sensors: tuple[str, ...]
    by: str
    subjects: tuple[str, ...]
    fold: Int[np.ndarray, " subject"]
    pooled: Float[np.ndarray, "strategy seed"]
    folds: Float[np.ndarray, "strategy seed fold"]
    by_subject: Float[np.ndarray, "strategy seed subject"]
    test_share: float
    chosen: tuple[tuple[str, ...], ...]
    within: bool = False


def scores(block: Block, experiment: Experiment) -> list[Scores]:
    """Score a setting's cells, task by task; nothing where every cell failed."""
    recipe, seeds = block.setting.recipe, experiment.asked.seeds
    found = _read(block, experiment)
    every = (result for of in found.values() for folds in of.values() for result in folds)
    done = next((result for result in every if result is not None), None)
    if done is None:
        return []
    made = []
    for name, task in build_tasks(recipe).items():
        task.restore(done.states[name])
        target = task.encode(block.study.records.labels[recipe.tasks[name].column], name)
        made.append(_score(block, name, task, target, found, seeds))
    return made


Found = Mapping[str, Mapping[int, Sequence[FoldResult | None]]]
"""Results by strategy and seed (from 0), a fold after another."""


def _read(block: Block, experiment: Experiment) -> Found:
    found: dict[str, dict[int, list[FoldResult | None]]] = {}
    for strategy in block.setting.strategies:
        of = found[strategy.label] = {}
        for number in range(experiment.asked.seeds):
            places = [(strategy.label, fold, strategy.recipe.seed + number) for fold in range(len(block.split.folds))]
            ended = [experiment.ended[block.cells[place].key] for place in places]
            of[number] = [None if one.problem else open_run(one).results(FUSED)[fold] for fold, one in enumerate(ended)]
    return found


def _score(block: Block, name: str, task: Task, target: Array, found: Found, seeds: int) -> Scores:
    metric, count = primary_metric(task), len(block.split.folds)
    sensors = [one.label for one in block.setting.strategies if one.role == "sensor"]
    test, validation = (
        [_common([of[seed][fold] for of in found.values() for seed in range(seeds)], part) for fold in range(count)]
        for part in ("test", "validation")
    )
    answers = {
        label: {
            seed: [_part(task, name, one, "test", test[k]) for k, one in enumerate(folds)] for seed, folds in of.items()
        }
        for label, of in found.items()
    }
    chosen: list[tuple[str, ...]] = []
    if sensors:
        answers[BEST_SINGLE] = {}
        for seed in range(seeds):
            best = []
            for fold in range(count):
                validated = {
                    label: _value(
                        metric, _part(task, name, found[label][seed][fold], "validation", validation[fold]), target
                    )
                    for label in sensors
                }
                unknown = any(np.isnan(value) for value in validated.values())
                best.append("" if unknown else choose_best_single(validated, metric.better))
            chosen.append(tuple(best))
            answers[BEST_SINGLE][seed] = [
                answers[label][seed][fold] if label else None for fold, label in enumerate(best)
            ]
    baseline = "majority" if task.outcome == "probabilities" else "mean"
    answers[baseline] = {
        seed: [_prior(task, name, [of[seed][k] for of in found.values()], test[k]) for k in range(count)]
        for seed in range(seeds)
    }
    group = block.study.records.group(block.split.options.by)
    names = block.study.records.group_names(block.split.options.by)
    tested = [fold.test for fold in block.split.folds]
    subjects = np.unique(np.concatenate([group[rows] for rows in tested]))
    home = np.array([next(k for k, rows in enumerate(tested) if (group[rows] == one).any()) for one in subjects])
    shape = (len(answers), seeds)
    pooled, folds = np.full(shape, np.nan), np.full((*shape, len(tested)), np.nan)
    by_subject = np.full((*shape, len(subjects)), np.nan)
    for i, of in enumerate(answers.values()):
        for seed, parts in of.items():
            for fold, part in enumerate(parts):
                folds[i, seed, fold] = _value(metric, part, target)
            whole = [part for part in parts if part is not None]
            if len(whole) < len(parts):
                continue
            rows, said = (np.concatenate([part[k] for part in whole]) for k in (0, 1))
            pooled[i, seed] = _value(metric, (rows, said), target)
            for j, one in enumerate(subjects):
                here = group[rows] == one
                by_subject[i, seed, j] = _value(metric, (rows[here], said[here]), target)
    sizes = [(len(f.test), len(f.train) + len(f.test)) for f in block.split.folds]
    return Scores(
        task=name,
        metric=metric.name,
        better=metric.better,
        strategies=tuple(answers),
        sensors=tuple(sensors),
        by=block.split.options.by,
        subjects=tuple(names[one] for one in subjects),
        fold=home,
        pooled=pooled,
        folds=folds,
        by_subject=by_subject,
        test_share=float(np.mean([test / whole for test, whole in sizes])),
        chosen=tuple(chosen),
        within=len(subjects) > len(np.unique(np.asarray(block.study.records.subject)[np.concatenate(tested)])),
    )


Part = tuple[Array, Array]
"""Rows and predictions."""


def _common(results: Sequence[FoldResult | None], part: str) -> Array:
    """The records that every strategy answered: one whose sensor needs its first seconds to calibrate leaves these out."""
    rows = [one.rows[part] for one in results if one is not None]
    return reduce(np.intersect1d, rows) if rows else np.zeros(0, dtype=np.int64)


def _part(task: Task, name: str, result: FoldResult | None, part: str, common: Array) -> Part | None:
    if result is None:
        return None
    keep = np.isin(result.rows[part], common)
    return result.rows[part][keep], prediction(task, result.decisions[part]["all"][name])[keep]


def _prior(task: Task, name: str, results: Sequence[FoldResult | None], common: Array) -> Part | None:
    """Of the training records, which are the same for all strategies: the first that was trained knows them."""
    result = next((one for one in results if one is not None), None)
    if result is None:
        return None
    task.restore(result.states[name])
    return common, majority(task, len(common))


def _value(metric: Metric, part: Part | None, target: Array) -> float:
    """nan where the cell failed or no record has a label."""
    if part is None:
        return float("nan")
    said, truth, _ = known(part[1], target[part[0]])
    return float(metric(said, truth)) if len(truth) else float("nan")


def write_results(experiment: Experiment, found: Mapping[str, Sequence[Scores]]) -> list[Path]:
    """Write ``results.csv`` and ``results.parquet``: a row a setting, task, strategy, seed and subject, and one a fold.

    Seeds are counted from the recipe's own, which is 0.

    Args:
        experiment: says where.
        found: scores by label of the setting.
    """
    columns: dict[str, list[str | float | int | None]] = {
        key: [] for key in ("setting", "task", "metric", "strategy", "seed", "fold", "subject", "score")
    }
    for label, tasks in found.items():
        for one in tasks:
            for i, strategy in enumerate(one.strategies):
                for seed in range(one.pooled.shape[1]):
                    rows = [
                        (int(k), subject, j) for j, (k, subject) in enumerate(zip(one.fold, one.subjects, strict=True))
                    ]
                    values = [(k, subject, one.by_subject[i, seed, j]) for k, subject, j in rows]
                    values += [(k, "", one.folds[i, seed, k]) for k in range(one.folds.shape[2])]
                    for k, subject, value in values:
                        place = (label, one.task, one.metric, strategy, seed, k, subject)
                        number = None if np.isnan(value) else float(value)
                        for column, cell in zip(columns.values(), (*place, number), strict=True):
                            column.append(cell)
    return write_table(experiment.folder, "results", columns)


def write_trials(experiment: Experiment) -> list[Path]:
    """Write ``tuning.csv`` and ``tuning.parquet``: a row a trial and value; nothing where nothing was tuned."""
    columns: dict[str, list[str | float | int | None]] = {
        key: [] for key in ("setting", "strategy", "fold", "trial", "score", "key", "value")
    }
    for block in experiment.blocks:
        for one in block.trials:
            score = None if np.isnan(one.score) else one.score
            for key, value in one.values.items():
                place = (block.setting.label, one.strategy, one.fold, one.number, score, key, value)
                for column, cell in zip(columns.values(), place, strict=True):
                    column.append(cell)
    return write_table(experiment.folder, "tuning", columns) if columns["key"] else []


def write_table(folder: Path, name: str, columns: Mapping[str, Sequence[str | float | int | None]]) -> list[Path]:
    """Write a table as CSV and as Parquet; the files."""
    table, made = pyarrow.table({column: list(cells) for column, cells in columns.items()}), []
    for suffix, write in ((".csv", pyarrow.csv.write_csv), (".parquet", pyarrow.parquet.write_table)):
        buffer = io.BytesIO()
        write(table, buffer)
        write_atomically(folder / f"{name}{suffix}", buffer.getvalue())
        made.append(folder / f"{name}{suffix}")
    return made
