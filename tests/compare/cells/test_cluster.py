"""Cells on Dask workers: lost ones lose nothing, deadly cells are reported, other code is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusionkit.compare.cells import cluster as module
from fusionkit.compare.cells.cell import LOG, Cell, open_run, read_ended
from fusionkit.compare.cells.cluster import DaskExecutor
from fusionkit.compare.cells.executor import LocalExecutor
from fusionkit.core.errors import ConfigError
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.arm import FUSED

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

TINY = ["data.subjects=6", "data.records=4", "train.epochs=1", "modalities=audio", "train.single_sensors=false"]
ROOT = Path(module.__file__).parents[3]


def cells(tmp_path: Path, count: int, *changes: str) -> list[Cell]:
    made = []
    for number in range(count):
        folder = tmp_path / "cells" / str(number)
        cache = [f"data.cache={tmp_path}/cache", f"run.dir={folder}", "name=run", f"seed={number}", "data.split.seed=0"]
        recipe = load_recipe("quickstart", [*TINY, *cache, *changes])
        made.append(Cell(str(number), f"strategy {number}", dump_recipe(recipe), 0, number, str(folder)))
    return made


@contextmanager
def scheduler(tmp_path: Path, workers: int, *options: str, path: str = ""):
    """A scheduler and workers on this machine; yields its address and the processes of the workers."""
    tmp_path.mkdir(exist_ok=True)
    said = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([path, str(ROOT)]), "OMP_NUM_THREADS": "1"}

    def start(*words: str) -> subprocess.Popen[bytes]:
        with open(tmp_path / "dask.txt", "a") as log:
            command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:], "--no-dashboard"]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)

    own = ["--nthreads", "1", "--scheduler-file", str(said), "--local-directory", str(tmp_path), *options]
    begun = [start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(said))]
    try:
        begun += [start("dask_worker", "--host", "127.0.0.1", *own) for _ in range(workers)]
        limit = time.monotonic() + 60
        while not said.exists() and time.monotonic() < limit:
            time.sleep(0.1)
        yield json.loads(said.read_text())["address"], begun
    finally:
        for process in begun:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def logits(cell: Cell) -> np.ndarray:
    ended = read_ended(cell)
    assert ended is not None and ended.problem == ""
    return open_run(ended).results(FUSED)[0].decisions["test"]["all"]["target"]


def test_a_killed_worker_loses_nothing_and_results_are_those_of_one_machine(tmp_path):
    wanted = cells(tmp_path / "far", 4, "train.epochs=20", "train.patience=0")
    near = cells(tmp_path / "near", 4, "train.epochs=20", "train.patience=0")
    found, killed = {}, False
    with scheduler(tmp_path / "dask", 2, "--no-nanny") as (address, processes):
        executor = DaskExecutor(address)
        executor.check()
        for cell in wanted:
            Path(cell.folder).parent.mkdir(parents=True, exist_ok=True)
        for one in executor.run(wanted):
            if one is not None:
                found[one.key] = one
            elif not killed and all(list(Path(cell.folder).rglob("*.safetensors")) for cell in wanted[:2]):
                os.kill(processes[1].pid, signal.SIGKILL)
                killed = True
    assert killed and processes[1].returncode == -signal.SIGKILL
    assert sorted(found) == ["0", "1", "2", "3"] and {one.problem for one in found.values()} == {""}
    headers = sum((Path(cell.folder) / LOG).read_text().count("strategy") for cell in wanted)
    assert headers == 5  # the one of the killed worker was begun twice
    list(LocalExecutor(1).run(near))
    for cell, other in zip(wanted, near, strict=True):
        np.testing.assert_array_equal(logits(cell), logits(other))


def test_a_cell_that_kills_its_workers_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # both sides must have the same plugin
    wanted = cells(tmp_path, 2)
    (tmp_path / "cells").mkdir()
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    broken = wanted[0].recipe.replace("plugins: []", "plugins: [deadly]")
    wanted[0] = Cell("0", "strategy 0", broken, 0, 0, wanted[0].folder)
    with scheduler(tmp_path / "dask", 1, "--nanny", path=str(tmp_path)) as (address, _):
        found = {one.key: one for one in DaskExecutor(address).run(wanted) if one is not None}
    assert found["1"].problem == ""
    assert "4 workers died" in found["0"].problem and LOG in found["0"].problem
    assert read_ended(wanted[0]) == found["0"]


def test_refusals_and_leaving(tmp_path, monkeypatch):
    wanted = cells(tmp_path, 3, "train.epochs=40", "train.patience=0")
    (tmp_path / "cells").mkdir()
    with scheduler(tmp_path / "dask", 1, "--no-nanny") as (address, processes):
        monkeypatch.setattr(module, "code_digest", lambda: "other")
        with pytest.raises(ConfigError, match=r"every worker must have this code.*has other code"):
            DaskExecutor(address).check()
        with pytest.raises(ConfigError, match="has other code"):
            list(DaskExecutor(address).run(wanted))
        monkeypatch.undo()
        monkeypatch.setattr(module, "plugin_digest", lambda names: f"other {names}")
        plugged = [replace(wanted[0], recipe=wanted[0].recipe.replace("plugins: []", "plugins: [json]"))]
        with pytest.raises(ConfigError, match="has other code or libraries: json"):
            list(DaskExecutor(address).run(plugged))
        monkeypatch.undo()
        monkeypatch.setattr(module, "_automatic", lambda: "mps")
        with pytest.raises(ConfigError, match=r"takes (cpu|cuda) for train.device=auto, which is mps here; name one"):
            list(DaskExecutor(address).run(wanted))
        monkeypatch.undo()
        cuda = [Cell("0", "c", wanted[0].recipe.replace("device: auto", "device: cuda"), 0, 0, wanted[0].folder)]
        with pytest.raises(ConfigError, match="'c' trains on CUDA and none has --resources GPU=1"):
            list(DaskExecutor(address).run(cuda))
        assert not any((tmp_path / "cells").iterdir())
        running = DaskExecutor(address).run(wanted)
        for one in running:
            if one is None and (Path(wanted[0].folder) / LOG).exists():
                break
        running.close()
        limit = time.monotonic() + 60
        while read_ended(wanted[0]) is None and time.monotonic() < limit:
            time.sleep(0.2)
        assert read_ended(wanted[0]) is not None  # what was begun is trained to the end
        time.sleep(1)
        assert not Path(wanted[1].folder).exists() and not Path(wanted[2].folder).exists()
        running = DaskExecutor(address).run(wanted[1:])
        with pytest.raises(ConfigError, match="the scheduler must stay, but is gone; --resume goes on"):
            for _ in running:
                if (Path(wanted[1].folder) / LOG).exists():
                    os.kill(processes[0].pid, signal.SIGKILL)


def test_a_cell_on_cuda_goes_to_a_worker_that_offers_a_gpu(tmp_path):
    plain, cuda = cells(tmp_path, 2)
    (tmp_path / "cells").mkdir()
    cuda = Cell("1", "c", cuda.recipe.replace("device: auto", "device: cuda"), 0, 1, cuda.folder)
    with scheduler(tmp_path / "dask", 1, "--no-nanny", "--resources", "GPU=1") as (address, _):
        found = {one.key: one for one in DaskExecutor(address).run([plain, cuda]) if one is not None}
    assert found["0"].problem == ""
    assert found["1"].problem == "" or "'cuda' is not usable" in found["1"].problem  # it got there


@pytest.mark.parametrize(
    "address",
    ["tcp://", "tcp://a", "tcp://a:b", "tcp://a:99999", "tcp://a:0", "http://a:1", "inproc://a/1/1", "tcp://a b:1",
     "tcp://[::1:8786", "tcp://user@/x:1", "tcp://a:1/x"],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_anything_is_asked(address):
    with pytest.raises(ConfigError, match=re.escape(f"but got {address!r}")):
        DaskExecutor(address)


def test_no_scheduler_is_one_line(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match="--on must name a Dask scheduler"):
        DaskExecutor("tcp://127.0.0.1:1").check()
