"""What a model must beat: the training prior, and the best of its sensors alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.evaluation.intervals import Interval, bootstrap_all
from fusionkit.evaluation.metric import Better
from fusionkit.evaluation.metrics import known

if TYPE_CHECKING:
    from fusionkit.heads.task import Task


@dataclass(frozen=True)
class BaselineRow:
    """A line of a report: how one way of answering scores on one task.

    Attributes:
        name: ``majority``, ``best single``, a model.
        task: the task's name.
        scores: each metric with its interval.
        records: how many records had a label.
        note: how it came about, where the name does not say.
    """

    name: str
    task: str
    scores: Mapping[str, Interval]
    records: int
    note: str = ""


def baseline_row(
    name: str,
    task_name: str,
    task: "Task",
    prediction: Array,
    target: Array,
    groups: Array,
    *,
    seed: int,
    note: str = "",
) -> BaselineRow:
    """Score one way of answering, with intervals over ``groups``.

    Args:
        name: what the line is called.
        task_name: which task.
        task: says which metrics.
        prediction: as `fusionkit.evaluation.metrics.score` takes it.
        target: likewise.
        groups: as `fusionkit.evaluation.intervals.bootstrap` takes them.
        seed: of the bootstrap.
        note: how it came about.
    """
    scores = bootstrap_all(task, prediction, target, groups, seed=seed)
    return BaselineRow(name, task_name, scores, len(known(prediction, target)[1]), note)


def majority(task: "Task", records: int) -> Array:
    """The training prior as the answer for every record: the most frequent class, or the mean of a number.

    Training shares 3/4 and 1/4 give (0.75, 0.25) for each record, in the form that
    `fusionkit.evaluation.metrics.score` takes.
    """
    prior = np.asarray(task.prior(), dtype=np.float64)
    row = prior if task.outcome == "value" else np.exp(prior)
    return np.repeat(row[None], records, axis=0)


def choose_best_single(validation: Mapping[str, float], better: Better = "higher") -> str:
    """The sensor that scores best alone on validation records; the test records have no say.

    The first of equals wins; a sensor without a score (nan) loses to any other.

    Raises:
        DataError: there is no sensor.
    """
    if not validation:
        raise DataError("the best single sensor must be one of some, but got none")
    sign = 1 if better == "higher" else -1
    return max(validation, key=lambda name: -math.inf if math.isnan(validation[name]) else sign * validation[name])
