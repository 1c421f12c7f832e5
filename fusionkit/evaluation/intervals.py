"""How far a score could be off: percentile bootstrap over groups of records, never over windows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Metric, Resampler
from fusionkit.evaluation.metrics import known, metrics_of

if TYPE_CHECKING:
    from fusionkit.heads.task import Task

CELLS = 2_000_000  # numbers held at a time


@dataclass(frozen=True)
class Interval:
    """A score and where it would lie with other groups.

    Attributes:
        low: lower end; nan where nothing can be said.
        high: upper end; likewise.
        value: the score itself. Where a score grows when records are few (ECE), it may lie below ``low``.
        note: what a reader must know, or empty.
    """

    low: float
    high: float
    value: float
    note: str = ""


def bootstrap(
    metric: Metric | Callable[[Array, Array], float],
    prediction: Array,
    target: Array,
    groups: Array,
    *,
    seed: int,
    repetitions: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of one metric over groups.

    Windows of one person resemble one another, so that drawing windows makes intervals far too narrow; whole groups
    are drawn instead, with replacement. In our simulation (accuracy, 30 windows a group, 2000 studies) an interval
    at 95 % held the truth in 95 % of studies with 60 groups, 93 % with 24, 90 % with 10 and 84 % with 5; drawing
    windows, in 70 %. With one group there is none.

    Args:
        metric: one of `fusionkit.evaluation.metrics.metrics_of`, or any function of prediction and target, which
            takes a call for every repetition.
        prediction: as `fusionkit.evaluation.metrics.score` takes it.
        target: likewise; records with a missing one are left out, and so are groups without others.
        groups: a name or number for each record: its subject.
        seed: the same seed draws the same groups.
        repetitions: how many times groups are drawn.
        level: share of resampled scores inside the interval.

    Raises:
        ConfigError: ``repetitions`` or ``level`` is out of bounds.
        DataError: as `fusionkit.evaluation.metrics.score`.
        ShapeError: there is not one group for each record.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; resampling of whole groups:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    return _bootstrap({"": metric}, prediction, target, groups, seed, repetitions, level)[""]


def bootstrap_all(
    task: "Task",
    prediction: Array,
    target: Array,
    groups: Array,
    *,
    seed: int,
    repetitions: int = 2000,
    level: float = 0.95,
) -> dict[str, Interval]:
    """`bootstrap` of every metric of a task, over the same draws.

    Args:
        task: says which metrics.
        prediction: as `bootstrap`.
        target: as `bootstrap`.
        groups: as `bootstrap`.
        seed: as `bootstrap`.
        repetitions: as `bootstrap`.
        level: as `bootstrap`.
    """
    return _bootstrap(metrics_of(task), prediction, target, groups, seed, repetitions, level)


def _bootstrap(
    metrics: Mapping[str, Metric | Callable[[Array, Array], float]],
    prediction: Array,
    target: Array,
    groups: Array,
    seed: int,
    repetitions: int,
    level: float,
) -> dict[str, Interval]:
    if repetitions < 1 or not 0 < level < 1:
        raise ConfigError(
            f"a bootstrap must have repetitions and a level between 0 and 1, got {repetitions} and {level}"
        )
    groups = np.asarray(groups)
    if groups.shape != np.shape(target)[:1]:
        raise ShapeError(f"there must be a group for each record, but got {groups.shape} for {np.shape(target)}")
    prediction, target, keep = known(prediction, target)
    names, group = np.unique(groups[keep], return_inverse=True)
    values = {name: float(metric(prediction, target)) for name, metric in metrics.items()}
    if len(names) < 2:
        note = "no interval: one group only" if len(names) else "no labelled record"
        return {name: Interval(np.nan, np.nan, value, note) for name, value in values.items()}
    resamplers = {name: _resampler(metric, prediction, target, group, len(names)) for name, metric in metrics.items()}
    parts: dict[str, list[Array]] = {name: [] for name in metrics}
    for draws in group_draws(len(names), repetitions, seed, max(1, CELLS // max(len(names), len(target)))):
        for name, resampler in resamplers.items():
            parts[name].append(resampler(draws))
    return {name: percentile_interval(values[name], np.concatenate(parts[name]), level) for name in metrics}


def group_draws(groups: int, repetitions: int, seed: int, chunk: int) -> Iterator[Array]:
    """How often each group is drawn when as many are drawn as there are, ``(resample, group)``, a few at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, repetitions, chunk):
        size = min(chunk, repetitions - start)
        yield generator.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(np.float64)


def _resampler(
    metric: Metric | Callable[[Array, Array], float], prediction: Array, target: Array, group: Array, groups: int
) -> Resampler:
    if isinstance(metric, Metric):
        return metric.resampler(prediction, target, group, groups)

    def resample(draws: Array) -> Array:
        rows = (np.repeat(np.arange(len(group)), times[group].astype(np.int64)) for times in draws)
        return np.array([metric(prediction[row], target[row]) for row in rows], dtype=np.float64)

    return resample


def percentile_interval(value: float, resampled: Array, level: float) -> Interval:
    """The middle share of resampled scores: of 0, 1, ..., 100 at a level of 0.9, from 5 to 95."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return Interval(np.nan, np.nan, value, "not defined in any resample")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    lost = len(resampled) - len(defined)
    note = f"not defined in {lost} of {len(resampled)} resamples" if lost else ""
    return Interval(float(low), float(high), value, note)
