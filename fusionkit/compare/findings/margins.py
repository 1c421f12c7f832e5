"""Which differences do not matter, task by task: a score's hundredth, a number's in its own unit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusionkit.core.errors import ConfigError, UnknownNameError

USUAL = 0.01


@dataclass(frozen=True)
class Margins:
    """Half the region of practical equivalence of every task.

    Attributes:
        common: of tasks that are not named.
        named: of the others.
    """

    common: float
    named: Mapping[str, float]

    def of(self, task: str) -> float:
        """That of one task."""
        return self.named.get(task, self.common)

    def check(self, tasks: Iterable[str]) -> None:
        """Refuse a margin of a task that is none.

        Raises:
            UnknownNameError: there is no such task.
        """
        known = list(tasks)
        for name in self.named:
            if name not in known:
                raise UnknownNameError("task", name, known)


def parse_margins(words: Sequence[str]) -> Margins:
    """Read ``--rope 0.02 --rope intensity=0.1``: one for all tasks, and some of their own.

    Raises:
        ConfigError: a margin is no number above 0, or there are two of a task or of all.
    """
    found: dict[str, float] = {}
    for word in words:
        task, _, text = word.rpartition("=")
        if task in found:
            raise ConfigError(f"--rope must be given once for {task or 'all tasks'}, but got {word!r}, too")
        try:
            found[task] = float(text)
        except ValueError:
            raise ConfigError(f"--rope must be a number or TASK=NUMBER, but got {word!r}") from None
        check_margin(found[task])
    return Margins(found.pop("", USUAL), found)


def check_margin(margin: float) -> None:
    """Refuse a margin that no difference is within.

    Raises:
        ConfigError: it is not above 0.
    """
    if not 0 < margin < np.inf:
        raise ConfigError(f"--rope must be a number above 0, but got {margin:g}")
