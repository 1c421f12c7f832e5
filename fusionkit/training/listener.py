"""Whoever wants to see a run while it goes: the command line draws it, tests count it, the default is silent."""

from collections.abc import Mapping


class Listener:
    """Hears what a run does. Every method may be left as it is."""

    def say(self, text: str) -> None:
        """A line for people: a stage begun, a warning."""

    def prepare(self, done: int, total: int, what: str) -> None:
        """Ingestion or features: ``done`` of ``total``."""

    def begin(self, arm: str, fold: int, folds: int, epochs: int) -> None:
        """A training begins."""

    def step(self, epoch: int, step: int, steps: int, records_per_second: float) -> None:
        """A few times a second while training."""

    def epoch(self, entry: Mapping[str, float]) -> None:
        """An epoch is over; what the history says of it."""

    def end(self, arm: str, fold: int, seconds: float) -> None:
        """A training is over."""
