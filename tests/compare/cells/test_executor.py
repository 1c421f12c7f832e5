"""Processes that train cells: they may die, and nothing is lost or trained twice."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from filelock import FileLock

from fusionkit.compare.cells import executor as module
from fusionkit.compare.cells.cell import LOCK, LOG, Cell, read_ended, run_cell
from fusionkit.compare.cells.executor import LocalExecutor
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump_recipe

ROOT = Path(module.__file__).parents[3]
TINY = ["data.subjects=6", "data.records=4", "train.epochs=1", "modalities=audio", "train.single_sensors=false"]


def cells(tmp_path: Path, count: int, *changes: str) -> list[Cell]:
    made = []
    for number in range(count):
        folder = tmp_path / "cells" / str(number)
        cache = [f"data.cache={tmp_path}/cache", f"run.dir={folder}", "name=run", f"seed={number}", "data.split.seed=0"]
        recipe = load_recipe("quickstart", [*TINY, *cache, *changes])
        made.append(Cell(str(number), f"strategy {number}", dump_recipe(recipe), 0, number, str(folder)))
    return made


def ended(executor: LocalExecutor, wanted: list[Cell]):
    return {one.key: one for one in executor.run(wanted) if one is not None}


@pytest.mark.slow
def test_every_cell_ends_once_and_keeps_a_log(tmp_path):
    wanted = cells(tmp_path, 3)
    found = [one for one in LocalExecutor(2).run(wanted) if one is not None]
    assert sorted(one.key for one in found) == ["0", "1", "2"]
    for cell, one in ((wanted[int(one.key)], one) for one in found):
        assert one.problem == "" and read_ended(cell) == one
        assert "trained in" in (Path(cell.folder) / LOG).read_text()


@pytest.mark.slow
def test_a_cell_whose_process_is_killed_is_trained_again(tmp_path):
    wanted = cells(tmp_path, 2)
    killed = []
    running = LocalExecutor(1)
    found = {}
    for one in running.run(wanted):
        if one is None and not killed and (Path(wanted[0].folder) / LOG).exists():
            (child,) = multiprocessing.active_children()
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)
        elif one is not None:
            found[one.key] = one
    assert killed and {one.problem for one in found.values()} == {""} and sorted(found) == ["0", "1"]


@pytest.mark.slow
def test_a_cell_that_kills_its_process_every_time_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    wanted = cells(tmp_path, 2)
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.syspath_prepend(tmp_path)  # the processes inherit it
    broken = wanted[0].recipe.replace("plugins: []", "plugins: [deadly]")
    assert broken != wanted[0].recipe
    wanted[0] = Cell("0", "strategy 0", broken, 0, 0, wanted[0].folder)
    found = ended(LocalExecutor(1), wanted)
    assert found["1"].problem == ""
    assert "SIGKILL" in found["0"].problem and f"{module.TRIES} times" in found["0"].problem
    assert read_ended(wanted[0]) == found["0"]


@pytest.mark.slow
def test_leaving_stops_the_processes(tmp_path):
    wanted = cells(tmp_path, 2, "train.epochs=200", "train.patience=0")
    running = LocalExecutor(2).run(wanted)
    for one in running:
        if one is None and all((Path(cell.folder) / LOG).exists() for cell in wanted):
            break
    running.close()
    assert not multiprocessing.active_children()
    assert all(read_ended(cell) is None for cell in wanted)


@pytest.mark.slow
def test_processes_of_a_comparison_that_is_killed_save_themselves_and_leave(tmp_path):
    (cell,) = cells(tmp_path, 1, "train.epochs=500", "train.patience=0")
    program = (
        "import json, sys\n"
        "from fusionkit.compare.cells.cell import Cell\n"
        "from fusionkit.compare.cells.executor import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    list(LocalExecutor(1).run([Cell(**json.loads(sys.argv[1]))]))\n"
    )
    (tmp_path / "parent.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "parent.py"), json.dumps(asdict(cell))]
    parent = subprocess.Popen(command, env=environment, start_new_session=True)
    last = Path(cell.folder) / "run"
    try:
        wait_for(lambda: any(last.rglob("last.safetensors")) or any(last.rglob("metrics.csv")) or begun(cell))
    finally:
        parent.kill()
        parent.wait()
    lock = FileLock(Path(cell.folder) / LOCK)
    with lock.acquire(timeout=30):  # long before 500 epochs
        assert read_ended(cell) is None
    assert any(last.rglob("last.safetensors"))  # it saved itself first
    wait_for(lambda: not alive_in(parent.pid))


@pytest.mark.slow
def test_a_cell_that_another_process_is_at_is_waited_for_and_not_trained_twice(tmp_path):
    (cell,) = cells(tmp_path, 1)
    Path(cell.folder).mkdir(parents=True)
    with FileLock(Path(cell.folder) / LOCK):
        running = LocalExecutor(1).run([cell])
        for _ in range(20):
            assert next(running) is None
        ended = run_cell(cell)
    assert [one for one in running if one is not None] == [ended]
    assert (Path(cell.folder) / LOG).read_text() == ""  # what it trained itself it would have told here


@pytest.mark.slow
def test_threads_that_one_cell_asked_for_are_not_the_next_ones(tmp_path):
    one, two = cells(tmp_path, 2)
    one = replace(one, recipe=one.recipe.replace("threads: 0", "threads: 2"))
    ended(LocalExecutor(1), [one, two])
    found = [
        json.loads((Path(read_ended(cell).run) / "environment.json").read_text())["threads"] for cell in (one, two)
    ]
    assert found == [2, 1]


def begun(cell):
    log = Path(cell.folder) / LOG
    return log.exists() and "run " in log.read_text()


def wait_for(found, seconds=60.0):
    limit = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < limit
        time.sleep(0.05)


def alive_in(session):
    """Whether a process of that session is left."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                return True
    return False
