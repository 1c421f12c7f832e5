"""Whether strategies mean their probabilities, before and after calibration on groups put aside for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fusionkit.compare.cells.cell import open_run
from fusionkit.compare.experiment.grid import Block, Experiment
from fusionkit.compare.experiment.results import write_table
from fusionkit.core.modality import Array
from fusionkit.data.split_options import CALIBRATION
from fusionkit.evaluation.abstention import AbstentionCurve, abstention_curve
from fusionkit.evaluation.brier import BrierParts, brier_parts
from fusionkit.evaluation.conformal import ConformalSets, Coverage, Kind, coverage
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.metrics import metrics_of
from fusionkit.evaluation.predict import prediction
from fusionkit.evaluation.recalibration import can_be_recalibrated, recalibrate
from fusionkit.evaluation.statistics.resampled import REPETITIONS, Resampled, resample_metric
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_tasks
from fusionkit.training.arm import FUSED
from fusionkit.training.fold import FoldResult

LEVEL = 0.9
"""Share of sets that shall hold the right class."""
SETS: tuple[Kind, ...] = ("lac", "aps")
MEASURED = ("ece", "brier", "nll")
UNFITTED = (
    "No groups with labels were put aside for calibration, so that nothing could be fitted to answers that training and early "
    "stopping have not seen: give data.split.calibration=0.2, which takes them from the training groups."
)


@dataclass(frozen=True)
class Calibrated:
    """One strategy's probabilities in one task, all test records, seeds averaged.

    Attributes:
        strategy: its label.
        before: by metric (``ece``, ``brier``, ``nll``; the less the better), as trained.
        after: the same at the temperature of each fold and seed; empty where no groups were put aside.
        gained: what that took off, so that more is better; likewise.
        temperatures: of each fold and seed; above 1 the model was too sure.
        sets: how sets of classes did, by kind; empty where no groups were put aside.
        thresholds: of these sets, and how many records each fold and seed calibrated with.
        parts: what the Brier score is made of, over all seeds.
        probabilities: of the test records of all seeds, as they are judged: after calibration where there is any.
        target: their classes.
        abstention: mistakes among the surest of these answers.
    """

    strategy: str
    before: dict[str, Interval]
    after: dict[str, Interval]
    gained: dict[str, Interval]
    temperatures: tuple[float, ...]
    sets: dict[str, Coverage]
    thresholds: dict[str, tuple[ConformalSets, ...]]
    parts: BrierParts
    probabilities: Float[np.ndarray, "record class_"]
    target: Float[np.ndarray, " record"]
    abstention: AbstentionCurve


@dataclass(frozen=True)
class Calibration:
    """One task of one setting.

    Attributes:
        task: its name.
        by: what the split keeps whole.
        groups: how many new ones were tested and have a label.
        level: share of sets that shall hold the right class.
        strategies: those that came to a result in every cell.
        note: why nothing is calibrated; empty where it is.
    """

    task: str
    by: str
    groups: int
    level: float
    strategies: tuple[Calibrated, ...]
    note: str


def calibrations(
    block: Block, experiment: Experiment, *, level: float = LEVEL, repetitions: int = REPETITIONS
) -> list[Calibration]:
    """Judge the probabilities of every strategy in every task with one of several classes.

    What is fitted (a temperature, the bars of sets) is fitted in each cell to the groups that its fold put aside, and
    measured on the groups that it tests. Coverage is what was measured there: no theorem promises it for new people.

    Args:
        block: the setting.
        experiment: its cells.
        level: share of sets that shall hold the right class.
        repetitions: of the bootstrap over groups.
    """
    results = {one.label: _results(block, experiment, one.label) for one in block.setting.strategies}
    whole = {label: of for label, of in results.items() if of is not None}
    if not whole:
        return []
    made, recipe = [], block.setting.recipe
    state = next(iter(whole.values()))[0][0]
    for name, task in build_tasks(recipe).items():
        task.restore(state.states[name])
        if not can_be_recalibrated(task):
            continue
        target = task.encode(block.study.records.labels[recipe.tasks[name].column], name)
        rows = [  # those that all answered
            reduce(np.intersect1d, [folds[number].rows["test"] for of in whole.values() for folds in of])
            for number in range(len(block.split.folds))
        ]
        if np.isnan(target[np.concatenate(rows)]).all():
            continue
        aside = all((~np.isnan(target[fold.calibration])).any() for fold in block.split.folds)
        by = block.split.options.by
        group = np.array(block.study.records.group_names(by))[block.study.records.group(by)]
        strategies = [
            _calibrated(label, name, task, target, group, of, rows, aside, level, repetitions)
            for label, of in whole.items()
        ]
        tested = np.concatenate(rows)
        groups = len(np.unique(group[tested][~np.isnan(target[tested])]))
        made.append(Calibration(name, by, groups, level, tuple(strategies), "" if aside else UNFITTED))
    return made


def _results(block: Block, experiment: Experiment, label: str) -> list[list[FoldResult]] | None:
    """By seed and fold; None where a cell failed."""
    strategy = next(one for one in block.setting.strategies if one.label == label)
    found = []
    for seed in range(strategy.recipe.seed, strategy.recipe.seed + experiment.asked.seeds):
        ended = [experiment.ended[block.cells[label, fold, seed].key] for fold in range(len(block.split.folds))]
        if any(one.problem for one in ended):
            return None
        found.append([open_run(one).results(FUSED)[fold] for fold, one in enumerate(ended)])
    return found


def _calibrated(
    label: str,
    name: str,
    task: Task,
    target: Array,
    group: Array,
    results: Sequence[Sequence[FoldResult]],
    tested: Sequence[Array],
    aside: bool,
    level: float,
    repetitions: int,
) -> Calibrated:
    metrics = metrics_of(task)
    before: list[Array] = []
    after: list[Array] = []
    members: dict[Kind, list[Array]] = {kind: [] for kind in SETS}
    bars: dict[Kind, list[ConformalSets]] = {kind: [] for kind in SETS}
    temperatures: list[float] = []
    rows: list[Array] = []
    for folds in results:
        plain, tempered = [], []
        for one, part in zip(folds, tested, strict=True):
            said = prediction(task, one.decisions["test"]["all"][name])[np.isin(one.rows["test"], part)]
            plain.append(said)
            rows.append(part)
            if not aside:
                continue
            held, right = one.decisions[CALIBRATION]["all"][name], target[one.rows[CALIBRATION]]
            fitted = recalibrate(prediction(task, held), right, kinds=SETS, levels=(level,))
            temperatures.append(fitted.temperature)
            tempered.append(fitted(said))
            for (kind, _), bar in fitted.sets.items():
                bars[kind].append(bar)
                members[kind].append(bar(tempered[-1]))
        before.append(np.concatenate(plain))
        after += [np.concatenate(tempered)] if aside else []
    every = np.concatenate(rows)
    seeds = np.split(every, len(results))

    def measured(answers: Sequence[Sequence[Array]]) -> dict[str, Resampled]:
        """Of several answers at a time, over the same draws of groups, averaged over seeds."""
        found = {}
        for metric in MEASURED:
            drawn = [
                resample_metric(metrics[metric], said, target[at], group[at], seed=0, repetitions=repetitions)
                for said, at in zip(answers, seeds, strict=True)
            ]
            values, draws = ([getattr(one, part) for one in drawn] for part in ("value", "draws"))
            found[metric] = Resampled(np.mean(values, axis=0), np.mean(draws, axis=0), drawn[0].subjects)
        return found

    found = measured(list(zip(before, after, strict=True)) if aside else [(said,) for said in before])
    judged = np.concatenate(after if aside else before)
    return Calibrated(
        strategy=label,
        before={metric: one.then(lambda x: x[..., 0]).interval() for metric, one in found.items()},
        after={metric: one.then(lambda x: x[..., 1]).interval() for metric, one in found.items()} if aside else {},
        gained=(
            {metric: one.then(lambda x: x[..., 0] - x[..., 1]).interval() for metric, one in found.items()}
            if aside
            else {}
        ),
        temperatures=tuple(temperatures),
        sets={
            kind: coverage(np.concatenate(of), target[every], group[every], seed=0, repetitions=repetitions)
            for kind, of in members.items()
            if of
        },
        thresholds={kind: tuple(of) for kind, of in bars.items() if of},
        parts=brier_parts(judged, target[every]),
        probabilities=judged,
        target=target[every],
        abstention=abstention_curve(judged, target[every]),
    )


def sentence(one: Calibrated, task: Calibration) -> str:
    """Coverage as it was measured, in words.

    ``rcft: sets that shall hold the right class in 90 % hold it in 86.0 % [81.2, 90.1] of 24 new subjects' records,
    with 1.7 classes in the mean.``
    """
    found = one.sets["lac"]
    span = f" [{100 * found.coverage.low:.1f}, {100 * found.coverage.high:.1f}]"
    span = span if np.isfinite([found.coverage.low, found.coverage.high]).all() else ""
    return (
        f"{one.strategy}: sets that shall hold the right class in {100 * task.level:g} % hold it in "
        f"{100 * found.coverage.value:.1f} %{span} of {task.groups} new {task.by}s' records, with "
        f"{found.size.value:.1f} classes in the mean."
    )


def write_calibrations(experiment: Experiment, found: Mapping[str, Sequence[Calibration]]) -> list[Path]:
    """Write ``calibration.csv`` and ``calibration.parquet``: a row a setting, task, strategy and measure.

    Args:
        experiment: says where.
        found: by label of the setting.
    """
    keys = ("setting", "task", "strategy", "measure", "value", "low", "high")
    lines: list[tuple[str | float | None, ...]] = []
    for label, tasks in found.items():
        for task in tasks:
            for one in task.strategies:
                said = {f"{metric}, as trained": value for metric, value in one.before.items()}
                said |= {f"{metric}, calibrated": value for metric, value in one.after.items()}
                said |= {f"coverage, {kind}": value.coverage for kind, value in one.sets.items()}
                said |= {f"set size, {kind}": value.size for kind, value in one.sets.items()}
                for measure, value in said.items():
                    ends = [None if np.isnan(x) else float(x) for x in (value.value, value.low, value.high)]
                    lines.append((label, task.task, one.strategy, measure, *ends))
    columns = dict(zip(keys, zip(*lines, strict=True), strict=True)) if lines else dict.fromkeys(keys, ())
    return write_table(experiment.folder, "calibration", columns)
