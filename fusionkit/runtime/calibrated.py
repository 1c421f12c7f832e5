"""Probabilities as sure as they are right, and sets of classes, as the calibration groups of the run say."""

from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Task

Array = np.ndarray[Any, Any]

LEAST = 1e-12
"""A probability of 0 counts as so much."""
ROUNDING = 1e-6
"""A bar lies on a calibration record's probability, which the graph gives in float32."""


def temper(probabilities: Array, temperature: float) -> Array:
    r"""Probabilities ``(batch, class)`` at a temperature: :math:`\mathrm{softmax}(\log p / T)`, float32.

    Of (0.9, 0.1) at 2, (0.75, 0.25): logarithms halved are square roots, and 3 to 1 is what 9 to 1 becomes. Which class
    is answered never changes.

    Reference:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    rows = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST)) / temperature
    raised = np.exp(rows - rows.max(-1, keepdims=True))
    shares: Array = (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
    return shares


def calibrate(name: str, task: Task, answers: Array) -> Array:
    """A task's answers at its temperature; values, and labels that do not exclude each other, stay as they are.

    Raises:
        BundleError: the manifest has no temperature of a task of classes.
    """
    check_calibrated(name, task)
    return answers if task.temperature is None else temper(answers, task.temperature)


def check_calibrated(name: str, task: Task) -> None:
    """Whether a task's answers can be calibrated, or stay as they are.

    Raises:
        BundleError: the manifest has no temperature of a task of classes.
    """
    if task.outcome != "value" and task.kind != "multi_label" and task.temperature is None:
        raise BundleError(
            f"{name}: calibrated answers need a temperature, but the run put no calibration groups aside "
            f"(data.split.calibration)"
        )


def conformal_sets(name: str, task: Task, probabilities: Array, coverage: float) -> Array:
    """Which classes ``(batch, class)`` are in the set of each window: those not too strange for that coverage.

    Strangeness is 1 less the probability. A bar of 0.4 leaves the classes of at least 0.6; a bar of null (calibration
    records too few for the coverage) leaves all.

    Args:
        name: of the task.
        task: what the manifest says of it.
        probabilities: calibrated, ``(batch, class)``.
        coverage: share of sets that shall hold the right class.

    Raises:
        BundleError: the manifest has no bar for the task and the coverage.

    Reference:
        Sadinle, Lei, Wasserman, Least Ambiguous Set-Valued Classifiers, JASA 2019.
    """
    key = next((key for key in task.conformal if float(key) == coverage), None)
    if key is None:
        raise BundleError(
            f"{name}: sets must be of a coverage in {[float(one) for one in task.conformal]}, but got {coverage:g}"
        )
    bar = task.conformal[key]
    member: Array = 1 - np.asarray(probabilities, np.float64) <= (np.inf if bar is None else bar + ROUNDING)
    return member
