"""What a run's calibration groups say of its probabilities, for the manifest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fusionkit.core.modality import Array
from fusionkit.data.split_options import CALIBRATION
from fusionkit.evaluation.predict import prediction
from fusionkit.evaluation.recalibration import Recalibration, can_be_recalibrated, recalibrate
from fusionkit.heads.task import Task
from fusionkit.training.fold import FoldResult

LEVELS = (0.8, 0.9, 0.95)
"""Shares of sets that shall hold the right class."""


def calibrate_tasks(
    tasks: Mapping[str, Task],
    result: FoldResult,
    targets: Mapping[str, Array],
    answers: Mapping[str, Array] | None = None,
) -> dict[str, Recalibration]:
    """Temperature and sets of every task of classes, from the groups that the fold put aside (``data.split.calibration``).

    Args:
        tasks: of the run, fitted.
        result: of the fold.
        targets: of all records.
        answers: predictions of those groups' records, where another graph than the fold's model will be asked.

    Returns:
        By task; those without a labelled record put aside are left out.
    """
    found = put_aside(tasks, result, targets, answers)
    return {name: recalibrate(*answered, kinds=("lac",), levels=LEVELS) for name, answered in found.items()}


def put_aside(
    tasks: Mapping[str, Task],
    result: FoldResult,
    targets: Mapping[str, Array],
    answers: Mapping[str, Array] | None = None,
) -> dict[str, tuple[Array, Array]]:
    """Probabilities and classes of the calibration groups, as `calibrate_tasks` takes them."""
    found = {}
    for name, task in tasks.items():
        if CALIBRATION not in result.rows or not can_be_recalibrated(task):
            continue
        target = targets[name][result.rows[CALIBRATION]]
        if not np.isnan(target).all():
            said = prediction(task, result.decisions[CALIBRATION]["all"][name]) if answers is None else answers[name]
            found[name] = said, target
    return found


def describe_calibration(fitted: Recalibration) -> dict[str, Any]:
    """As the manifest says it: a bar of infinity, where records are too few for the level, is null."""
    bars = {f"{level:g}": one.threshold for (_, level), one in fitted.sets.items()}
    return {
        "temperature": fitted.temperature,
        "conformal": {level: bar if np.isfinite(bar) else None for level, bar in bars.items()},
    }
