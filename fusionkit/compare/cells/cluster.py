"""Cells trained on many machines: the workers of a Dask scheduler (extra ``cluster``)."""

import importlib
import logging
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusionkit.compare.cells.cell import LOG, Cell, Ended
from fusionkit.compare.cells.executor import POLL_SECONDS, TRIES, Executor, attempt, give_up
from fusionkit.compare.cells.key import code_digest, plugin_digest
from fusionkit.core.errors import ConfigError
from fusionkit.training.device import pick_device

Client = Any
"""A `distributed.Client`; that package is typed in parts."""
Future = Any
"""A `distributed.Future`."""
GPU = "GPU"
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://([^\s/:\[\]]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
CONNECT_SECONDS = 30
PATIENCE_SECONDS = 600.0
_ONE = threading.Lock()
"""Held by the cell that a worker's process trains: torch's seed is the process's."""


class DaskExecutor(Executor):
    """Workers of a running Dask scheduler.

    A worker trains one cell at a time, with one thread. All of them must have this very code and see the folder that
    the comparison is started in under the same path. A cell whose device is CUDA goes only to workers that were
    started with ``--resources GPU=1``. The cell of a worker that is lost goes to another one, unless as many workers
    died of it as the scheduler's ``allowed-failures`` permits (3, beside the first); a cell that raises is tried three
    times in all. Leaving cancels what has not begun; what a worker has begun it trains to the end, where ``--resume``
    finds it. ``train.device=auto`` must mean the same everywhere, or some strategies would be trained at less
    precision than others.

    Tasks are plain text and their answers are numbers and words, but Dask itself pickles what it sends: whoever
    reaches a scheduler may run any code on its workers, and a scheduler or worker any code here. Name only one that is
    yours, and keep it within your own network, or behind ``tls://``.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.
        patience: seconds that there may be no worker.

    Raises:
        ConfigError: that is no address.
    """

    def __init__(self, address: str, *, patience: float = PATIENCE_SECONDS) -> None:
        found = ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found["port"]) < 2**16:
            raise ConfigError(f"--on must be an address such as tcp://10.0.0.1:8786, but got {address!r}")
        self.address = address
        self.patience = patience

    def check(self) -> None:
        """See whether cells could be trained there.

        Raises:
            ConfigError: there is no scheduler, it has no worker, or a worker has other code or other folders.
        """
        client = self._connect()
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            said = client.run(_refuse, {"": code_digest()}, str(Path.cwd()))
        except TimeoutError:
            raise ConfigError(f"--on {self.address}: must have a worker, but has none") from None
        except Exception as error:  # noqa: BLE001 - whatever another version of anything fails with over there
            raise self._other(" ".join(str(error).split())) from None
        finally:
            client.close()
        for worker, refusal in said.items():
            if refusal:
                raise self._other(f"{worker} {refusal}")

    def run(self, cells: Sequence[Cell]) -> Generator[Ended | None]:
        """As `Executor.run`.

        Raises:
            ConfigError: as `check`; or the scheduler is lost, or all of its workers are for longer than ``patience``.
        """
        client = self._connect()
        waiting = {gpu: deque(cell for cell in cells if on_cuda(cell) == gpu) for gpu in (True, False)}
        running: dict[Future, Cell] = {}
        tries: Counter[str] = Counter()
        seen = time.monotonic()
        try:
            while running or any(waiting.values()):
                free = self._workers(client)
                if not tries and waiting[True] and free[False] and not free[True]:
                    strategy = waiting[True][0].strategy
                    raise self._other(f"{strategy!r} trains on CUDA and none has --resources {GPU}=1")
                if free[False] and all(free[gpu] for gpu in waiting if waiting[gpu]):
                    seen = time.monotonic()
                elif time.monotonic() - seen > self.patience:
                    raise self._lost(f"has had no worker for {self.patience:.0f} s")
                for gpu, queue in waiting.items():
                    # no more than there are workers: those that wait on a worker that dies would be blamed, too
                    while queue and sum(on_cuda(cell) == gpu for cell in running.values()) < free[gpu]:
                        cell = queue.popleft()
                        tries[cell.key] += 1
                        running[_submit(client, cell, gpu)] = cell
                for future in _done(running):
                    answer = self._answer(future)
                    if answer is None:
                        continue
                    cell = running.pop(future)
                    if isinstance(answer, Ended):
                        yield answer
                    elif isinstance(answer, _Deadly):
                        yield give_up(cell, str(answer))
                    elif tries[cell.key] < TRIES:
                        waiting[on_cuda(cell)].append(cell)
                    else:
                        yield give_up(cell, f"{answer}, {TRIES} times")
                yield None
        finally:
            if client.status == "running":
                client.cancel(list(running))
            client.close(CONNECT_SECONDS)

    def _connect(self) -> Client:
        client_type = import_extra("distributed").Client
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is told in a line of ours
        try:
            return client_type(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"--on must name a Dask scheduler, but {self.address}: {reason}") from None

    def _workers(self, client: Client) -> Mapping[bool, int]:
        """How many cells may be trained at once, with a GPU and anywhere."""
        if client.status != "running":
            raise self._lost("is gone")
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        return {True: int(sum(one["resources"].get(GPU, 0) for one in known)), False: len(known)}

    def _answer(self, future: Future) -> "Ended | _Deadly | str | None":
        """How a cell ended, or in words what went wrong; None where the answer was lost with its worker on the way."""
        if future.status in ("cancelled", "lost"):
            raise self._lost("is gone")
        try:
            error = future.exception(timeout=CONNECT_SECONDS)
            answer: Ended | _Refused | str = "" if error is not None else future.result(timeout=CONNECT_SECONDS)
        except TimeoutError:
            return None
        except (CancelledError, OSError):
            raise self._lost("is gone") from None
        if error is None:
            if isinstance(answer, _Refused):
                raise self._other(answer.why)
            return answer
        if isinstance(error, import_extra("distributed").KilledWorker):
            return _Deadly(error.allowed_failures + 1)
        return f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _other(self, got: str) -> ConfigError:
        return ConfigError(f"--on {self.address}: every worker must have this code, folder and device, but {got}")

    def _lost(self, got: str) -> ConfigError:
        return ConfigError(f"--on {self.address}: the scheduler must stay, but {got}; --resume goes on")


