"""What is fitted to answers about groups put aside: a temperature, and the bars of sets of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fusionkit.core.recording import Array
from fusionkit.evaluation.conformal import ConformalSets, Kind, calibrate
from fusionkit.evaluation.formula import LEAST
from fusionkit.evaluation.temperature import fit_temperature, temper
from fusionkit.heads.task import Task


@dataclass(frozen=True)
class Recalibration:
    """How a model's probabilities of one task are mended.

    Attributes:
        temperature: above 1 the model was too sure.
        sets: sets of classes at that temperature, by kind and level.
    """

    temperature: float
    sets: dict[tuple[Kind, float], ConformalSets]

    def __call__(self, probabilities: Float[np.ndarray, "record class_"]) -> Array:
        """Probabilities at the temperature."""
        return temper(logarithms(probabilities), self.temperature)


def recalibrate(
    probabilities: Float[np.ndarray, "record class_"],
    target: Float[np.ndarray, " record"],
    *,
    kinds: Sequence[Kind],
    levels: Sequence[float],
    temperature: float | None = None,
) -> Recalibration:
    """Fit a temperature, and sets to what it leaves.

    Two records answered at 0.9, one of them wrong: T = 20, and both are answered next to evenly.

    Args:
        probabilities: of records that neither training nor early stopping has seen.
        target: their classes; missing ones (nan) are left out.
        kinds: of sets.
        levels: shares of sets that shall hold the right class.
        temperature: one that is known already.

    Raises:
        ConfigError: as `fusionkit.evaluation.conformal.calibrate`.
        DataError: no record is labelled.
    """
    if temperature is None:
        temperature = fit_temperature(logarithms(probabilities), target)
    mended = temper(logarithms(probabilities), temperature)
    sets = {(kind, level): calibrate(kind, mended, target, level=level) for kind in kinds for level in levels}
    return Recalibration(temperature, sets)


def can_be_recalibrated(task: Task) -> bool:
    """Whether a task is answered by the probabilities of one of several classes."""
    return task.outcome == "probabilities" and task.kind != "multi_label"


def logarithms(probabilities: Array) -> Array:
    """Of probabilities; 0 counts as 1e-12."""
    return np.asarray(np.log(np.maximum(probabilities, LEAST)))
