"""Processes that train cells: they may die, and nothing is lost or trained twice."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from fusionkit.compare.cells import executor as module
from fusionkit.compare.cells.cell import LOG, Cell, read_ended
from fusionkit.compare.cells.executor import LocalExecutor
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump_recipe

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
