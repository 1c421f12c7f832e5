"""Records of a stored trial: the trial as it is, or windows that refer into it."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fusionkit.core.errors import ConfigError
from fusionkit.data.sources.source import Row


class Stretch(NamedTuple):
    """Seconds of a record within its stored recording; None is the very start or end."""

    start: float | None = None
    stop: float | None = None


class Cutting(NamedTuple):
    """How trials are cut into records.

    Attributes:
        window: seconds of a record; None: a trial is one record.
        step: seconds from one record's start to the next one's.
    """

    window: float | None
    step: float | None

    @classmethod
    def of(cls, window: float | None, step: float | None) -> "Cutting":
        """Check the options; without a ``step`` windows follow one another.

        Raises:
            ConfigError: there is a step, but no window.
        """
        if window is None and step is not None:
            raise ConfigError(f"step is from window to window, but there is no window (step is {step:g} s)")
        return cls(window, window if step is None else step)

    def stretches(self, seconds: float, first: float = 0.0) -> list[Stretch]:
        """Where records lie in a recording of ``seconds``, none before ``first``; what is left at the end is in none.

        10 s in windows of 4 s every 2 s are 0-4, 2-6, 4-8 and 6-10.
        """
        if self.window is None or self.step is None:
            return [Stretch(first or None)]
        count = math.floor((seconds - first - self.window) / self.step + 1e-6) + 1
        starts = (first + number * self.step for number in range(count))
        return [Stretch(start, start + self.window) for start in starts]


def rows_of_trial(
    subject: str,
    session: str,
    trial: str,
    stretches: list[Stretch],
    labels: Mapping[str, str | None],
    *,
    whole: bool,
    part: str = "",
) -> Iterator[Row]:
    """A row per record of one trial, named ``<subject>_<session>_<trial>``, and ``_<window>`` from 1 unless ``whole``.

    The names of subject, session and trial are label columns, too. Where a trial has several recordings, ``part`` is
    what follows its name in theirs.
    """
    name = f"{subject}_{session}_{trial}{part}"
    named = {"subject": subject, "session": session, "trial": trial, **labels}
    for number in range(1, len(stretches) + 1):
        id = name if whole else f"{name}_{number}"
        yield Row(id, subject, session, trial, f"{trial}{part}", {"id": id, **named})
