"""How strategies hold when sensors are absent or fail, and what each sensor is worth to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from fusionkit.compare.cells.cell import open_run
from fusionkit.compare.conditions.asked_again import Answers
from fusionkit.compare.conditions.corruption import EVERY, Condition, read_faults
from fusionkit.compare.conditions.subsets import read_subsets
from fusionkit.compare.experiment.grid import Block, Experiment
from fusionkit.compare.experiment.results import write_table
from fusionkit.core.modality import Array
from fusionkit.evaluation.contribution import MOST, Contribution, contribution, subsets
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.metric import Better, Metric
from fusionkit.evaluation.metrics import known, primary_metric
from fusionkit.evaluation.robustness import Robustness, robustness
from fusionkit.evaluation.statistics.resampled import REPETITIONS, Resampled, resample_metric
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_tasks
from fusionkit.training.arm import FUSED

UNITS = {
    "noise": "noise on {}, deviations of its channels",
    "channels": "share of the channels of {} lost",
    "bursts": "share of the data of {} missing, in bursts",
    "offset": "seconds that {} is late",
    "drift": "seconds a minute that {} loses",
}


@dataclass(frozen=True)
class Case:
    """One column of the tables: all sensors, some of them absent, or one fault.

    Attributes:
        absent: sensors that are unplugged.
        fault: what else is wrong.
    """

    absent: frozenset[str] = frozenset()
    fault: Condition | None = None

    @property
    def label(self) -> str:
        """As a figure calls it."""
        if self.fault is not None:
            return f"{self.fault.kind} {self.fault.sensor or 'all'} {self.fault.level:g}"
        return f"no {' + '.join(sorted(self.absent))}" if self.absent else "all sensors"


@dataclass(frozen=True)
class Curve:
    """What strategies score as one kind of fault grows.

    Attributes:
        words: what the levels are.
        levels: from none.
        struck: strategies that have such a sensor; the others feel nothing.
        scores: by strategy, one for each level.
        robustness: by strategy, in scores of which more is better: the sign of an error is turned.
        reference: the strategy that effective robustness is measured against: the late mean, if it can suffer this.
    """

    words: str
    levels: tuple[float, ...]
    struck: tuple[str, ...]
    scores: dict[str, list[Interval]]
    robustness: dict[str, Robustness]
    reference: str


@dataclass(frozen=True)
class Stress:
    """One task of one setting under all that strikes at test, pooled over folds, seeds averaged.

    Attributes:
        task: its name.
        metric: its main metric.
        better: which direction of that is better.
        by: what subjects are: what the split keeps whole.
        subjects: how many of those the intervals are over: with a label.
        strategies: those all of whose cells were asked again.
        left_out: why others were not.
        cases: what strikes.
        scores: ``(strategy, case)``; nan where a sensor cannot suffer that.
        single: the same of every seed and fold, ``(strategy, seed, fold, case)``.
        curves: by kind of fault and sensor.
        contributions: by strategy that has several sensors; of an error, less is more.
    """

    task: str
    metric: str
    better: Better
    by: str
    subjects: int
    strategies: tuple[str, ...]
    left_out: dict[str, str]
    cases: tuple[Case, ...]
    scores: Float[np.ndarray, "strategy case"]
    single: Float[np.ndarray, "strategy seed fold case"]
    curves: dict[tuple[str, str], Curve]
    contributions: dict[str, Contribution]


def stress(block: Block, experiment: Experiment, *, repetitions: int = REPETITIONS) -> list[Stress]:
    """Score what the cells of a setting answered when they were asked again, task by task.

    A sensor that a strategy does not have may be absent or noisy without any effect on it; where none of a strategy's
    own sensors is left, it answers with the training prior.

    Args:
        block: the setting.
        experiment: says which faults there were; without any there is nothing to score.
        repetitions: of the bootstrap over subjects.
    """
    if experiment.asked.faults is None:
        return []
    read = {one.label: _read(block, experiment, one.label) for one in block.setting.strategies}
    found = {label: folds for label, folds in read.items() if not isinstance(folds, str)}
    if not found:
        return []
    left_out = {label: folds for label, folds in read.items() if isinstance(folds, str)}
    first = next(iter(found.values()))
    rows = [  # a sensor that is normalised by segments of its own answers less of them
        reduce(np.intersect1d, [folds[number].rows for seeds in found.values() for folds in seeds])
        for number in range(len(first[0]))
    ]
    found = {
        label: [[one.about(part) for one, part in zip(folds, rows, strict=True)] for folds in seeds]
        for label, seeds in found.items()
    }
    recipe, made = block.setting.recipe, []
    for name, task in build_tasks(recipe).items():
        task.restore(_state(block, experiment, name))
        target = task.encode(block.study.records.labels[recipe.tasks[name].column], name)
        made.append(_stress(block, name, task, [target[part] for part in rows], rows, found, left_out, repetitions))
    return made


@dataclass(frozen=True)
class _Asked:
    """What one cell answered: every subset of its sensors, then every fault."""

    rows: Array
    sensors: tuple[str, ...]
    faults: tuple[Condition, ...]
    predictions: dict[str, Array]

    def about(self, rows: Array) -> "_Asked":
        """The same of some of the records."""
        kept = np.isin(self.rows, rows)
        return replace(self, rows=rows, predictions={name: x[:, kept] for name, x in self.predictions.items()})

    def column(self, case: Case) -> int | None:
        """Where the answer to a case is; None where there is none."""
        every = (1 << len(self.sensors)) - 1
        if case.fault is None:
            return sum(1 << bit for bit, name in enumerate(self.sensors) if name not in case.absent)
        if case.fault.sensor not in (EVERY, *self.sensors):
            return every
        return every + 1 + self.faults.index(case.fault) if case.fault in self.faults else None


def _read(block: Block, experiment: Experiment, label: str) -> list[list[_Asked]] | str:
    """By seed and fold; in words why there is none."""
    strategy = next(one for one in block.setting.strategies if one.label == label)
    sensors, faults = tuple(strategy.recipe.modalities), experiment.asked.faults
    assert faults is not None
    found = []
    for seed in range(strategy.recipe.seed, strategy.recipe.seed + experiment.asked.seeds):
        folds = []
        for fold in range(len(block.split.folds)):
            cell = block.cells[label, fold, seed]
            whole, struck = read_subsets(Path(cell.folder)), read_faults(Path(cell.folder), faults)
            if experiment.ended[cell.key].problem or whole is None or struck is None:
                return f"no answers in fold {fold} with seed {seed}"
            folds.append(_together(whole, struck, sensors))
        found.append(folds)
    return found


def _together(whole: Answers, struck: Answers, sensors: tuple[str, ...]) -> _Asked:
    faults = tuple(Condition(**one) for one in struck.conditions)
    answers = {name: np.concatenate([whole.predictions[name], struck.predictions[name]]) for name in whole.predictions}
    return _Asked(whole.rows, sensors, faults, answers)


def _state(block: Block, experiment: Experiment, task: str) -> Mapping[str, object]:
    """What the task learned of the study, from any cell."""
    key = next(key for key, one in experiment.ended.items() if not one.problem and _of(block, key))
    result = next(iter(open_run(experiment.ended[key]).results(FUSED).values()))
    state: Mapping[str, object] = result.states[task]
    return state


def _of(block: Block, key: str) -> bool:
    return any(cell.key == key for cell in block.cells.values())


def _stress(
    block: Block,
    name: str,
    task: Task,
    targets: Sequence[Array],
    rows: Sequence[Array],
    found: Mapping[str, list[list[_Asked]]],
    left_out: Mapping[str, str],
    repetitions: int,
) -> Stress:
    metric, by = primary_metric(task), block.split.options.by
    sign = 1.0 if metric.better == "higher" else -1.0
    labels, firsts = tuple(found), {label: seeds[0][0] for label, seeds in found.items()}
    start = np.cumsum([0, *(len(one.predictions[name]) for one in firsts.values())])
    group = block.study.records.group(by)[np.concatenate(list(rows))]
    target = np.concatenate(list(targets))
    draws = [
        resample_metric(
            metric,
            [
                answer
                for seeds in found.values()
                for answer in np.concatenate([f.predictions[name] for f in seeds[seed]], 1)
            ],
            target,
            group,
            seed=0,
            repetitions=repetitions,
        )
        for seed in range(len(next(iter(found.values()))))
    ]
    columns = Resampled(
        np.mean([one.value for one in draws], axis=0) * sign,
        np.mean([one.draws for one in draws], axis=0) * sign,
        draws[0].subjects,
    )
    cases = _cases(firsts.values())
    places = [[one.column(case) for case in cases] for one in firsts.values()]
    place = np.array(
        [[-1 if p is None else p + first for p in line] for line, first in zip(places, start, strict=False)]
    )
    whose = {one.label: one.role for one in block.setting.strategies}
    return Stress(
        task=name,
        metric=metric.name,
        better=metric.better,
        by=by,
        subjects=columns.subjects,
        strategies=labels,
        left_out=dict(left_out),
        cases=tuple(cases),
        scores=np.where(place < 0, np.nan, sign * columns.value[place]),
        single=_single(metric, name, found, targets, places),
        curves=_curves(columns, cases, place, firsts, block.setting.reference, sign),
        contributions={
            label: contribution(_part(columns, int(first) + np.arange(2 ** len(one.sensors))), one.sensors)
            for (label, one), first in zip(firsts.items(), start, strict=False)
            if whose[label] != "sensor" and 1 < len(one.sensors) <= MOST
        },
    )


def _cases(asked: Iterable[_Asked]) -> list[Case]:
    """All sensors, every set of them absent (the fewest first), every fault of anyone."""
    ones = list(asked)
    sensors = list(dict.fromkeys(name for one in ones for name in one.sensors))
    absent = sorted(subsets(sensors), key=len)
    faults = dict.fromkeys(fault for one in ones for fault in one.faults)
    return [*(Case(absent=gone) for gone in absent), *(Case(fault=fault) for fault in faults)]


def _part(columns: Resampled, chosen: Int[np.ndarray, "*n"]) -> Resampled:
    return columns.then(lambda values: values[..., chosen])


def _curves(
    columns: Resampled,
    cases: Sequence[Case],
    place: Array,
    firsts: Mapping[str, _Asked],
    reference: str | None,
    sign: float,
) -> dict[tuple[str, str], Curve]:
    found: dict[tuple[str, str], Curve] = {}
    for kind, sensor in dict.fromkeys((case.fault.kind, case.fault.sensor) for case in cases if case.fault is not None):
        here = [
            n for n, c in enumerate(cases) if c.fault is not None and (c.fault.kind, c.fault.sensor) == (kind, sensor)
        ]
        levels = (0.0, *(case.fault.level for case in (cases[n] for n in here) if case.fault is not None))
        chosen = place[:, [0, *here]]
        able = [number for number, line in enumerate(chosen) if (line >= 0).all()]
        names = [list(firsts)[number] for number in able]
        scores = _part(columns, chosen[able])
        against = reference if reference is not None and reference in names else names[0]
        intervals = scores.then(lambda values: sign * values).intervals()
        found[kind, sensor] = Curve(
            words=UNITS[kind].format(sensor or "every sensor"),
            levels=levels,
            struck=tuple(name for name in names if sensor in (EVERY, *firsts[name].sensors)),
            scores={n: intervals[k * len(levels) : (k + 1) * len(levels)] for k, n in enumerate(names)},
            robustness=robustness(scores, names, levels, reference=against),
            reference=against,
        )
    return found


def _single(
    metric: Metric,
    name: str,
    found: Mapping[str, list[list[_Asked]]],
    targets: Sequence[Array],
    places: Sequence[Sequence[int | None]],
) -> Array:
    first = next(iter(found.values()))
    values = np.full((len(found), len(first), len(first[0]), len(places[0])), np.nan)
    for i, (seeds, columns) in enumerate(zip(found.values(), places, strict=True)):
        for j, folds in enumerate(seeds):
            for k, (one, target) in enumerate(zip(folds, targets, strict=True)):
                scores = [_measure(metric, answer, target) for answer in one.predictions[name]]
                values[i, j, k] = [np.nan if column is None else scores[column] for column in columns]
    return values


def _measure(metric: Metric, said: Array, target: Array) -> float:
    said, target, _ = known(said, target)
    return float(metric(said, target)) if len(target) else float("nan")


def write_stress(experiment: Experiment, found: Mapping[str, Sequence[Stress]]) -> list[Path]:
    """Write ``robustness.csv`` and ``robustness.parquet``: a row a setting, task, strategy, seed, fold and case.

    Args:
        experiment: says where.
        found: by label of the setting.
    """
    keys = ("setting", "task", "metric", "strategy", "seed", "fold", "absent", "fault", "sensor", "level", "score")
    lines: list[tuple[str | float | int | None, ...]] = []
    for label, tasks in found.items():
        for one in tasks:
            for (i, seed, fold, case), value in np.ndenumerate(one.single):
                what = one.cases[case]
                fault = what.fault or Condition("noise", "", 0.0)
                kind = "" if what.fault is None else fault.kind
                place = (label, one.task, one.metric, one.strategies[i], seed, fold, " + ".join(sorted(what.absent)))
                number = None if np.isnan(value) else float(value)
                lines.append((*place, kind, fault.sensor, fault.level, number))
    return write_table(
        experiment.folder, "robustness", dict(zip(keys, zip(*lines, strict=True), strict=True)) if lines else {}
    )
