"""What a stream decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionkit.runtime.manifest import Task

Array = np.ndarray[Any, Any]
Label = str | tuple[str, ...] | float


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        time: up to which it saw samples, seconds on the sources' clock.
        number: counts steps from the first one, 0; what was not decided has a number, too.
        answers: by task, probabilities of classes or labels, or a value, smoothed where the stream smooths.
        raw: by task, as the graph gave them.
        label: by task: the class, the labels that are likelier than not, or the value; debounced where the stream
            debounces.
        confidence: by task: probability of the class that is said; of several labels, that of the least certain; NaN
            of a value.
        present: by sensor, whether it was part of it.
        lag: seconds from the arrival of the last sample that it needed to the decision.
    """

    time: float
    number: int
    answers: Mapping[str, Array]
    raw: Mapping[str, Array]
    label: Mapping[str, Label]
    confidence: Mapping[str, float]
    present: Mapping[str, bool]
    lag: float


def name_answer(task: Task, answer: Array) -> tuple[Label, float]:
    """The label of an answer and how sure it is: 0.2 and 0.8 for classes calm and tense are tense, 0.8."""
    if task.outcome == "value":
        return float(answer[0]), float("nan")
    if task.kind == "multi_label":
        named = tuple(one for one, yes in zip(task.classes, answer, strict=True) if yes > 0.5)
        return named, float(np.maximum(answer, 1 - answer).min())
    best = int(answer.argmax())
    return task.classes[best], float(answer[best])
