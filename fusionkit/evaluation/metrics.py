"""Which metrics each kind of task is scored with, and their definitions."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from fusionkit.core.errors import DataError, ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.auroc import Auroc
from fusionkit.evaluation.calibration import calibration_error, calibration_sums
from fusionkit.evaluation.formula import (
    accuracy,
    balanced_accuracy,
    brier,
    confusion_sums,
    correlation,
    determination,
    error_sums,
    joint_sums,
    label_f1,
    label_sums,
    macro_f1,
    negative_log_likelihood,
    of_confusion,
    of_mean,
    ordinal_error,
    quadratic_kappa,
    subset_right,
)
from fusionkit.evaluation.metric import Metric, SumMetric

if TYPE_CHECKING:
    from fusionkit.heads.task import Task


CLASSIFICATION: tuple[Metric, ...] = (
    of_confusion("accuracy", "higher", accuracy),
    of_confusion("balanced_accuracy", "higher", balanced_accuracy),
    of_confusion("macro_f1", "higher", macro_f1),
    Auroc(),
    SumMetric("ece", "lower", calibration_sums, calibration_error),
    of_mean("nll", "lower", negative_log_likelihood),
    of_mean("brier", "lower", brier),
)
ORDINAL: tuple[Metric, ...] = (
    of_confusion("mae", "lower", ordinal_error),
    of_confusion("quadratic_kappa", "higher", quadratic_kappa),
    *CLASSIFICATION,
)
MULTI_LABEL: tuple[Metric, ...] = (
    SumMetric("macro_f1", "higher", label_sums, label_f1),
    of_mean("subset_accuracy", "higher", subset_right),
    Auroc(),
)
REGRESSION: tuple[Metric, ...] = (
    of_mean("mae", "lower", lambda prediction, target: np.abs(prediction - target)),
    of_mean("rmse", "lower", lambda prediction, target: (prediction - target) ** 2, np.sqrt),
    SumMetric("r2", "higher", error_sums, determination),
    SumMetric("pearson", "higher", joint_sums, correlation),
)


def score(task: "Task", prediction: Array, target: Array) -> dict[str, float]:
    """Every metric of a task.

    Args:
        task: says which metrics.
        prediction: probabilities ``(record, class)``, for multi-label tasks ``(record, label, 2)`` (no, yes), or
            values ``(record,)`` or ``(record, 1)``: a decision row with its logarithm taken off.
        target: as `fusionkit.heads.task.Task.encode` makes them; records with a missing one are left out.

    Raises:
        DataError: a prediction is not finite or no probability, or a target is no class.
        ShapeError: predictions and targets do not fit together.
    """
    prediction, target, _ = known(prediction, target)
    return {name: metric(prediction, target) for name, metric in metrics_of(task).items()}


def metrics_of(task: "Task") -> dict[str, Metric]:
    """The metrics of a task by name, the most telling one first (see `primary_metric`)."""
    by_kind = {"ordinal": ORDINAL, "multi_label": MULTI_LABEL}
    metrics = by_kind.get(task.kind, REGRESSION if task.outcome == "value" else CLASSIFICATION)
    return {metric.name: metric for metric in metrics}


def primary_metric(task: "Task") -> Metric:
    """The one metric to choose by, with its ``name`` and which direction is ``better``.

    Accuracy of classes, mean absolute error of ordered classes and of numbers, macro F1 of labels.
    """
    return next(iter(metrics_of(task).values()))


def known(prediction: Array, target: Array) -> tuple[Array, Array, Array]:
    """Check predictions, leave out records with a missing target, and say which are left.

    Raises:
        DataError: as `score`.
        ShapeError: as `score`.
    """
    prediction, target = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if prediction.ndim == 2 and prediction.shape[1] == 1:
        prediction = prediction[:, 0]
    fits = prediction.shape[:1] == target.shape[:1] and prediction.ndim in (1, 2, 3)
    if not fits or target.shape[1:] != (prediction.shape[1:2] if prediction.ndim == 3 else ()):
        raise ShapeError(f"predictions must fit targets, but got {prediction.shape} and {target.shape}")
    keep = ~np.isnan(target).any(axis=tuple(range(1, target.ndim)))
    prediction, target = prediction[keep], target[keep]
    wrong = ~np.isfinite(prediction).all(axis=tuple(range(1, prediction.ndim)))
    if wrong.any():
        row = int(np.flatnonzero(keep)[wrong.argmax()])
        raise DataError(f"predictions must be finite, but record {row} has {prediction[wrong.argmax()].tolist()}")
    if prediction.ndim > 1:
        off = prediction[(prediction < 0) | (prediction > 1 + 1e-6)]
        if off.size:
            raise DataError(f"probabilities must be between 0 and 1 (no logarithms), but got {off[0]:g}")
        classes = 2 if prediction.ndim == 3 else prediction.shape[1]
        if not np.isin(target, np.arange(classes)).all():
            raise DataError(f"targets must be class numbers below {classes}, but got {sorted(set(target.flat))[:9]}")
    return prediction, target, keep


def confusion_matrix(prediction: Array, target: Array) -> Int[np.ndarray, "class_ class_"]:
    """Counts of records by right class (row) and answered class (column).

    Right 0, 0, 1 answered 0, 1, 1 gives [[1, 1], [0, 1]].
    """
    prediction, target, _ = known(prediction, target)
    counts = confusion_sums(prediction, target, np.zeros(len(target), dtype=np.int64), 1)
    return counts.reshape(prediction.shape[1], -1).astype(np.int64)
