"""Split-conformal sets: answers of several classes, as many as it takes to be right as often as asked."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Array
from fusionkit.evaluation.formula import of_mean
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.metric import Metric
from fusionkit.evaluation.metrics import known
from fusionkit.evaluation.statistics.resampled import resample_metric

Kind = Literal["lac", "aps"]
ROUNDING = 1e-12


@dataclass(frozen=True)
class ConformalSets:
    """Which classes are strange enough to be left out.

    Attributes:
        kind: ``lac``: those less probable than a bar; ``aps``: those beyond the most probable ones that together
            reach a bar.
        threshold: the largest strangeness a class in the set may have; infinite where calibration records are too few
            for the level, and then every set has all classes.
        level: share of sets that shall hold the right class.
        records: how many it was calibrated with.
    """

    kind: Kind
    threshold: float
    level: float
    records: int

    def __call__(self, probabilities: Float[np.ndarray, "record class_"]) -> Bool[np.ndarray, "record class_"]:
        """Whether each class is in the set of each record; a set may be empty: no class is likely enough."""
        return np.asarray(_strangeness(self.kind, probabilities) <= self.threshold + ROUNDING)


@dataclass(frozen=True)
class Coverage:
    """How sets did on people that calibration had not seen, as measured: no theorem promises it for new people.

    Attributes:
        coverage: share of sets that hold the right class, its interval over subjects.
        size: mean number of classes in a set, likewise.
        empty: share of sets without a class.
        single: share of sets with one class.
        by_subject: coverage and mean size of each.
    """

    coverage: Interval
    size: Interval
    empty: float
    single: float
    by_subject: dict[str, tuple[float, float]]


def calibrate(
    kind: Kind, probabilities: Float[np.ndarray, "record class_"], target: Array, *, level: float = 0.9
) -> ConformalSets:
    r"""Find the bar on calibration records: the k-th smallest strangeness of right classes,

    .. math:: k = \lceil (n + 1) \, \mathrm{level} \rceil

    Strangeness of a class is 1 less its probability (``lac``, the smallest sets) or the sum of probabilities from the
    most probable class down to it (``aps``, which shares mistakes more evenly between easy and hard records; without
    the random choice of the paper, so that one record always has one set). With nine records at 0.9 the bar is the
    largest strangeness; with eight there is none.

    New records are covered as often as asked if they are exchangeable with those of calibration. Windows of other
    people are not: measure with `coverage`, and calibrate on groups that neither training nor early stopping saw.

    Args:
        kind: which strangeness.
        probabilities: of the calibration records.
        target: their classes; missing ones (nan) are left out.
        level: share of sets that shall hold the right class.

    Raises:
        ConfigError: ``level`` is not between 0 and 1, or there is no such kind.
        DataError: as `fusionkit.evaluation.metrics.score`.

    Reference:
        Sadinle, Lei, Wasserman, Least Ambiguous Set-Valued Classifiers, JASA 2019; Romano, Sesia, Candes,
        Classification with Valid and Adaptive Coverage, NeurIPS 2020.
    """
    if not 0 < level < 1:
        raise ConfigError(f"a level of coverage must be between 0 and 1, got {level:g}")
    probabilities, target, _ = known(probabilities, target)
    if not len(target):
        raise DataError("sets must be calibrated with labelled records, but got none")
    strange = np.take_along_axis(_strangeness(kind, probabilities), target.astype(np.int64)[:, None], axis=1)[:, 0]
    place = math.ceil((len(strange) + 1) * level - ROUNDING)
    threshold = float(np.sort(strange)[place - 1]) if place <= len(strange) else math.inf
    return ConformalSets(kind, threshold, level, len(strange))


def coverage(
    sets: Bool[np.ndarray, "record class_"], target: Array, subjects: Array, *, seed: int, repetitions: int = 2000
) -> Coverage:
    """Measure sets on records of new subjects.

    Args:
        sets: of every record.
        target: classes; records with a missing one (nan) are left out.
        subjects: a name or number for each record.
        seed: of the bootstrap over subjects.
        repetitions: of the bootstrap.

    Raises:
        DataError: as `fusionkit.evaluation.metrics.score`.
        ShapeError: there is not one subject for each record.
    """
    held = of_mean("coverage", "higher", _holds)
    size = of_mean("set_size", "lower", lambda member, _: member.sum(1))
    member, truth, keep = known(sets.astype(np.float64), target)
    names, who = np.unique(np.asarray(subjects)[keep], return_inverse=True)
    return Coverage(
        coverage=_interval(held, sets, target, subjects, seed, repetitions),
        size=_interval(size, sets, target, subjects, seed, repetitions),
        empty=float((member.sum(1) == 0).mean()) if len(member) else math.nan,
        single=float((member.sum(1) == 1).mean()) if len(member) else math.nan,
        by_subject={
            str(name): (float(_holds(member[rows], truth[rows]).mean()), float(member[rows].sum(1).mean()))
            for name, rows in ((name, who == number) for number, name in enumerate(names))
        },
    )


def _interval(metric: Metric, sets: Array, target: Array, subjects: Array, seed: int, repetitions: int) -> Interval:
    drawn = resample_metric(metric, [sets], target, subjects, seed=seed, repetitions=repetitions)
    return drawn.then(lambda values: values[..., 0]).interval()


def _holds(member: Array, target: Array) -> Array:
    return np.asarray(np.take_along_axis(member, target.astype(np.int64)[:, None], axis=1)[:, 0])


def _strangeness(kind: Kind, probabilities: Array) -> Array:
    if kind == "lac":
        return np.asarray(1 - probabilities)
    if kind != "aps":
        raise ConfigError(f"sets must be lac or aps, got {kind!r}")
    order = np.argsort(-probabilities, axis=1, kind="stable")
    reached = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    return np.take_along_axis(reached, np.argsort(order, axis=1, kind="stable"), axis=1)
