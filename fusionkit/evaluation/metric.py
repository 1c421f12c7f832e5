"""What every metric is: a number for some records, and the same for many resamples of their groups at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array

Better = Literal["higher", "lower"]
Resampler = Callable[[Array], Array]
"""From draws ``(resample, group)``, how often each group was drawn, to the metric of each resample."""


class Metric(ABC):
    """A number that says how good predictions are; nan where it is not defined.

    It takes records whose target is known: probabilities ``(record, class)`` with class indices, probabilities
    ``(record, label, 2)`` with 0/1 rows, or values ``(record,)`` with values.
    """

    name: str
    better: Better

    def __call__(self, prediction: Array, target: Array) -> float:
        """The metric of these records."""
        one = np.zeros(len(target), dtype=np.int64)
        return float(self.resampler(prediction, target, one, 1)(np.ones((1, 1)))[0])

    @abstractmethod
    def resampler(self, prediction: Array, target: Array, group: Array, groups: int) -> Resampler:
        """Do once what all resamples share; ``group`` is a number below ``groups`` for each record."""


@dataclass(frozen=True)
class SumMetric(Metric):
    """A function of sums over records: almost every metric is one, and its resamples cost next to nothing.

    Args:
        name: as reports write it.
        better: which direction is better.
        sums: from prediction, target, group and the number of groups to sums ``(group, statistic)``.
        finish: from sums ``(..., statistic)`` to the metric ``(...)``.
    """

    name: str
    better: Better
    sums: Callable[[Array, Array, Array, int], Float[np.ndarray, "group statistic"]]
    finish: Callable[[Array], Array]

    def resampler(self, prediction: Array, target: Array, group: Array, groups: int) -> Resampler:
        sums = self.sums(prediction, target, group, groups)
        return lambda draws: self.finish(draws @ sums)


def group_sums(columns: Array, group: Array, groups: int) -> Float[np.ndarray, "group statistic"]:
    """Sums of each column over the records of each group: (1, 2, 5) in groups (0, 0, 1) gives 3 and 5."""
    sums = [np.bincount(group, weights=column, minlength=groups) for column in columns.T]
    return np.stack(sums, axis=1).astype(np.float64)  # without records they are integers


def ratio(above: Array, below: Array) -> Array:
    """A quotient; nan, without a warning, where nothing is below."""
    above, below = np.broadcast_arrays(above, below)
    result: Array = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return result


def defined_mean(values: Array) -> Array:
    """Mean over the last axis of what is no nan: (1, nan, 3) gives 2; nan where nothing is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(-1), defined.sum(-1))
