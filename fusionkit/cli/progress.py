"""How a run is shown while it goes: bars on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fusionkit.training.listener import Listener


class Bars(Listener):
    """Rich bars with throughput and time to go; use as a context manager.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._prepare: dict[str, Any] = {}
        self._training: Any = None
        self._epochs, self._speed = 1, 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._bars.console.print(text)

    def prepare(self, done: int, total: int, what: str) -> None:
        if what not in self._prepare:
            self._prepare[what] = self._bars.add_task(what, total=total, note="")
        self._bars.update(self._prepare[what], completed=done, total=total)

    def begin(self, arm: str, fold: int, folds: int, epochs: int) -> None:
        self._epochs = epochs
        self._training = self._bars.add_task(f"fold {fold + 1}/{folds} {arm}", total=epochs, note="")

    def step(self, epoch: int, step: int, steps: int, records_per_second: float) -> None:
        self._speed = records_per_second
        self._bars.update(self._training, completed=epoch + step / steps, note=f"{records_per_second:,.0f} records/s")

    def epoch(self, entry: Mapping[str, float]) -> None:
        note = f"loss {entry['loss']:.3f}"
        if "validation_loss" in entry:
            note += f", validation {entry['validation_loss']:.3f}"
        self._bars.update(self._training, completed=entry["epoch"] + 1, note=f"{note}, {self._speed:,.0f} records/s")

    def end(self, arm: str, fold: int, seconds: float) -> None:
        self._bars.update(self._training, completed=self._epochs)

    def cells(self, done: int, total: int, left: float) -> None:
        """Trainings of a comparison, and the seconds that the rest may take."""
        self.prepare(done, total, "trainings")
        self._bars.update(self._prepare["trainings"], note=_left(left))


class Lines(Listener):
    """A line now and then, with time to go, for logs.

    Args:
        console: where to.
        every: least seconds between two lines of one training.
    """

    def __init__(self, console: Console, every: float = 10.0) -> None:
        self._console, self._every = console, every
        self._label, self._epochs, self._began, self._said, self._speed = "", 1, 0.0, 0.0, 0.0
        self._prepared: set[str] = set()
        self._cells = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def say(self, text: str) -> None:
        self._console.print(text)

    def prepare(self, done: int, total: int, what: str) -> None:
        if done >= total and what not in self._prepared:
            self._prepared.add(what)
            self._console.print(f"{what}: {total} done")

    def begin(self, arm: str, fold: int, folds: int, epochs: int) -> None:
        self._label, self._epochs = f"fold {fold + 1}/{folds} {arm}", epochs
        self._began = self._said = time.monotonic()

    def step(self, epoch: int, step: int, steps: int, records_per_second: float) -> None:
        self._speed = records_per_second

    def epoch(self, entry: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        done = entry["epoch"] + 1
        left = (now - self._began) / done * (self._epochs - done)
        validation = f", validation {entry['validation_loss']:.3f}" if "validation_loss" in entry else ""
        self._console.print(
            f"{self._label}: epoch {done:.0f}/{self._epochs}, loss {entry['loss']:.3f}{validation}, "
            f"{self._speed:,.0f} records/s, at most {left:.0f} s left"
        )

    def end(self, arm: str, fold: int, seconds: float) -> None:
        self._console.print(f"{self._label}: done in {seconds:.1f} s")

    def cells(self, done: int, total: int, left: float) -> None:
        """Trainings of a comparison, and the seconds that the rest may take."""
        now = time.monotonic()
        if done < total and (now - self._said < self._every or done == self._cells):
            return
        self._said, self._cells = now, done
        self._console.print(f"trainings: {done} of {total} done, {_left(left)}")


def watch(console: Console) -> Bars | Lines:
    """Bars on a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)


def _left(seconds: float) -> str:
    """About how long the rest takes; nothing yet where none is done."""
    if math.isnan(seconds):
        return "no estimate yet"
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes} min {rest} s left" if minutes else f"about {rest} s left"
