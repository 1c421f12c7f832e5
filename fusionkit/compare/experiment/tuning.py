"""The same budget of tuning for every strategy, on validation records alone (extra ``tune``)."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusionkit.compare.cells.cell import Cell, Ended, open_run
from fusionkit.compare.experiment.strategy import Strategy
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import fusion, options_model
from fusionkit.data.study import Study
from fusionkit.evaluation.metric import Metric
from fusionkit.evaluation.metrics import known, primary_metric
from fusionkit.evaluation.predict import prediction
from fusionkit.recipe.build import build_tasks
from fusionkit.recipe.sections import Recipe
from fusionkit.training.arm import FUSED
from fusionkit.training.order import derive_seed

AT_ONCE = 5
"""Trials of a strategy and fold that are trained before their scores guide the next ones."""
FACTOR = 10.0
"""Learning rate and weight decay are sought between a tenth and ten times the recipe's."""
DROPOUT = 0.5
"""Dropout of an operation is sought between 0 and this."""


@dataclass(frozen=True)
class Trial:
    """One training that was tried.

    Attributes:
        strategy: label.
        fold: that it was trained in; other folds are tuned by themselves.
        number: from 0, which has the recipe's own values.
        values: by key.
        score: on the fold's validation records, higher is better; nan where it failed.
    """

    strategy: str
    fold: int
    number: int
    values: Mapping[str, float]
    score: float


def tune(
    strategies: Sequence[Strategy],
    folds: int,
    trials: int,
    *,
    cell: Callable[[Strategy, Recipe, int], Cell],
    train: Callable[[Sequence[Cell]], Mapping[str, Ended]],
    score: Callable[[Ended, int], float],
) -> tuple[dict[tuple[str, int], Recipe], list[Trial]]:
    """The best recipe of every strategy in every fold, and all that was tried.

    Optuna's TPE seeks learning rate, weight decay (both on a logarithmic scale) and dropout of the operations, as far
    as the recipe has them; the recipe's own values are tried first. A fold is tuned by itself: what another one
    learns from would else have been tested here. It seeks the same again when a comparison is resumed.

    Args:
        strategies: all of them, sensors alone and the late mean, too.
        folds: how many.
        trials: of each strategy in each fold.
        cell: a trial as a cell.
        train: trains cells; how they ended, by key.
        score: on the validation records of a fold, higher is better.

    Raises:
        ConfigError: Optuna is not installed.
    """
    optuna = _optuna()
    places = [(strategy, fold) for strategy in strategies for fold in range(folds)]
    studies = [
        optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=derive_seed("tune", one.label, k) % 2**32, constant_liar=True),
        )
        for one, k in places
    ]
    for study, (one, _) in zip(studies, places, strict=True):
        study.enqueue_trial({name: own for name, (own, _, _, _) in _space(one.recipe).items()})
    found: list[Trial] = []
    recipes: dict[tuple[str, int], Recipe] = {(one.label, fold): one.recipe for one, fold in places}
    best: dict[tuple[str, int], float] = {}
    for begun in range(0, trials, AT_ONCE):
        asked = []
        for study, (one, fold) in zip(studies, places, strict=True):
            for _ in range(min(AT_ONCE, trials - begun)):
                trial = study.ask()
                values = {
                    name: trial.suggest_float(name, low, high, log=log)
                    for name, (_, low, high, log) in _space(one.recipe).items()
                }
                recipe = with_values(one.recipe, values)
                asked.append((study, trial, one, fold, values, recipe, cell(one, recipe, fold)))
        ended = train(list({made.key: made for *_, made in asked}.values()))
        for study, trial, one, fold, values, recipe, made in asked:
            how = ended[made.key]
            value = math.nan if how.problem else score(how, fold)
            found.append(Trial(one.label, fold, trial.number, values, value))
            if math.isnan(value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            study.tell(trial, value)
            if value > best.get((one.label, fold), -math.inf):
                best[one.label, fold], recipes[one.label, fold] = value, recipe
    return recipes, found


def with_values(recipe: Recipe, values: Mapping[str, float]) -> Recipe:
    """The recipe with other values of what is tuned."""
    own = {name.removeprefix("train."): value for name, value in values.items() if name.startswith("train.")}
    nodes = [
        replace(node, options={**node.options, "dropout": values[key]})
        if (key := f"fusion.{node.name}.dropout") in values
        else node
        for node in recipe.graph.nodes
    ]
    train = recipe.train.model_copy(update=own)
    return replace(recipe, train=train, graph=replace(recipe.graph, nodes=tuple(nodes)))


def validation_score(recipe: Recipe, study: Study) -> Callable[[Ended, int], float]:
    """A function from a trained cell and its fold to its score: the main metric, in the mean over tasks.

    Raises:
        ConfigError: tasks are not scored by one metric.
    """
    tasks = build_tasks(recipe)
    metrics = {name: primary_metric(task) for name, task in tasks.items()}
    if len({metric.name for metric in metrics.values()}) > 1:
        names = {name: metric.name for name, metric in metrics.items()}
        raise ConfigError(f"--tune must have one metric to go by, but tasks have {names}")

    def score(ended: Ended, fold: int) -> float:
        result = open_run(ended).results(FUSED)[fold]
        rows = result.rows["validation"]
        values = []
        for name, task in tasks.items():
            task.restore(result.states[name])
            target = task.encode(study.records.labels[recipe.tasks[name].column], name)[rows]
            said = prediction(task, result.decisions["validation"]["all"][name])
            values.append(_oriented(metrics[name], said, target))
        return sum(values) / len(values)

    return score


def _oriented(metric: Metric, said: Any, target: Any) -> float:
    said, target, _ = known(said, target)
    value = float(metric(said, target)) if len(target) else math.nan
    return value if metric.better == "higher" else -value


def _space(recipe: Recipe) -> dict[str, tuple[float, float, float, bool]]:
    """Own value, lowest, highest, and whether the scale is logarithmic."""
    space = {}
    for name in ("lr", "weight_decay"):
        own = float(getattr(recipe.train, name))
        if own > 0:
            space[f"train.{name}"] = (own, own / FACTOR, own * FACTOR, True)
    for node in recipe.graph.nodes:
        dropout = getattr(options_model(fusion.get(node.kind))(**node.options), "dropout", None)
        if isinstance(dropout, float):
            space[f"fusion.{node.name}.dropout"] = (dropout, 0.0, max(DROPOUT, dropout), False)
    return space


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError:
        raise ConfigError("--tune needs Optuna, but it is not installed: pip install 'fusionkit-torch[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
