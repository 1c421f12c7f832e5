"""Definitions of metrics, from sums over records: one record or many resamples at once, on the leading axes."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Better, SumMetric, defined_mean, group_sums, ratio

LEAST = 1e-12  # probabilities below are taken as this, so that one sure mistake is not an infinite loss
FLAT = 1e-10  # a variance below this share of the mean square is rounding


def accuracy(confusion: Float[np.ndarray, "*n class_ class_"]) -> Array:
    """Share of right answers: [[1, 1], [0, 1]] gives 2/3."""
    return ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def balanced_accuracy(confusion: Float[np.ndarray, "*n class_ class_"]) -> Array:
    """Mean, over classes that occur, of the share of each that is found: [[1, 1], [0, 1]] gives 3/4.

    With one class only it is the accuracy.
    """
    return defined_mean(ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1)))


def macro_f1(confusion: Float[np.ndarray, "*n class_ class_"]) -> Array:
    """Mean of F1 over classes that occur or are answered: [[1, 1], [0, 1]] gives (2/3 + 2/3) / 2."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return defined_mean(ratio(2 * right, confusion.sum(-1) + confusion.sum(-2)))


def ordinal_error(confusion: Float[np.ndarray, "*n class_ class_"]) -> Array:
    """Mean distance, in classes, of the answer from the right one: one of three off by two gives 2/3."""
    number = np.arange(confusion.shape[-1])
    distance = np.abs(number[:, None] - number)
    return ratio((confusion * distance).sum((-2, -1)), confusion.sum((-2, -1)))


def quadratic_kappa(confusion: Float[np.ndarray, "*n class_ class_"]) -> Array:
    """Agreement beyond chance, mistakes weighted by squared distance; 1 at best, 0 for chance.

    [[1, 1], [0, 1]]: 1 observed mistake, (2 * 2 + 1 * 1) / 3 expected, gives 0.4. It is nan where right and
    answered classes are all one and the same.

    Reference:
        Cohen, Weighted Kappa, Psychological Bulletin 1968.
    """
    number = np.arange(confusion.shape[-1])
    weight = (number[:, None] - number) ** 2
    expected = confusion.sum(-1)[..., :, None] * confusion.sum(-2)[..., None, :]
    by_chance = ratio((weight * expected).sum((-2, -1)), confusion.sum((-2, -1)))
    return 1 - ratio((weight * confusion).sum((-2, -1)), by_chance)


def negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """Minus the natural logarithm of the right class's probability, by record: 0.5 gives 0.693."""
    right = np.take_along_axis(prediction, target.astype(np.int64)[:, None], axis=1)[:, 0]
    unlikely: Array = -np.log(np.clip(right, LEAST, None))
    return unlikely


def brier(prediction: Array, target: Array) -> Array:
    """Squared distance between probabilities and the truth, over all classes (0 to 2), by record.

    Probabilities (0.8, 0.2) with the first right give 0.08.

    Reference:
        Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 1950.
    """
    truth = np.arange(prediction.shape[1]) == target[:, None]
    squares: Array = ((prediction - truth) ** 2).sum(axis=1)
    return squares


def subset_right(prediction: Array, target: Array) -> Array:
    """Whether every label of a record is right."""
    right: Array = (prediction.argmax(axis=2) == target).all(axis=1)
    return right


def label_f1(sums: Array) -> Array:
    """Mean of F1 over labels that occur or are answered, from hits, occurrences and answers of each."""
    hits, occurrences, answers = np.split(sums, 3, axis=-1)
    return defined_mean(ratio(2 * hits, occurrences + answers))


def determination(sums: Array) -> Array:
    """R2: 1 minus squared error over squared distance from the mean; nan for a constant target.

    Targets 1, 2, 3 answered 1, 2, 4 give 1 - 1/2.
    """
    count, y, yy, error = np.moveaxis(sums, -1, 0)
    return 1 - ratio(error, _spread(count, y, yy))


def correlation(sums: Array) -> Array:
    """Pearson's r; nan where targets or answers are constant. Targets 1, 2, 3 answered 2, 4, 6 give 1."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    together = xy - ratio(x * y, count)
    return ratio(together, np.sqrt(_spread(count, x, xx) * _spread(count, y, yy)))


def _spread(count: Array, total: Array, squares: Array) -> Array:
    """Sum of squared distances from the mean; exactly 0 where it is rounding."""
    spread = squares - ratio(total**2, count)
    return np.where(spread > FLAT * squares, spread, 0)


def confusion_sums(prediction: Array, target: Array, group: Array, groups: int) -> Array:
    """Confusion matrix of each group, ``(group, class * class)``."""
    classes = prediction.shape[1]
    cell = (group * classes + target.astype(np.int64)) * classes + prediction.argmax(axis=1)
    counts = np.bincount(cell, minlength=groups * classes**2)
    return counts.reshape(groups, classes**2).astype(np.float64)


def label_sums(prediction: Array, target: Array, group: Array, groups: int) -> Array:
    """Hits, occurrences and answers of every label in each group."""
    answer = prediction.argmax(axis=2)
    return group_sums(np.concatenate([answer * target, target, answer], axis=1), group, groups)


def error_sums(prediction: Array, target: Array, group: Array, groups: int) -> Array:
    """Count, sum and sum of squares of targets (less their mean, to keep digits) and of squared errors."""
    y = _centred(target)
    return group_sums(np.stack([np.ones(len(y)), y, y**2, (prediction - target) ** 2], axis=1), group, groups)


def joint_sums(prediction: Array, target: Array, group: Array, groups: int) -> Array:
    """Count, sums, sums of squares and of products of predictions and targets, both less their means."""
    x, y = _centred(prediction), _centred(target)
    return group_sums(np.stack([np.ones(len(y)), x, y, x**2, y**2, x * y], axis=1), group, groups)


def _centred(values: Array) -> Array:
    centred: Array = values - (values.mean() if len(values) else 0)
    return centred


def of_confusion(name: str, better: Better, formula: Callable[[Array], Array]) -> SumMetric:
    """A metric that is a function of the confusion matrix."""

    def finish(sums: Array) -> Array:
        classes = math.isqrt(sums.shape[-1])
        return formula(sums.reshape(*sums.shape[:-1], classes, classes))

    return SumMetric(name, better, confusion_sums, finish)


def of_mean(
    name: str, better: Better, each: Callable[[Array, Array], Array], then: Callable[[Array], Array] | None = None
) -> SumMetric:
    """A metric that is a mean over records, of which ``then`` makes something else (a root)."""

    def sums(prediction: Array, target: Array, group: Array, groups: int) -> Array:
        return group_sums(np.stack([each(prediction, target), np.ones(len(target))], axis=1), group, groups)

    def finish(sums: Array) -> Array:
        mean = ratio(sums[..., 0], sums[..., 1])
        return mean if then is None else then(mean)

    return SumMetric(name, better, sums, finish)
