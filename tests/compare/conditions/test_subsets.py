"""Every subset of sensors is answered as `predict(absent=...)` answers it, once."""

import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fusionkit.compare.cells.cell import make_cell, open_run, read_ended, run_cell
from fusionkit.compare.conditions.asked_again import ask_again, load_answers
from fusionkit.compare.conditions.corruption import FAULTS, Faults
from fusionkit.compare.conditions.subsets import SUBSETS, answer_subsets, read_subsets
from fusionkit.core.errors import DataError
from fusionkit.evaluation.predict import predict, prediction
from fusionkit.recipe.load import load_recipe
from fusionkit.training.arm import FUSED

SMALL = ["data.subjects=6", "data.records=6", "train.epochs=1", "train.single_sensors=false"]
ONE = Faults(noise=(1.0,), channels=(), bursts=(), offset=(), drift=())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell")
    recipe = load_recipe("quickstart", [*SMALL, f"run.dir={folder}"])
    cell = make_cell("one", recipe, 0, 0, study="", split="", cells=folder / "cells", faults=ONE)
    return cell, run_cell(cell)


def test_answers_are_those_of_predict_with_the_others_absent(trained):
    cell, ended = trained
    assert ended.problem == ""
    asked, found = ask_again(open_run(ended), 0), read_subsets(Path(cell.folder))
    result = open_run(ended).results(FUSED)[0]
    task = asked.trained.tasks["target"]
    np.testing.assert_array_equal(found.rows, result.rows["test"])
    everything = found.predictions["target"]
    assert everything.shape == (16, len(found.rows), 2)
    seen = set()
    for count in (1, 2, 3, 4):
        for kept in combinations(asked.sensors, count):
            said = predict(
                asked.trained.model, asked.loader, asked.rows, absent=[n for n in asked.sensors if n not in kept]
            )
            number = sum(1 << asked.sensors.index(name) for name in kept)
            assert found.conditions[number] == sorted(kept)
            np.testing.assert_array_equal(everything[number], prediction(task, said["target"]))
            seen.add(number)
    assert seen == set(range(1, 16))


def test_all_sensors_and_all_but_one_are_what_training_kept(trained):
    cell, ended = trained
    found, result = read_subsets(Path(cell.folder)), open_run(ended).results(FUSED)[0]
    asked = ask_again(open_run(ended), 0)
    kept = result.decisions["test"]
    np.testing.assert_allclose(found.predictions["target"][15], np.exp(kept["all"]["target"]), rtol=1e-15)
    for bit, sensor in enumerate(asked.sensors):
        np.testing.assert_allclose(
            found.predictions["target"][15 - (1 << bit)], np.exp(kept[sensor]["target"]), rtol=1e-15
        )


def test_no_sensor_at_all_answers_with_the_training_prior(trained):
    cell, ended = trained
    asked = ask_again(open_run(ended), 0)
    share = np.exp(asked.trained.tasks["target"].prior())
    found = read_subsets(Path(cell.folder)).predictions["target"][0]
    assert share.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, np.tile(share, (len(found), 1)), rtol=1e-6)


def test_what_is_answered_is_not_asked_again_and_what_is_lost_is(trained, tmp_path):
    cell, ended = trained
    copied = replace(cell, folder=str(shutil.copytree(cell.folder, tmp_path / "copy")))
    assert cell.asked and copied.asked and read_ended(cell) == ended
    before = (Path(copied.folder) / FAULTS).stat().st_mtime_ns
    (Path(copied.folder) / SUBSETS).unlink()
    assert not copied.asked
    weights = Path(ended.run) / "fold-0" / "fused" / "best.safetensors"
    trained_at = weights.stat().st_mtime_ns
    again = run_cell(cell)
    assert again.run == ended.run and weights.stat().st_mtime_ns == trained_at
    assert (Path(copied.folder) / FAULTS).stat().st_mtime_ns == before


def test_other_faults_or_other_code_are_asked_anew(trained, monkeypatch):
    cell, _ = trained
    assert not replace(cell, faults=replace(ONE, seed=1)).asked
    assert not replace(cell, faults=Faults()).asked
    assert replace(cell, faults=None).asked
    path = Path(cell.folder) / SUBSETS
    assert load_answers(path, None) is not None and load_answers(path, "other") is None
    monkeypatch.setattr(
        "fusionkit.compare.conditions.asked_again._settled", lambda settings: {"asked": settings, "code": "x"}
    )
    assert not cell.asked


def test_faults_change_no_key(trained):
    cell, _ = trained
    recipe = load_recipe("quickstart", [*SMALL, f"run.dir={Path(cell.folder).parents[1]}"])
    plain = make_cell("one", recipe, 0, 0, study="", split="", cells=Path(cell.folder).parent)
    assert plain.key == cell.key


def test_other_data_are_refused(trained, monkeypatch):
    _, ended = trained
    run = open_run(ended)
    facts = {**run.facts, "study": {**run.facts["study"], "digest": "other"}}
    monkeypatch.setattr(type(run), "facts", property(lambda self: facts))
    with pytest.raises(DataError, match=r"asked again needs the data that began the run, but .* have changed since"):
        ask_again(run, 0)


def test_one_sensor_has_two_subsets(tmp_path):
    recipe = load_recipe("quickstart", [*SMALL, "modalities=audio", f"run.dir={tmp_path}"])
    cell = make_cell("one", recipe, 0, 0, study="", split="", cells=tmp_path / "cells")
    asked = ask_again(open_run(run_cell(cell)), 0)
    assert answer_subsets(asked).conditions == [[], ["audio"]]
    assert read_subsets(Path(cell.folder)) is None  # nobody asked
