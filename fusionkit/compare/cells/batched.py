"""Cells of one strategy trained together in this process where that is faster; the others by another executor."""

import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from fusionkit.compare.cells.cell import LOCK, LOG, Cell, Ended, run_cell, write_ended
from fusionkit.compare.cells.executor import Executor, Log
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.engine import Engine
from fusionkit.training.ensemble import Misfit, misfit, train_together
from fusionkit.training.interruption import Interrupted, StopRequest

MOST = 32
"""Models at once: more gain nothing and take memory."""
POLL_SECONDS = 0.2


class BatchedExecutor(Executor):
    """Trains the folds and seeds of a strategy together, see `fusionkit.training.ensemble`.

    Each keeps a folder as if it had been trained alone, with weights that differ by rounding. What cannot be trained
    together, or is alone of its kind, goes to the other executor, and so does what failed, from its last checkpoint.

    Args:
        other: trains what is left.
        say: hears which cells are trained together and how many times faster their gradients were found than one
            after another, or why they are not.
    """

    def __init__(self, other: Executor, say: Callable[[str], None]) -> None:
        self.other, self.say = other, say

    def run(self, cells: Sequence[Cell]) -> Generator[Ended | None]:
        """As `Executor.run`."""
        kinds: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            kinds[_kind(cell)].append(cell)
        trained: set[str] = set()
        for alike in kinds.values():
            parts = [alike[start : start + MOST] for start in range(0, len(alike), MOST)]
            for part in parts if len(alike) > 1 else ():
                lesson = _Lesson(part, self.say)
                lesson.start()
                try:
                    while lesson.is_alive():
                        lesson.join(POLL_SECONDS)
                        yield None
                finally:
                    lesson.stop.signal = lesson.stop.signal or 15
                    lesson.join()
                trained |= {one.key for one in lesson.ended}
                yield from lesson.ended
        rest = [cell for cell in cells if cell.key not in trained]
        if rest:
            yield from self.other.run(rest)


def _kind(cell: Cell) -> str:
    """The cell's recipe but for its seed and its folder."""
    recipe = parse_recipe(cell.recipe, f"cell {cell.key}")
    return dump_recipe(replace(recipe, seed=0, run=recipe.run.model_copy(update={"dir": ""})))


class _Lesson(threading.Thread):
    """Takes cells to where their training would begin, trains them together, and lets each end as it does alone.

    Every cell has a thread of its own, but only one of all runs at a time, so that none disturbs another's random
    numbers.

    Args:
        cells: of one kind.
        say: see `BatchedExecutor`.
    """

    def __init__(self, cells: Sequence[Cell], say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.cells, self.say = cells, say
        self.stop = StopRequest()
        self.ended: list[Ended] = []

    def run(self) -> None:
        """Train what can be trained together."""
        pupils: list[_Pupil] = []
        problem = None
        for cell in self.cells:
            pupils.append(_Pupil(cell))
            pupils[-1].go()
            engine = pupils[-1].engine
            problem = None if engine is None else misfit([engine])
            if problem is not None or self.stop:
                break
        label = self.cells[0].strategy
        if problem is not None:
            self.say(f"{label}: one after another, for {problem}")
        sizes: dict[int, list[_Pupil]] = defaultdict(list)
        for pupil in pupils:
            if pupil.engine is not None:
                sizes[len(pupil.engine.rows)].append(pupil)
        alone = sum(len(alike) == 1 for alike in sizes.values())
        if problem is None and not self.stop and alone:
            self.say(f"{label}: {alone} alone, for no other has as many records to learn from")
        for alike in sizes.values():
            if problem is None and not self.stop and len(alike) > 1:
                self._train(label, alike)
            for pupil in alike:
                pupil.go()
        self.ended += [pupil.ended for pupil in pupils if pupil.ended is not None]

    def _train(self, label: str, pupils: "Sequence[_Pupil]") -> None:
        engines = [pupil.engine for pupil in pupils if pupil.engine is not None]
        began = time.monotonic()
        try:
            gain = train_together(engines, stop=self.stop)
        except Misfit as reason:
            self.say(f"{label}: one after another, for {reason}")
        except Interrupted:
            pass
        except Exception as error:  # noqa: BLE001 - each comes to it again, alone and with its name
            self.say(f"{label}: one after another, for together they ended with {' '.join(str(error).split())}")
        else:
            for pupil in pupils:
                pupil.trained, pupil.share = True, (time.monotonic() - began) / len(pupils)
            self.say(f"{label}: {len(engines)} trained together, gradients {gain:.1f} times faster than one by one")


class _Left(BaseException):
    """A cell is not trained here."""


class _Pupil(threading.Thread):
    """One cell in a thread that runs from `go` until the next training begins, or to its end.

    Attributes:
        engine: what waits to be trained; None before and after.
        trained: whether it has been.
        share: seconds of the training together that count as its own.
        ended: how the cell ended; None where it is left to others.
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__(daemon=True)
        self.cell = cell
        self.engine: Engine | None = None
        self.trained = False
        self.share = 0.0
        self.ended: Ended | None = None
        self._waited = 0.0
        self._mine, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def go(self) -> None:
        """Let it run, and wait until it waits or has ended."""
        if self.ident is None:
            self.start()
        self._mine.release()
        self._back.acquire()

    def run(self) -> None:
        """Train the cell."""
        folder = Path(self.cell.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._mine.acquire()
        with open(folder / LOG, "a", buffering=1, encoding="utf-8") as log:
            cell = self.cell
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {cell.strategy}, fold {cell.fold}, seed {cell.seed}", file=log)
            try:
                with FileLock(folder / LOCK, timeout=0):
                    ended = run_cell(cell, Log(log), self._wait)
                    ended = replace(ended, seconds=max(0.0, ended.seconds - self._waited + self.share))
                    write_ended(cell, ended)
                    self.ended = ended
            except _Left:
                print("not trained together", file=log)
            except Timeout:
                print("another process is at it", file=log)
            except Exception:  # noqa: BLE001 - the other executor tries it again, and says what is wrong
                traceback.print_exc(file=log)
            finally:
                self.engine = None
                self._back.release()

    def _wait(self, engine: Engine) -> None:
        self.engine, began = engine, time.monotonic()
        self._back.release()
        self._mine.acquire()
        self.engine, self._waited = None, time.monotonic() - began
        if not self.trained:
            raise _Left
