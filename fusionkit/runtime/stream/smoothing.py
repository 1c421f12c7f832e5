"""Averages over decisions: steadier answers that come a little later."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MovingAverage:
    """The mean answer of the last ``decisions`` steps; fewer at first, and where some were not decided.

    Probabilities 0.2, 0.4, 0.9 under ``decisions=2`` become 0.2, 0.3, 0.65. A change is seen half a decision's worth
    for every decision averaged later.

    Args:
        decisions: how many steps are averaged, 1 or more.
    """

    decisions: int = 5

    def __post_init__(self) -> None:
        if self.decisions < 1:
            raise BundleError(f"a moving average must be over 1 decision or more, but got {self.decisions}")


@dataclass(frozen=True)
class Exponential:
    r"""A mean that forgets: :math:`s \leftarrow s + a (p - s)`, with the first answer to begin with.

    Probabilities 0.2, 0.6, 0.6 under ``share=0.5`` become 0.2, 0.4, 0.5. A step that was not decided lets what was
    before fade as well: after :math:`n` steps the new answer counts :math:`1 - (1 - a)^n`.

    Args:
        share: :math:`a`, of the newest answer, above 0 to 1.
    """

    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BundleError(f"the share of the newest answer must be above 0 and at most 1, but got {self.share:g}")


Smoothing = MovingAverage | Exponential


class Smoother:
    """Smooths the answers of every task by itself.

    Args:
        options: how; None leaves answers as they are.
    """

    def __init__(self, options: Smoothing | None) -> None:
        self._options = options
        self._past: deque[tuple[int, Mapping[str, Array]]] = deque()
        self._state: tuple[int, dict[str, Array]] | None = None

    def push(self, number: int, answers: Mapping[str, Array]) -> Mapping[str, Array]:
        """Smooth the answers of the decision of a number, which is larger than the one before."""
        options = self._options
        if options is None:
            return answers
        if isinstance(options, MovingAverage):
            self._past.append((number, answers))
            while self._past[0][0] <= number - options.decisions:
                self._past.popleft()
            return {task: np.mean([past[task] for _, past in self._past], axis=0) for task in answers}
        if self._state is None:
            smooth = dict(answers)
        else:
            last, old = self._state
            share = 1 - (1 - options.share) ** (number - last)
            smooth = {task: old[task] + share * (answers[task] - old[task]) for task in answers}
        self._state = number, smooth
        return smooth
