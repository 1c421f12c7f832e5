"""Labels that do not flicker: a new one must last before it is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Task
from fusionkit.runtime.stream.decision import Label, name_answer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Debounce:
    """When a label may change to another one.

    The other class must have been the likeliest in ``count`` decisions in a row, in each of them by more than
    ``margin`` over the label that is said, which must have been said for ``hold`` seconds. Under ``count=2``, classes
    a, b, a, b, b, a are said as a, a, a, a, b, b. Under ``margin=0.2``, probabilities 0.45 and 0.55 leave a label as it
    is, and 0.35 and 0.65 change it. Each of several labels changes between yes and no by itself, in the same way; values are not
    debounced. The first label is said at once.

    Args:
        count: decisions in a row, 1 or more.
        margin: by how much more probable, from 0 to 1.
        hold: seconds that a label stays at least.
    """

    count: int = 1
    margin: float = 0.0
    hold: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.margin < 1 or not 0 <= self.hold < np.inf:
            raise BundleError(
                "debouncing must have a count of 1 or more, a margin from 0 to below 1 and a hold of 0 s or more, "
                f"but got {self.count}, {self.margin:g} and {self.hold:g} s"
            )


class Debouncer:
    """Says the labels of every task.

    Args:
        options: when they may change; None: at once.
        tasks: what the manifest says of them.
    """

    def __init__(self, options: Debounce | None, tasks: Mapping[str, Task]) -> None:
        self._options = options
        self._tasks = tasks
        self._states: dict[tuple[str, int], _State] = {}

    def push(self, time: float, answers: Mapping[str, Array]) -> tuple[dict[str, Label], dict[str, float]]:
        """Labels and how sure they are, of the answers at a time."""
        labels: dict[str, Label] = {}
        sure: dict[str, float] = {}
        for name, answer in answers.items():
            task = self._tasks[name]
            if self._options is None or task.outcome == "value":
                labels[name], sure[name] = name_answer(task, answer)
            elif task.kind == "multi_label":
                said = [self._say((name, one), time, np.array([1 - yes, yes])) for one, yes in enumerate(answer)]
                labels[name] = tuple(label for label, yes in zip(task.classes, said, strict=True) if yes)
                sure[name] = min(float(p if yes else 1 - p) for p, yes in zip(answer, said, strict=True))
            else:
                best = self._say((name, 0), time, answer)
                labels[name], sure[name] = task.classes[best], float(answer[best])
        return labels, sure

    def _say(self, key: tuple[str, int], time: float, answer: Array) -> int:
        """Which of several classes is said."""
        assert self._options is not None
        best = int(answer.argmax())
        state = self._states.get(key)
        if state is None:
            self._states[key] = _State(best, time)
            return best
        wins = best != state.said and answer[best] - answer[state.said] > self._options.margin
        state.wins = (state.wins + 1 if best == state.rival else 1) if wins else 0
        state.rival = best
        if state.wins >= self._options.count and time - state.since >= self._options.hold - 1e-9:
            self._states[key] = _State(best, time)
            return best
        return state.said


@dataclass
class _State:
    """What is said since when, and who has won how often in a row since."""

    said: int
    since: float
    rival: int = -1
    wins: int = 0
