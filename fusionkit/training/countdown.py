"""Lines of progress for long work that is no training of a run: how much is done, and how long the rest takes."""

import time
from collections.abc import Callable


class Countdown:
    """Says now and then how far something is; call it as often as you like.

    30 of 40 parts after 60 s leave about 20 s.

    Args:
        say: takes a line.
        what: is counted.
        every: least seconds between two lines; what takes less says nothing.
    """

    def __init__(self, say: Callable[[str], None], what: str, every: float = 10.0) -> None:
        self._say, self._what, self._every = say, what, every
        self._began = self._said = time.monotonic()

    def __call__(self, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._said < self._every or not 0 < done < total:
            return
        self._said = now
        left = (now - self._began) / done * (total - done)
        self._say(f"{self._what}: {done:.0f} of {total:.0f}, about {left:.0f} s left")
