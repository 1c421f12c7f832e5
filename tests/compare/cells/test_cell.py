"""A cell is keyed by all that its result depends on, and by nothing else."""

import importlib.metadata
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fusionkit.compare.cells import key
from fusionkit.compare.cells.cell import Ended, make_cell, read_ended, run_cell, write_ended
from fusionkit.recipe.load import load_recipe

TINY = ["data.subjects=6", "data.records=4", "train.epochs=1", "modalities=audio", "train.single_sensors=false"]


def cell(tmp_path: Path, *changes: str, fold=0, seed=0, study="", split="", label="one"):
    recipe = load_recipe("quickstart", [*TINY, f"run.dir={tmp_path}", *changes])
    return make_cell(label, recipe, fold, seed, study=study, split=split, cells=tmp_path / "cells")


def test_the_key_changes_with_what_the_result_depends_on(tmp_path):
    keys = {
        cell(tmp_path).key,
        cell(tmp_path, "train.lr=0.5").key,
        cell(tmp_path, fold=1).key,
        cell(tmp_path, seed=1).key,
        cell(tmp_path, study="one").key,
        cell(tmp_path, split="one").key,
    }
    assert len(keys) == 6


def test_the_key_stays_where_nothing_of_the_result_changes(tmp_path):
    same = [cell(tmp_path, "name=other"), cell(tmp_path, f"run.dir={tmp_path}/x"), cell(tmp_path, "data.workers=2")]
    assert {one.key for one in same} == {cell(tmp_path).key}


def test_other_code_has_other_keys(tmp_path, monkeypatch):
    before = cell(tmp_path).key
    monkeypatch.setattr("fusionkit.compare.cells.key.code_digest", lambda: "other code")
    assert cell(tmp_path).key != before


def test_other_code_of_a_plugin_has_other_keys(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_of_test").mkdir()
    (tmp_path / "lab_of_test" / "__init__.py").write_text("")
    (tmp_path / "lab_of_test" / "fusion.py").write_text("one = 1\n")
    (tmp_path / "single_of_test.py").write_text("one = 1\n")
    before = [cell(tmp_path, f"plugins=[{name}]").key for name in ("lab_of_test.fusion", "single_of_test")]
    (tmp_path / "lab_of_test" / "beside.py").write_text("two = 2\n")
    (tmp_path / "single_of_test.py").write_text("one = 2\n")
    after = [cell(tmp_path, f"plugins=[{name}]").key for name in ("lab_of_test.fusion", "single_of_test")]
    assert len({*before, *after}) == 4


def test_other_libraries_have_other_keys_whatever_machine_they_were_built_for(tmp_path, monkeypatch):
    known = importlib.metadata.version

    def versions(torch):
        key.code_digest.cache_clear()
        monkeypatch.setattr(key.importlib.metadata, "version", lambda name: torch if name == "torch" else known(name))
        return cell(tmp_path).key

    try:
        found = [versions(torch) for torch in ("2.9.0+cpu", "2.9.0+cu128", "2.9.1+cpu")]
    finally:
        key.code_digest.cache_clear()
    assert found[0] == found[1] != found[2]


def test_a_file_that_a_recipe_names_is_part_of_the_key_by_what_it_holds(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("good: fine\n")
    change = f"augment={{text: [{{kind: synonym, thesaurus: {file}}}]}}"
    recipe = load_recipe("quickstart", ["modalities=text", change])
    before = key.cell_key(recipe, 0, study="", split="")
    file.write_text("good: bad\n")
    assert key.cell_key(recipe, 0, study="", split="") != before


def test_encoders_that_are_taken_are_part_of_the_key_by_their_weights(tmp_path):
    run = tmp_path / "before"
    weights = run / "fold-0" / "fused" / "best.safetensors"
    weights.parent.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: before\n")
    weights.write_bytes(b"one")
    before = [cell(tmp_path, f"init.from={run}", fold=fold).key for fold in (0, 1)]
    weights.write_bytes(b"two")
    after = [cell(tmp_path, f"init.from={run}", fold=fold).key for fold in (0, 1)]
    assert len({*before, *after}) == 4  # a fold that the other run lacks takes its first


def test_what_was_trained_on_other_data_or_another_split_is_no_result_and_is_trained_anew(tmp_path):
    one = cell(tmp_path)
    ended = run_cell(one)
    for name, changed in (("data", {"study": "x"}), ("split", {"split": "x"})):
        other = replace(one, **changed)
        found = run_cell(other)
        assert f"the {name} must be the comparison's" in found.problem and found.run == ""
    runs = len(list(Path(one.folder).glob("run/*/recipe.yaml")))
    assert runs == 3  # neither went on with the run of the other
    facts = json.loads((Path(ended.run) / "run.json").read_text())
    split = json.loads((Path(ended.run) / "split.json").read_text())["digest"]
    same = replace(one, study=facts["study"]["digest"], split=split)
    assert run_cell(same).problem == "" and len(list(Path(one.folder).glob("run/*/recipe.yaml"))) == 3


def test_a_cell_that_was_begun_by_a_recipe_with_other_words_is_trained_though_its_key_is_the_same(tmp_path):
    one = cell(tmp_path)
    other = cell(tmp_path, "data.workers=1")
    assert one.key == other.key and one.recipe != other.recipe
    assert run_cell(one).problem == ""
    other.done.unlink()
    assert run_cell(other).problem == ""


def test_a_result_whose_run_is_gone_or_lies_elsewhere_is_none(tmp_path):
    one = cell(tmp_path)
    ended = run_cell(one)
    elsewhere = tmp_path / "elsewhere" / "run" / "now"
    shutil.copytree(ended.run, elsewhere)
    write_ended(one, replace(ended, run=str(elsewhere)))
    assert read_ended(one) is None
    write_ended(one, replace(ended, key="other"))
    assert read_ended(one) is None
    write_ended(one, ended)
    assert read_ended(one) == ended
    shutil.rmtree(ended.run)
    assert read_ended(one) is None and run_cell(one).problem == ""


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
    write_ended(one, Ended(one.key, "", "no memory", 0.0))
    assert read_ended(one) is not None
    one.done.write_text(text)
    assert read_ended(one) is None
