"""Paired bootstrap: scores, and the same scores with other subjects, drawn once for all of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, t

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.intervals import CELLS, Interval, group_draws, percentile_interval
from fusionkit.evaluation.metric import Metric
from fusionkit.evaluation.metrics import known
from fusionkit.evaluation.statistics.ties import without_rounding
from fusionkit.evaluation.statistics.trained_t import alike

REPETITIONS = 2000


@dataclass(frozen=True)
class Resampled:
    """Scores of many strategies, sensors left out or levels of noise, all from the same draws of subjects.

    Whatever is computed of them, a difference or an area, is paired: ``scores.then(lambda s: s[..., 0] - s[..., 1])``.

    Attributes:
        value: the scores themselves, ``(*score)``.
        draws: those of each resample, ``(repetition, *score)``; nan where there is one subject only.
        subjects: how many were drawn from, which says how far intervals fall short.
    """

    value: Array
    draws: Array
    subjects: int

    def then(self, statistic: Callable[[Array], Array]) -> "Resampled":
        """A function of the scores, which has to leave leading axes alone."""
        return Resampled(np.asarray(statistic(self.value)), np.asarray(statistic(self.draws)), self.subjects)

    def interval(self, level: float = 0.95) -> Interval:
        """Percentile interval of a single score, as wide as so few subjects ask for (`widened`).

        Raises:
            ShapeError: there are several.
        """
        if self.value.ndim:
            raise ShapeError(f"an interval must be of one score, but got {self.value.shape}")
        return percentile_interval(float(self.value), self.draws, widened(level, self.subjects))

    def intervals(self, level: float = 0.95) -> list[Interval]:
        """Likewise of every score, those of the last axis together."""
        draws = self.draws.reshape(len(self.draws), -1)
        return [
            percentile_interval(float(value), draws[:, number], widened(level, self.subjects))
            for number, value in enumerate(self.value.reshape(-1))
        ]

    def chance(self) -> Array:
        r"""How often so many subjects of a score that is 0 give one as far out, two-sided, of every score.

        Student's t with n - 1 degrees of freedom, the error that of the resamples times
        :math:`\sqrt{n / (n - 1)}`: of a mean over subjects it is the t test. The ends of few resamples cannot say it: of
        five subjects that are all above 0, which one in 16 such quintets is, no resample is below.
        """
        if self.subjects < 2:
            return np.full(self.value.shape, np.nan)
        error = np.sqrt(self.subjects / (self.subjects - 1)) * np.nanstd(self.draws, axis=0)
        error = without_rounding(error, np.abs(self.value))
        away = np.divide(np.abs(self.value), error, out=np.zeros_like(error), where=error > 0)
        same = (error == 0) & (self.value != 0)
        return np.where(same, alike(np.asarray(self.subjects - 1.0)), 2 * t.sf(away, self.subjects - 1))


def widened(level: float, subjects: int) -> float:
    r"""Level of a percentile interval that holds the truth as often as said, though subjects are few.

    .. math:: 2 \Phi\!\left(\sqrt{\tfrac{n}{n - 1}} \; t_{n-1, (1 + \mathrm{level}) / 2}\right) - 1

    Resampled means spread by :math:`\sqrt{(n - 1) / n}` too little, and a normal law stands where Student's should.
    At 95 %, ten subjects take 98.3 %, 60 take 95.6 %.

    Reference:
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 2015 (expanded percentiles).
    """
    if subjects < 2:
        return level
    reach = math.sqrt(subjects / (subjects - 1)) * t.ppf((1 + level) / 2, subjects - 1)
    return float(min(2 * norm.cdf(reach) - 1, np.nextafter(1, 0)))


def resample_means(
    scores: Float[np.ndarray, "subject *score"], *, seed: int, repetitions: int = REPETITIONS
) -> Resampled:
    """Mean over subjects of every score, and of subjects drawn with replacement.

    Scores 1 and 3 of two subjects have mean 2, and resamples of 1, 2 or 3. Percentiles
    alone are too narrow with few subjects: of a mean of normal scores, 95 % of them held the truth in 92 % of
    studies with 24 subjects, 89 % with 10 and 84 % with 5; `widened`, in 94, 94 and 92 %. With three the widest that
    resamples can give holds it in 74 %.

    Args:
        scores: of every subject, seeds averaged before.
        seed: the same seed draws the same subjects.
        repetitions: how many times they are drawn.

    Raises:
        ConfigError: ``repetitions`` is below 1.
        DataError: a score is missing: leave that subject out of all, or the pairs are lost.
    """
    scores = np.asarray(scores, dtype=np.float64)
    missing = np.isnan(scores).any(axis=tuple(range(1, scores.ndim)))
    if not len(scores) or missing.any():
        got = f"subject {missing.argmax()} misses one" if len(scores) else "no subject"
        raise DataError(f"every subject must have every score, but got {got}")
    flat = scores.reshape(len(scores), -1)
    value = np.asarray(scores.mean(0))
    drawn = [draws @ flat / len(flat) for draws in _chunks(len(flat), repetitions, seed, flat.shape[1])]
    return Resampled(value, np.concatenate(drawn).reshape(-1, *value.shape), len(flat))


def resample_metric(
    metric: Metric,
    predictions: Sequence[Array],
    target: Array,
    groups: Array,
    *,
    seed: int,
    repetitions: int = REPETITIONS,
) -> Resampled:
    """A metric of the records of all subjects pooled, for several predictions of the same records.

    For metrics that one subject's records do not define, such as an AUROC or a macro F1.

    Args:
        metric: what to score by.
        predictions: each as `fusionkit.evaluation.metrics.score` takes it.
        target: likewise, the same for all; records with a missing one are left out.
        groups: a name or number for each record: its subject.
        seed: as `resample_means`.
        repetitions: as `resample_means`.

    Raises:
        ConfigError: ``repetitions`` is below 1.
        DataError: as `fusionkit.evaluation.metrics.score`.
        ShapeError: there are no predictions, or not one group for each record.
    """
    groups = np.asarray(groups)
    if not predictions or groups.shape != np.shape(target)[:1]:
        raise ShapeError(
            f"there must be predictions, and a group for each record, but got {len(predictions)} and {groups.shape} "
            f"for {np.shape(target)}"
        )
    checked = [known(prediction, target) for prediction in predictions]
    names, group = np.unique(groups[checked[0][2]], return_inverse=True)
    resamplers = [metric.resampler(prediction, truth, group, len(names)) for prediction, truth, _ in checked]
    value = np.array([metric(prediction, truth) for prediction, truth, _ in checked])
    drawn = [
        np.stack([resampler(draws) for resampler in resamplers], axis=-1)
        for draws in _chunks(len(names), repetitions, seed, len(group))
    ]
    return Resampled(value, np.concatenate(drawn), len(names))


def _chunks(subjects: int, repetitions: int, seed: int, width: int) -> list[Array]:
    if repetitions < 1:
        raise ConfigError(f"a bootstrap must have repetitions, got {repetitions}")
    if subjects < 2:  # the only draw there is would make an interval of no width
        return [np.full((repetitions, subjects), np.nan)]
    return list(group_draws(subjects, repetitions, seed, max(1, CELLS // max(subjects, width, 1))))
