"""What a run says, in numbers: every arm on held-out records, pooled over folds, with intervals over groups."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.data.study import Study
from fusionkit.evaluation.baselines import choose_best_single, majority
from fusionkit.evaluation.intervals import Interval, bootstrap_all
from fusionkit.evaluation.metrics import primary_metric, score
from fusionkit.evaluation.predict import prediction as as_prediction
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_tasks
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.fold import FoldResult
from fusionkit.training.run import Run

REPETITIONS = 1000


@dataclass(frozen=True)
class Answers:
    """What one row of the table answered about one task: predictions and targets of all held-out records, pooled."""

    rows: Array
    prediction: Array
    target: Array
    fold: Array


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table: a model, or a baseline beside it.

    Attributes:
        name: ``fused``, ``fused without audio``, ``audio alone``, ``best single``, ``majority``.
        note: how it came about, where the name does not say.
        scores: intervals by metric, pooled over folds.
        folds: the main metric in every fold.
    """

    name: str
    note: str
    scores: dict[str, Interval]
    folds: list[float]


@dataclass(frozen=True)
class TaskSummary:
    """Everything about one task."""

    kind: str
    primary: str
    higher_is_better: bool
    classes: tuple[str, ...]
    labelled: int
    groups: int
    rows: list[ScoreRow]
    answers: dict[str, Answers] = field(repr=False)
    by_group: dict[str, tuple[int, float]] = field(repr=False)


@dataclass(frozen=True)
class Summary:
    """Everything about a run, by task."""

    name: str
    by: str
    folds: list[int]
    tasks: dict[str, TaskSummary]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for ``metrics.json`` and ``--json``."""
        tasks = {}
        for name, task in self.tasks.items():
            rows = {
                row.name: {
                    "note": row.note,
                    "folds": row.folds,
                    **{metric: asdict(interval) for metric, interval in row.scores.items()},
                }
                for row in task.rows
            }
            tasks[name] = {
                "kind": task.kind,
                "primary": task.primary,
                "labelled": task.labelled,
                "groups": task.groups,
                "rows": rows,
            }
        return {"name": self.name, "intervals_over": self.by, "folds": self.folds, "tasks": tasks}


def summarise(run: Run, *, seed: int = 0) -> Summary:
    """Score every arm of a run on its held-out records.

    Intervals are 95 % percentile bootstraps over the groups of the split, never over windows.

    Raises:
        DataError: no fold is trained to the end.
    """
    recipe = run.recipe
    with Study.open(run.study) as study:
        records = study.records
    groups = records.group(recipe.data.split.by)
    names = records.group_names(recipe.data.split.by)
    folds = run.folds()
    if not folds:
        raise DataError(f"{run.folder}: a run must have a fold trained to the end, but none is; go on with --resume")
    results = {arm: run.results(arm) for arm in [FUSED, *recipe.modalities]}
    results = {arm: found for arm, found in results.items() if set(found) == set(folds)}
    summaries: dict[str, TaskSummary] = {}
    for task_name, task in build_tasks(recipe).items():
        task.restore(results[FUSED][folds[0]].states[task_name])
        target = task.encode(records.known(recipe.tasks[task_name].column), task_name)
        metric = primary_metric(task)
        table: dict[str, tuple[str, Answers]] = {}
        table["fused"] = ("", _pool(results[FUSED], "all", task, task_name, target))
        for sensor in recipe.modalities if len(recipe.modalities) > 1 else ():
            table[f"fused without {sensor}"] = (
                "unplugged at test",
                _pool(results[FUSED], sensor, task, task_name, target),
            )
        singles = [arm for arm in results if arm != FUSED]
        for sensor in singles:
            table[f"{sensor} alone"] = ("", _pool(results[sensor], "all", task, task_name, target))
        if singles:
            best = {fold: _best(results, singles, fold, task, task_name, target) for fold in folds}
            chosen = {fold: results[sensor][fold] for fold, sensor in best.items()}
            picked = ", ".join(dict.fromkeys(best.values()))
            table["best single"] = (f"chosen on validation: {picked}", _pool(chosen, "all", task, task_name, target))
        baseline = "majority" if task.outcome == "probabilities" else "mean"
        table[baseline] = ("the training prior", _prior(results[FUSED], task, task_name, target))
        rows = []
        for name, (note, answers) in table.items():
            scores = bootstrap_all(
                task, answers.prediction, answers.target, groups[answers.rows], repetitions=REPETITIONS, seed=seed
            )
            each = [
                score(task, answers.prediction[answers.fold == f], answers.target[answers.fold == f])[metric.name]
                for f in folds
            ]
            rows.append(ScoreRow(name, note, scores, each))
        fused = table["fused"][1]
        known = _known(fused.target)
        summaries[task_name] = TaskSummary(
            kind=recipe.tasks[task_name].kind,
            primary=metric.name,
            higher_is_better=metric.better == "higher",
            classes=tuple(task.classes),
            labelled=int(known.sum()),
            groups=len(np.unique(groups[fused.rows][known])),
            rows=rows,
            answers={name: answers for name, (_, answers) in table.items()},
            by_group=_by_group(task, metric.name, fused, groups, names),
        )
    return Summary(recipe.name, recipe.data.split.by, folds, summaries)


def write_summary(run: Run, summary: Summary) -> None:
    """Write ``metrics.json`` and ``predictions.parquet`` (a row per record, task and model)."""
    run.write_json("metrics.json", plain(summary.as_dict()))
    with Study.open(run.study) as study:
        records = study.records
    columns: dict[str, list[Any]] = {
        k: [] for k in ("model", "task", "fold", "id", "subject", "target", "predicted", "probability")
    }
    for task_name, task in summary.tasks.items():
        for model, answers in task.answers.items():
            for row, answer, target, fold in zip(
                answers.rows, answers.prediction, answers.target, answers.fold, strict=True
            ):
                truth, predicted, probability = _said(task, answer, target)
                values = (
                    model,
                    task_name,
                    int(fold),
                    records.id[row],
                    records.subject[row],
                    truth,
                    predicted,
                    probability,
                )
                for column, value in zip(columns, values, strict=True):
                    columns[column].append(value)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    write_atomically(run.folder / "predictions.parquet", buffer.getvalue())


def _pool(results: Mapping[int, FoldResult], condition: str, task: Task, name: str, target: Array) -> Answers:
    decision = np.concatenate([result.decisions["test"][condition][name] for result in results.values()])
    return _answers(results, as_prediction(task, decision), target)


def _prior(results: Mapping[int, FoldResult], task: Task, name: str, target: Array) -> Answers:
    """What each fold's training labels alone would answer."""
    parts = []
    for result in results.values():
        task.restore(result.states[name])
        parts.append(majority(task, len(result.rows["test"])))
    return _answers(results, np.concatenate(parts), target)