@dataclass(frozen=True)
class _Deadly:
    """A cell that workers die of."""

    workers: int

    def __str__(self) -> str:
        return f"{self.workers} workers died while they trained it"


@dataclass(frozen=True)
class _Refused:
    """What a worker says that may not train."""

    why: str


def import_extra(name: str) -> Any:
    """A package of the extra, imported only where it is used.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"--on needs {name}, but it is not installed: pip install 'fusionkit-torch[cluster]'"
        ) from None


def on_cuda(cell: Cell) -> bool:
    """Whether it must have a GPU."""
    return str(yaml.safe_load(cell.recipe)["train"].get("device", "")).startswith("cuda")


def _submit(client: Client, cell: Cell, gpu: bool) -> Future:
    key = f"cell-{cell.key}-{uuid.uuid4().hex}"  # never that of one that was cancelled and is being trained still
    resources = {GPU: 1} if gpu else None
    recipe = yaml.safe_load(cell.recipe)
    code = {"": code_digest(), **{name: plugin_digest([name]) for name in recipe.get("plugins", ())}}
    told = (cell, code, str(Path.cwd()), _automatic() if recipe["train"].get("device") == "auto" else "")
    return client.submit(_train, *told, key=key, pure=False, resources=resources)


def _done(running: Mapping[Future, Cell]) -> list[Future]:
    """Those that ended by now, or within a moment."""
    limit = time.monotonic() + POLL_SECONDS
    while True:
        found = [future for future in running if future.status != "pending"]
        if found or time.monotonic() > limit:
            return found
        time.sleep(POLL_SECONDS / 10)


def _automatic() -> str:
    """What ``train.device=auto`` means on this machine."""
    return pick_device("auto").type


def _refuse(code: Mapping[str, str], folder: str, device: str = "") -> str:
    """On a worker: why it may not train; empty where it may.

    Args:
        code: digest of ours under the empty name, and those of plugins by theirs.
        folder: that it must see.
        device: that ``auto`` must mean; empty where that is not asked.
    """
    other = [name for name, digest in code.items() if (plugin_digest([name]) if name else code_digest()) != digest]
    if other:
        return f"has other code or libraries{'' if other == [''] else f': {max(other)}'}"
    if not Path(folder).is_dir():
        return f"does not see {folder}"
    if device and device != _automatic():
        return f"takes {_automatic()} for train.device=auto, which is {device} here; name one"
    return ""


def _train(cell: Cell, code: Mapping[str, str], folder: str, device: str) -> Ended | _Refused | str:
    """On a worker: train a cell, unless another one ended it meanwhile; what it prints goes to its log."""
    if refusal := _refuse(code, folder, device):
        return _Refused(f"a worker {refusal}")
    with _ONE, chdir(folder):
        home = Path(cell.folder)
        if not home.parent.parent.is_dir():
            return _Refused(f"a worker does not see {home.parent.parent}")
        home.mkdir(parents=True, exist_ok=True)
        with open(home / LOG, "a", buffering=1, encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            return attempt(cell)
