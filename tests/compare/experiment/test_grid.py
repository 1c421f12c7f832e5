"""A comparison's folder: one process at a time, one split, the newest of the same words, and none for a mistake."""

import json
import threading
from pathlib import Path

import pytest

from fusionkit.compare.cells.cell import Ended, run_cell, write_ended
from fusionkit.compare.cells.executor import Executor
from fusionkit.compare.experiment import grid
from fusionkit.compare.experiment.grid import Asked, compare
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.recipe.shipped import shipped_recipes

TINY = ("data.subjects=4", "data.records=4", "train.epochs=1", "train.device=cpu", "modalities=text")
FOLDS = "data.split={kind: k_fold, by: subject, folds: 2, validation: 0.5}"


class Here(Executor):
    """Trains in this process."""

    def run(self, cells):
        for cell in cells:
            yield run_cell(cell)


class Nobody(Executor):
    """Gives every cell up."""

    def run(self, cells):
        for cell in cells:
            ended = Ended(cell.key, "", "no memory", 0.0)
            write_ended(cell, ended)
            yield ended


def asked(folder, *more, vary=("train.lr=1e-3,1e-2",), seeds=1):
    return Asked(("quickstart",), (*TINY, FOLDS, f"run.dir={folder}", *more), vary, seeds)


def folders(tmp_path):
    return sorted(path.parent for path in tmp_path.rglob("comparison.json"))


def test_the_newest_comparison_of_these_words_is_taken_up_though_another_was_begun_since(tmp_path):
    first = compare(asked(tmp_path), Nobody())
    second = compare(asked(tmp_path, seeds=2), Nobody())
    assert first.folder != second.folder
    assert compare(asked(tmp_path), Nobody(), resume=True).folder == first.folder
    assert compare(asked(tmp_path, seeds=2), Nobody(), resume=True).folder == second.folder
    with pytest.raises(ConfigError, match=r"--resume needs the words that began the comparison, but .* has others"):
        compare(asked(tmp_path, seeds=3), Nobody(), resume=True)


def test_two_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20261122-101500")
    gate, found = threading.Barrier(4), []
    (setting,) = grid.settings(("quickstart",), (*TINY, f"run.dir={tmp_path}"), ())

    def begin():
        gate.wait()
        found.append(grid._begin(setting, asked(tmp_path)))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4 == len(folders(tmp_path))


def test_one_process_at_a_time_trains_a_comparison(tmp_path):
    class Twice(Here):
        def run(self, cells):
            with pytest.raises(ConfigError, match=r"must be trained by one process at a time, but .* has another"):
                compare(asked(tmp_path), Nobody(), resume=True)
            yield from super().run(cells)

    done = compare(asked(tmp_path), Twice())
    assert not done.failed
    assert not compare(asked(tmp_path), Nobody(), resume=True).failed  # it is free again


def test_a_recipe_that_now_gives_another_split_is_not_resumed(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(shipped_recipes()["quickstart"])
    words = Asked((str(recipe),), (*TINY, f"run.dir={tmp_path}"), ("train.lr=1e-3,1e-2",), 1)
    begun = compare(words, Nobody())
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 5", 1))
    with pytest.raises(DataError, match=r"split\.json: a comparison must keep its split to be resumed"):
        compare(words, Here(), resume=True)
    assert folders(tmp_path) == [begun.folder]


@pytest.mark.parametrize("vary", [("fusion.dim=32,64",)])
def test_a_mistake_that_is_found_late_leaves_no_folder(tmp_path, vary):
    words = Asked(("quickstart",), (*TINY, FOLDS, f"run.dir={tmp_path}"), vary, 1, match="parameters")
    with pytest.raises(ConfigError, match="differ in nothing but their size"):
        compare(words, Nobody())
    assert not folders(tmp_path) and not list((tmp_path).glob("quickstart-compare/*"))


def test_every_cell_knows_the_data_and_the_split_that_it_must_be_trained_on(tmp_path):
    done = compare(asked(tmp_path), Nobody())
    (block,) = done.blocks
    assert {cell.study for cell in block.cells.values()} == {block.study.digest}
    assert {cell.split for cell in block.cells.values()} == {block.split.digest}
    assert json.loads((done.folder / "split.json").read_text())["digest"] == block.split.digest


def test_every_cell_of_a_comparison_ends_under_its_own_key_and_none_is_left_out(tmp_path):
    done = compare(asked(tmp_path, seeds=2), Here())
    (block,) = done.blocks
    wanted = {(label, fold, seed) for label in ("1e-3", "1e-2") for fold in (0, 1) for seed in (0, 1)}
    assert set(block.cells) == wanted and set(done.ended) == {cell.key for cell in block.cells.values()}
    assert len(done.ended) == len(wanted) == len(list(Path(done.folder).glob("cells/*/cell.json")))
    assert {path.name for path in (done.folder / "cells").iterdir()} == set(done.ended)