def _answers(results: Mapping[int, FoldResult], prediction: Array, target: Array) -> Answers:
    rows = np.concatenate([result.rows["test"] for result in results.values()])
    fold = np.concatenate([np.full(len(result.rows["test"]), number) for number, result in results.items()])
    return Answers(rows, prediction, target[rows], fold)


def _best(
    results: Mapping[str, Mapping[int, FoldResult]], singles: list[str], fold: int, task: Task, name: str, target: Array
) -> str:
    """The sensor that scores best alone on a fold's validation records."""
    metric = primary_metric(task)
    scores = {}
    for sensor in singles:
        result = results[sensor][fold]
        if not len(result.rows["validation"]):  # calibration segments cover all of it
            scores[sensor] = np.nan
            continue
        answers = as_prediction(task, result.decisions["validation"]["all"][name])
        scores[sensor] = score(task, answers, target[result.rows["validation"]])[metric.name]
    return choose_best_single(scores, metric.better)


def _by_group(
    task: Task, metric: str, answers: Answers, groups: Array, names: tuple[str, ...]
) -> dict[str, tuple[int, float]]:
    member = groups[answers.rows]
    known = _known(answers.target)
    return {
        names[g]: (
            int((known & (member == g)).sum()),
            score(task, answers.prediction[member == g], answers.target[member == g])[metric],
        )
        for g in np.unique(member)
        if (known & (member == g)).any()
    }


def _known(target: Array) -> Array:
    return np.asarray(~np.isnan(target.reshape(len(target), -1)).any(1))


def _said(task: TaskSummary, answer: Array, target: Array) -> tuple[str | None, str, float | None]:
    """Target, prediction and its probability as text."""
    missing = bool(np.isnan(target).any())
    if not task.classes:
        return None if missing else f"{float(target):g}", f"{float(answer[0]):g}", None
    if answer.ndim == 2:  # a yes or no per label
        labels = [c for c, yes in zip(task.classes, answer[:, 1] > 0.5, strict=True) if yes]
        truth = None if missing else ";".join(c for c, yes in zip(task.classes, target > 0.5, strict=True) if yes)
        return truth, ";".join(labels), None
    best = int(answer.argmax())
    return None if missing else task.classes[int(target)], task.classes[best], float(answer[best])


def plain(value: Any) -> Any:
    """Data for a JSON file, which cannot say nan or infinity: they become null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
