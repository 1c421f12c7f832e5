"""Who trains the cells: processes of this machine, each with one thread; a lost one is replaced and its cell tried again."""

import os
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TextIO

from filelock import FileLock

from fusionkit.compare.cells.cell import LOCK, LOG, Cell, Ended, read_ended, run_cell, write_ended
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener

TRIES = 3
POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0


class Executor(ABC):
    """Trains cells somewhere, in any order."""

    @abstractmethod
    def run(self, cells: Sequence[Cell]) -> Generator[Ended | None]:
        """Yield how each cell ended, as it ends; and None now and then, so that whoever waits may look up.

        A cell whose process dies, or whose training raises what is no mistake of the user's, is tried three times in
        all; then it ends with that problem. Leaving the iterator stops what still runs, which saves itself first.
        """


class LocalExecutor(Executor):
    """Processes of this machine.

    Args:
        jobs: how many at once; each has one thread.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, cells: Sequence[Cell]) -> Generator[Ended | None]:
        """As `Executor.run`."""
        waiting, tries = deque(cells), {cell.key: 0 for cell in cells}
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.cell for worker in workers):
                while waiting and len(workers) < min(self.jobs, len(cells)):
                    workers.append(_Worker())
                for worker in workers:
                    if worker.cell is None and waiting:
                        cell = waiting.popleft()
                        tries[cell.key] += 1
                        worker.give(cell)
                for worker in list(_ready(workers)):
                    had, answer = worker.take()
                    if worker.lost:
                        workers.remove(worker)
                    if isinstance(answer, Ended):
                        yield answer
                    elif had is not None and tries[had.key] < TRIES:
                        waiting.append(had)
                    elif had is not None:
                        yield give_up(had, f"{answer}, {TRIES} times")
                yield None
        finally:
            _stop(workers)


class _Worker:
    """One process, and the cell that it has."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.cell: Cell | None = None
        self.lost = False
        self.process.start()
        theirs.close()

    def give(self, cell: Cell) -> None:
        self.cell = cell
        with suppress(OSError):  # it died while it waited: `take` finds out
            self.pipe.send(cell)

    def take(self) -> tuple[Cell | None, Ended | str]:
        """The cell that it had, and how that ended; or in words what went wrong."""
        cell, self.cell = self.cell, None
        try:
            answer: Ended | str = self.pipe.recv()
        except (EOFError, OSError):
            self.lost = True
            self.process.join(GRACE_SECONDS)
            answer = f"the process died ({_cause(self.process.exitcode)})"
        return cell, answer


def _ready(workers: Sequence[_Worker]) -> Iterator[_Worker]:
    """Workers that have something to say, or are dead."""
    found = wait([worker.pipe for worker in workers], POLL_SECONDS)
    yield from (worker for worker in workers if worker.pipe in found)


def _stop(workers: Sequence[_Worker]) -> None:
    """Ask all to save themselves and leave; kill what does not."""
    for worker in workers:
        worker.process.terminate()
    limit = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, limit - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """Train one cell after another; what they print goes to their logs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    while True:
        try:
            cell: Cell = pipe.recv()
        except (EOFError, OSError):
            return
        folder = Path(cell.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOG, "a", buffering=1, encoding="utf-8") as log:
            _print_to(log.fileno())
            try:
                answer = attempt(cell)
            except Interrupted:
                return
            sys.stdout.flush()
        try:
            pipe.send(answer)
        except OSError:
            return


def _follow_parent() -> None:
    """Save and leave when the process that gives cells is gone: whoever resumes trains them."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def attempt(cell: Cell) -> Ended | str:
    """Train a cell in this process, on one thread, and print how it goes; in words what went wrong, where it may be tried again.

    One that another process is at, whose comparison was killed or whose scheduler gave it up, is waited for.

    Raises:
        Interrupted: a stop was asked for; what is trained is saved.
    """
    import torch

    torch.set_num_threads(1)  # the cell before may have had others
    try:
        with FileLock(Path(cell.folder) / LOCK):
            found = read_ended(cell)
            if found is not None and not found.problem and cell.asked:
                return found
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {cell.strategy}, fold {cell.fold}, seed {cell.seed}")
            return run_cell(cell, Log())
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours, or of the machine (no memory): tried again
        traceback.print_exc()
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def give_up(cell: Cell, problem: str) -> Ended:
    """The end of a cell that failed whenever it was tried; it is kept."""
    ended = Ended(cell.key, "", f"{problem}; see {Path(cell.folder) / LOG}", 0.0)
    write_ended(cell, ended)
    return ended


def _print_to(descriptor: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())


class Log(Listener):
    """Every line goes to the cell's log.

    Args:
        log: the file; None is what the process prints to.
    """

    def __init__(self, log: TextIO | None = None) -> None:
        self.log = log

    def say(self, text: str) -> None:
        print(text, file=self.log)

    def end(self, arm: str, fold: int, seconds: float) -> None:
        print(f"trained in {seconds:.1f} s", file=self.log)
