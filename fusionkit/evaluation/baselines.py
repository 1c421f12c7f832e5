"""What a model must beat: the training prior, and the best of its sensors alone."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Better
from fusionkit.evaluation.predict import prediction

if TYPE_CHECKING:
    from fusionkit.heads.task import Task


def majority(task: "Task", records: int) -> Array:
    """The training prior as the answer for every record: the most frequent class, or the mean of a number.

    Training shares 3/4 and 1/4 give (0.75, 0.25) for each record, in the form that
    `fusionkit.evaluation.metrics.score` takes.
    """
    row = prediction(task, np.asarray(task.prior(), dtype=np.float64)[None])
    return np.repeat(row, records, axis=0)


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
