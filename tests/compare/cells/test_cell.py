"""A cell is keyed by all that its result depends on, and by nothing else."""

from pathlib import Path

import pytest

from fusionkit.compare.cells.cell import Ended, make_cell, read_ended, run_cell, write_ended
from fusionkit.recipe.load import load_recipe

TINY = ["data.subjects=6", "data.records=4", "train.epochs=1", "modalities=audio", "train.single_sensors=false"]


def cell(tmp_path: Path, *changes: str, fold=0, seed=0, study="a", split="b", label="one"):
    recipe = load_recipe("quickstart", [*TINY, f"run.dir={tmp_path}", *changes])
    return make_cell(label, recipe, fold, seed, study=study, split=split, cells=tmp_path / "cells")


def test_the_key_changes_with_what_the_result_depends_on(tmp_path):
    keys = {
        cell(tmp_path).key,
        cell(tmp_path, "train.lr=0.5").key,
        cell(tmp_path, fold=1).key,
        cell(tmp_path, seed=1).key,
        cell(tmp_path, study="other").key,
        cell(tmp_path, split="other").key,
    }
    assert len(keys) == 6


def test_the_key_stays_where_nothing_of_the_result_changes(tmp_path):
    same = [cell(tmp_path, "name=other"), cell(tmp_path, f"run.dir={tmp_path}/x"), cell(tmp_path, "data.workers=2")]
    assert {one.key for one in same} == {cell(tmp_path).key}


def test_other_code_has_other_keys(tmp_path, monkeypatch):
    before = cell(tmp_path).key
    monkeypatch.setattr("fusionkit.compare.cells.cell.code_digest", lambda: "other code")
    assert cell(tmp_path).key != before


def test_a_cell_is_trained_and_says_so_last(tmp_path):
    one = cell(tmp_path)
    assert read_ended(one) is None
    ended = run_cell(one)
    assert ended.problem == "" and (Path(ended.run) / "fold-0" / "fused").is_dir()
    assert read_ended(one) == ended


def test_a_mistake_of_the_users_is_an_end_in_words(tmp_path):
    one = cell(tmp_path, "data.split={kind: fixed, test: [nobody]}")
    ended = run_cell(one)
    assert "nobody" in ended.problem and ended.run == ""


@pytest.mark.parametrize("text", ["", "{", "{}", '{"key": 1}'])
def test_a_torn_end_is_none(tmp_path, text):
    one = cell(tmp_path)
    write_ended(one, Ended(one.key, "", "", 0.0))
    one.done.write_text(text)
    assert read_ended(one) is None
