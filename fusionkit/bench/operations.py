"""Every way to fuse, in the place of a recipe's own: what it scores on held-out records, beside each sensor alone."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, did_you_mean
from fusionkit.data.study import Study
from fusionkit.evaluation.intervals import bootstrap
from fusionkit.evaluation.metrics import primary_metric, score
from fusionkit.evaluation.predict import prediction
from fusionkit.recipe.build import build_tasks
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.training.arm import FUSED
from fusionkit.training.listener import Listener
from fusionkit.training.run import Run, train

RULES = ("mean", "product", "bayes", "max", "majority", "learned")
TENSOR_PRODUCTS = 4096  # that `tensor` makes at most, of up to 12 sensors: as wide as their number allows


@dataclass(frozen=True)
class Scored:
    """The main score of one model on one task.

    Attributes:
        name: the operation, or the sensor that is alone.
        validation: pooled over the folds' validation records.
        test: pooled over the folds' test records.
        error: standard error of ``test`` over groups: its bootstrap interval's width by 3.92; nan with one group.
        seconds: of training, all folds.
    """

    name: str
    validation: float
    test: float
    error: float
    seconds: float


@dataclass(frozen=True)
class Refused:
    """An operation that does not fit the recipe, and its words."""

    name: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """What validation chose, and whether it holds on test records.

    Attributes:
        fused: the operation that scores best on validation records.
        single: the sensor that does.
        least: what the operation must reach: one standard error less than the better of ``single`` and the reference.
    """

    fused: Scored
    single: Scored
    least: float
    higher_is_better: bool

    @property
    def kept(self) -> bool:
        """Whether the operation is not further below."""
        return self.fused.test >= self.least if self.higher_is_better else self.fused.test <= self.least


def operations(sensors: int) -> dict[str, dict[str, Any]]:
    """Every operation's section of a recipe by name; the rules of `vote` count as one each."""
    found: dict[str, dict[str, Any]] = {}
    for kind in registry.fusion.kinds():
        if kind == "vote":
            found |= {f"vote {rule}": {"kind": kind, "rule": rule} for rule in RULES}
        elif kind == "tensor":
            root = round(TENSOR_PRODUCTS ** (1 / sensors))  # the third root of 4096 is under 16 in floating point
            found[kind] = {"kind": kind, "width": max(1, root - (root**sensors > TENSOR_PRODUCTS) - 1)}
        else:
            found[kind] = {"kind": kind}
    return found


def bench_operations(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    names: Sequence[str] | None = None,
    task: str | None = None,
    listener: Listener | None = None,
) -> Iterator[Scored | Refused]:
    """Train a recipe with every operation in turn, and every sensor alone.

    All of them see the recipe's split, encoders, epochs and seed. What is trained stays in the recipe's folder of
    runs, a name each, and is taken up again.

    Args:
        recipe: a shipped recipe or a path.
        overrides: changes to it.
        names: which of `operations`; None takes all.
        task: the task that is scored; by default the first.
        listener: hears of the training.

    Yields:
        The sensors first, then a row an operation.

    Raises:
        ConfigError: the recipe has a graph of its own, or no operation or task of that name.
    """
    own = load_recipe(recipe, overrides)
    if "kind" not in own.fusion:
        raise ConfigError(f"{recipe}: fusion must be one operation to put another in its place, but is a graph")
    known = operations(len(own.modalities))
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--only must name operations, but got {name!r}{did_you_mean(name, list(known))}")
    task = task or next(iter(own.tasks))
    if task not in own.tasks:
        raise ConfigError(f"--task must be one of {', '.join(own.tasks)}, but got {task!r}")
    for sensor in own.modalities:
        changes = [f"name={own.name}-{sensor}", "fusion={kind: vote}", f"fusion.dim={own.graph.dim}"]
        changes += ["train.single_sensors=false", f"modalities={sensor}"]
        yield _scored(f"{sensor} alone", load_recipe(recipe, [*overrides, *changes]), task, listener)
    for name in known if names is None else names:
        made = ", ".join(f"{key}: {value}" for key, value in {**known[name], "dim": own.graph.dim}.items())
        changes = [f"name={own.name}-{name.replace(' ', '-')}", f"fusion={{{made}}}", "train.single_sensors=false"]
        try:
            yield _scored(name, load_recipe(recipe, [*overrides, *changes]), task, listener)
        except (ConfigError, DataError) as error:
            yield Refused(name, str(error))


def choose(recipe: Recipe, task: str, rows: Sequence[Scored], reference: float = math.nan) -> Choice:
    """Take sensor and operation by validation, and compare them by test records.

    Args:
        recipe: says what the task's main score is.
        task: its name.
        rows: as `bench_operations` yields them.
        reference: another score on the same test records, if there is one.
    """
    better = primary_metric(build_tasks(recipe)[task]).better
    sign = 1 if better == "higher" else -1
    alone = [row for row in rows if row.name.endswith(" alone")]
    fused = [row for row in rows if row not in alone]
    if not alone or not fused:
        raise DataError("to choose there must be a sensor and an operation that trained, but there is none")
    best, single = (max(some, key=lambda row: sign * row.validation) for some in (fused, alone))
    bar = single.test if math.isnan(reference) else sign * max(sign * single.test, sign * reference)
    return Choice(best, single, bar - sign * best.error, better == "higher")


def _scored(name: str, recipe: Recipe, task_name: str, listener: Listener | None) -> Scored:
    """Train, or take up, one run, and score it."""
    run = _run(recipe, listener)
    results = run.results(FUSED)
    with Study.open(run.study) as study:
        records = study.records
    task = build_tasks(recipe)[task_name]
    task.restore(next(iter(results.values())).states[task_name])
    target = task.encode(records.known(recipe.tasks[task_name].column), task_name)
    metric = primary_metric(task)
    pooled = {}
    for part in ("validation", "test"):
        rows = np.concatenate([result.rows[part] for result in results.values()])
        decision = np.concatenate([result.decisions[part]["all"][task_name] for result in results.values()])
        pooled[part] = (prediction(task, decision), target[rows], rows)
    answers, truth, rows = pooled["test"]
    groups = records.group(recipe.data.split.by)[rows]
    interval = bootstrap(metric, answers, truth, groups, seed=0, repetitions=1000)
    validation = score(task, *pooled["validation"][:2])[metric.name]
    seconds = sum(result.seconds for result in results.values())
    return Scored(name, validation, interval.value, (interval.high - interval.low) / 3.92, seconds)


def _run(recipe: Recipe, listener: Listener | None) -> Run:
    with suppress(ConfigError):  # none was begun, or by another recipe
        return train(recipe, resume=True, listener=listener)
    return train(recipe, listener=listener)
