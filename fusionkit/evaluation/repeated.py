"""One recipe run with several seeds: what its encoders gain over the same encoders untrained, from seed to seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.probing import Measured, Probed
from fusionkit.recipe.sections import Recipe


@dataclass(frozen=True)
class Gained:
    """One measure of one sensor in every run.

    Attributes:
        task: as `Measured`, like the three that follow.
        sensor: whose encoder.
        measure: what was measured.
        metric: of it.
        learned: run by run.
        untrained: likewise.
        gain: the mean of ``learned`` less ``untrained``, which share a seed, and where it would lie with other seeds.
    """

    task: str
    sensor: str
    measure: str
    metric: str
    learned: list[float]
    untrained: list[float]
    gain: Interval


def check_repetitions(recipes: Sequence[Recipe]) -> None:
    """Refuse runs that differ in more than their seeds, names and folders.

    Raises:
        ConfigError: they do, or a seed occurs twice.
    """
    sections = [{k: v for k, v in one.resolved().items() if k not in ("name", "seed", "run")} for one in recipes]
    for other in sections[1:]:
        differing = [name for name in sections[0] if sections[0][name] != other.get(name)]
        if differing:
            raise ConfigError(f"runs that are compared must differ in their seeds alone, but differ in {differing[0]}")
    seeds = [one.seed for one in recipes]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"runs that are compared must each have a seed of their own, but have {seeds}")


def gains(probed: Sequence[Probed]) -> list[Gained]:
    """Every measure that all runs have."""
    by_name = [{(one.task, one.sensor, one.measure): one for one in run.measured} for run in probed]
    return [_gained([run[name] for run in by_name]) for name in by_name[0] if all(name in run for run in by_name)]


def _gained(measured: Sequence[Measured]) -> Gained:
    learned, untrained = [one.learned.value for one in measured], [one.untrained.value for one in measured]
    first = measured[0]
    return Gained(first.task, first.sensor, first.measure, first.metric, learned, untrained, paired(learned, untrained))


def paired(ours: Sequence[float], others: Sequence[float]) -> Interval:
    r"""Mean of the differences :math:`d` and the interval :math:`\bar d \pm t_{0.975, n-1}\, s / \sqrt n` of Student.

    Differences of 1, 2 and 3 have mean 2 and standard deviation 1: 2 ± 4.3027 / sqrt 3 = 2 ± 2.4841. One pair has no
    interval. It says what other seeds would give, with the same records; nothing of other records.

    Args:
        ours: one number a seed.
        others: likewise, in the same order.
    """
    differences = np.asarray(ours, np.float64) - np.asarray(others, np.float64)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Interval(math.nan, math.nan, mean, "no interval: one seed only")
    half = float(student.ppf(0.975, count - 1) * differences.std(ddof=1) / math.sqrt(count))
    return Interval(mean - half, mean + half, mean)
