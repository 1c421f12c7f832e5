"""Records of `data.unlabelled`: what sees them, what never does, and what of a run stays as it was without them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError
from fusionkit.data.loading import Loader
from fusionkit.data.study import Study
from fusionkit.evaluation.other_data import answer_held_out, ask, open_trained
from fusionkit.evaluation.report import build_report
from fusionkit.evaluation.summary import summarise
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training import fitting
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.fold import load_result
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.run import pretrain, train

ROOT = Path(__file__).parents[2]
BESIDE = (
    "data.unlabelled={kind: synthetic, subjects: 10, records: 3, seed: 5}"  # s01 to s10; the tiny recipe has s01 to s06
)
STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 2, batch: 8}"
CONSISTENT = "train.consistency=[{kind: uda, ratio: 2}]"


def held_out(records, fold):
    return {records.subject[row] for part in ("validation", "test") for row in fold[part]}


def opened(run):
    """The records of a run, and every fold's rows by part."""
    records = Study.open(run.study).records
    row = {name: number for number, name in enumerate(records.id)}
    told = json.loads((run.folder / "split.json").read_text())
    folds = [{part: [row[name] for name in names] for part, names in fold.items()} for fold in told["folds"]]
    for fold, names in zip(folds, told.get("unlabelled", []), strict=False):
        fold["unlabelled"] = [row[name] for name in names]
    return records, folds


@pytest.fixture
def loaded(monkeypatch):
    """Every row that anything asks of a loader, and the labels that the loader could give of unlabelled rows."""
    rows, labels = set(), []
    load, make = Loader.batch, Loader.__init__

    def batch(self, asked):
        rows.update(asked.tolist())
        return load(self, asked)

    def init(self, study, inputs, targets, *more):
        first = len(study.records) - study.records.unlabelled
        labels.extend(np.isnan(values[first:]).all() for values in targets.values())
        make(self, study, inputs, targets, *more)

    monkeypatch.setattr(Loader, "batch", batch)
    monkeypatch.setattr(Loader, "__init__", init)
    return rows, labels


@pytest.mark.parametrize("number", [0, 1])
def test_pretraining_sees_them_but_none_of_a_person_who_is_held_out(number, tiny, loaded):
    run = pretrain(tiny(BESIDE, STAGE), fold=number)
    records, folds = opened(run)
    fold, (rows, labels) = folds[number], loaded
    assert rows == {*fold["train"], *fold["unlabelled"]} and labels and all(labels)
    strangers = {records.subject[row].removeprefix("unlabelled/") for row in fold["unlabelled"]}
    assert strangers == {f"s{n:02d}" for n in range(1, 11)} - held_out(records, fold)
    assert run.pretrained()[number]["records"] == len(rows) == 16 + 3 * len(strangers)
    (note,) = [line for line in run.facts["notes"] if "adds 30 records" in line]
    assert f"{30 - len(fold['unlabelled'])} in fold {number}" in note and "whose subject it validates or tests" in note
    assert run.facts["study"]["unlabelled"] == 30


def test_consistency_takes_them_beside_as_many_steps_over_the_labelled_ones(tiny, loaded, monkeypatch):
    plans = []
    plan = fitting._plan
    monkeypatch.setattr(fitting, "_plan", lambda *given: plans.append(plan(*given)) or plans[-1])
    run = train(tiny(BESIDE, CONSISTENT, "data.labels.keep=6"), fold=0)
    fold = opened(run)[1][0]
    (made,) = plans
    assert made.steps == 2  # 16 training records, 8 in a step
    assert set(made.unlabelled.tolist()) == {*fold["train"], *fold["unlabelled"]} - set(made.labelled.tolist())
    assert len(made.labelled) == 6 and set(made.labelled.tolist()) <= set(fold["train"])
    assert all(len(step.rows) == 6 + 16 for step in made(0))
    assert loaded[0] == {row for part in fold.values() for row in part}
    states = load_result(run.arm_folder(0, "fused")).states["target"]["counts"]
    assert sum(states) == 6


@pytest.mark.parametrize("normalise", ["subject", "calibration, seconds: 2.0"])
def test_a_supervised_training_is_the_same_to_the_bit(normalise, tiny):
    """Of EEG, whose windows are of one length: others would be filled up to the longest of both, and dropout drawn anew."""
    more = ["modalities=eeg", f"modalities.eeg.normalise={{kind: {normalise}}}", "data.seconds=2"]
    beside = tiny(BESIDE, STAGE, *more, "data.unlabelled.seconds=2")
    beside = replace(beside, pretrain=())  # no recipe may say so: nothing would see them
    runs = [train(recipe, fold=1) for recipe in (tiny(*more), beside)]
    assert runs[0].study != runs[1].study
    one, two = (load_result(run.arm_folder(1, "fused")) for run in runs)
    for part in ("validation", "test"):
        assert one.rows[part].tolist() == two.rows[part].tolist()
        assert (one.decisions[part]["all"]["target"] == two.decisions[part]["all"]["target"]).all()
    assert runs[0].facts["excluded"] == runs[1].facts["excluded"]


def test_the_split_is_that_of_a_run_without_them_which_may_begin_with_their_encoders(tiny, tmp_path):
    first = pretrain(tiny(BESIDE, STAGE), fold=0)
    second = train(tiny(f"init.from={first.folder}", "name=after"), fold=0)
    splits = [json.loads((run.folder / "split.json").read_text()) for run in (first, second)]
    assert splits[0]["digest"] == splits[1]["digest"] and splits[0]["records"] == splits[1]["records"]
    both = pretrain(tiny(BESIDE, STAGE, f"init.from={second.folder}", "name=both"), fold=0)
    assert both.pretrained()


def test_a_reason_lets_all_in_is_noted_and_handed_on(tiny, loaded):
    run = pretrain(tiny(BESIDE, STAGE, "data.unlabelled.transductive=they are public"), fold=0)
    _, folds = opened(run)
    assert {row for row in loaded[0] if row >= 48} == set(range(48, 78)) == set(folds[0]["unlabelled"])
    (note,) = [line for line in run.facts["notes"] if line.startswith("transductive: data.unlabelled")]
    assert "adds 30 records" in note and note.endswith("they are public") and "(12 in fold 0, 12 in fold 1)" in note
    with pytest.raises(
        ConfigError, match=r"trained encoders that may have seen .*'they are public'.*init\.transductive"
    ):
        train(tiny(f"init.from={run.folder}", "name=after"), fold=0)
    assert train(tiny(f"init.from={run.folder}", "init.transductive=known", "name=after"), fold=0).folds() == [0]


def test_inner_trainings_leave_out_whom_they_decide_about(tiny):
    recipe = tiny(BESIDE, CONSISTENT)
    run = train(recipe, fold=0)
    records, folds = opened(run)
    fold = {part: np.array(rows) for part, rows in folds[0].items()}
    material = type("Only", (), {"study": Study.open(run.study)})
    empty = (recipe, material, {}, {}, {}, fold["train"], fold["validation"], Path(), 0, None)
    job = fitting.Job(*empty, fold["unlabelled"])
    names = sorted({records.subject[row] for row in fold["train"]})
    part = np.array([row for row in fold["train"] if records.subject[row] == names[0]])
    inner = job.without(part)
    assert set(inner.train) == set(fold["train"]) - set(part)
    gone = set(fold["unlabelled"]) - set(inner.unlabelled)
    assert {records.subject[row] for row in gone} == {f"unlabelled/{names[0]}"}


def write(folder, called, names, seed, *, rate=100, label=True, equal_to=None):
    """An archive of three records a person; ``equal_to`` gives the first record the signal of another's."""
    values = np.random.default_rng(seed).normal(size=(3 * len(names), 1, 100)).astype("f4")
    if equal_to is not None:
        values[0] = np.load(folder / f"{equal_to}.npz")["sig"][0]
    more = {"target": np.arange(len(values)) % 2} if label else {}
    np.savez(folder / f"{called}.npz", sig=values, rate=np.array(rate), subject=np.repeat(names, 3), **more)


RECIPE = """\
name: lab
data:
  kind: npz
  path: a.npz
  rates: {sig: rate}
  split: {kind: leave_one_subject_out}
  unlabelled: {kind: npz, path: b.npz, rates: {sig: rate}}
modalities: {sig: {kind: signal, encoder: {kind: mlp}}}
fusion: {kind: vote, dim: 8}
tasks: {target: {kind: classification}}
pretrain: {objectives: [{kind: nt_xent}], epochs: 1, batch: 8}
train: {epochs: 1, batch: 8, single_sensors: false, device: cpu}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The current folder: four people with labels, three without, of whom one is known."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a", ["p", "q", "r", "s"], 0)
    write(tmp_path, "b", ["s", "x", "y"], 1, label=False)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def test_an_archive_without_labels_reaches_every_fold_but_that_of_its_person(lab, capsys):
    assert main(["pretrain", "r.yaml"]) == 0
    capsys.readouterr()
    (folder,) = lab.glob("runs/lab/*")
    told = json.loads((folder / "split.json").read_text())
    assert [len(names) for names in told["unlabelled"]].count(9) >= 2
    for fold, names in zip(told["folds"], told["unlabelled"], strict=True):
        held = {*fold["validation"], *fold["test"]} & {"10", "11", "12"}  # the person s
        assert names == [f"unlabelled/row {n}" for n in ((4, 5, 6, 7, 8, 9) if held else range(1, 10))]
    assert main(["data", "split", "r.yaml", "--json"]) == 0
    parts = [part for part in json.loads(capsys.readouterr().out)["parts"] if part["part"] == "unlabelled"]
    assert [part["records"] for part in parts] == [len(names) for names in told["unlabelled"]]
    assert main(["check", "r.yaml"]) == 0
    assert "data.unlabelled: npz b.npz, records without labels" in capsys.readouterr().out


REFUSED = {
    "an unknown key": (
        ["data.unlabelled.pth=x"],
        r"command line: data\.unlabelled\.pth: no such option; did you mean 'path'",
    ),
    "a file that is missing": (["data.unlabelled.path=none.npz"], r"data\.unlabelled: none\.npz: no such file"),
    "another rate": (
        ["data.unlabelled.rates.sig=200"],
        r"data\.unlabelled: b\.npz row \d, column sig: .*row 1 has 100 Hz and unlabelled/row \d 200 Hz",
    ),
    "nobody to learn": (["pretrain=null"], r"r\.yaml:\d+: data\.unlabelled: is for pretrain or train\.consistency"),
    "no label in the first": (["tasks.target.column=y"], r"tasks\.target\.column: a\.npz: no column named 'y'"),
    "a column to split by": (
        ["data.split={kind: leave_one_out, by: target}"],
        r"data\.unlabelled: b\.npz must have the column 'target', by which data\.split goes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_told_in_a_line(name, lab, capsys):
    overrides, message = REFUSED[name]
    assert main(["pretrain", "r.yaml", *overrides]) == 2
    for line in capsys.readouterr().err.splitlines():  # a rate is told of every record
        assert re.match(rf"error: (?:{message})", line), line
    assert not list(lab.glob("runs/lab/*/split.json"))


def test_a_held_out_signal_under_another_name_is_refused(lab, capsys):
    write(lab, "b", ["nobody", "x"], 1, label=False, equal_to="a")
    assert main(["pretrain", "r.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "one signal under two names may not straddle a split" in line and "'unlabelled/row 1' (train)" in line
    assert "take it out of data.unlabelled" in line and not list(lab.glob("runs/lab/*"))
    assert main(["pretrain", "r.yaml", "--fold", "1", "data.unlabelled.transductive=to see"]) == 0


def test_encoders_that_saw_a_leak_or_were_kept_from_other_groups_are_not_handed_on_in_silence(lab, capsys):
    write(lab, "b", ["nobody", "x"], 1, label=False, equal_to="a")
    assert main(["pretrain", "r.yaml", "data.allow_leakage=to see"]) == 0
    (folder,) = lab.glob("runs/lab/*")
    after = [
        "train",
        "r.yaml",
        "--fold",
        "0",
        "name=after",
        "data.unlabelled=null",
        "pretrain=null",
        f"init.from={folder}",
    ]
    capsys.readouterr()
    assert main(after) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "trained encoders that may have seen" in line and "(its data.allow_leakage: 'to see')" in line
    write(lab, "b", ["s", "x", "y"], 1, label=False)
    one = "data.split={kind: fixed, by: %s, test: [%s], validation: [%s]}"
    assert main(["pretrain", "r.yaml", "name=records", one % ("record", "10, 11, 12", "7, 8, 9")]) == 0
    (folder,) = lab.glob("runs/records/*")
    capsys.readouterr()
    assert main([*after[:-1], f"init.from={folder}", one % ("subject", "s", "r")]) == 2
    assert "has another split" in capsys.readouterr().err
    assert main([*after[:-1], f"init.from={folder}", one % ("subject", "s", "r"), "init.transductive=known"]) == 0


def test_the_study_of_both_sources_is_no_source_of_its_own(lab, capsys):
    """Person s of the first and of the second go by two names there: a split would part them."""
    assert main(["pretrain", "r.yaml", "--fold", "0"]) == 0
    (made,) = lab.glob("runs/.cache/*.h5")
    text = RECIPE.replace("kind: npz\n  path: a.npz\n  rates: {sig: rate}", f"kind: study\n  path: {made}")
    (lab / "again.yaml").write_text(text.replace("  unlabelled: {kind: npz, path: b.npz, rates: {sig: rate}}\n", ""))
    capsys.readouterr()
    for command in (["data", "split", "again.yaml"], ["train", "again.yaml", "--fold", "0"]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a study must be of one source to be divided, but its last 9 records" in line
    assert len(list(lab.glob("runs/lab/*"))) == 1


def test_labels_that_are_there_are_not_looked_at_and_a_study_file_is_of_one_source(lab, capsys):
    write(lab, "b", ["s", "x", "y"], 1, label=True)
    with np.load("b.npz") as arrays:
        np.savez("b.npz", **{**arrays, "target": np.array(["no class"] * 9)})
    assert main(["pretrain", "r.yaml", "--fold", "0"]) == 0
    (folder,) = lab.glob("runs/lab/*")
    assert (
        "data.unlabelled: the labels of b.npz are not looked at: target"
        in json.loads((folder / "run.json").read_text())["notes"]
    )
    capsys.readouterr()
    assert main(["data", "ingest", "r.yaml", "-o", "s.h5"]) == 2
    assert "data.unlabelled: a study file is of one source" in capsys.readouterr().err
    assert main(["data", "ingest", "r.yaml", "data.unlabelled=null", "pretrain=null", "-o", "s.h5"]) == 0


class Stop(Listener):
    """Asks to stop after the first epoch."""

    def epoch(self, entry):
        if entry["epoch"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("more", [[STAGE], [CONSISTENT, "train.patience=0"], [STAGE, CONSISTENT]])
def test_a_stopped_run_goes_on_to_the_same_bits(more, tiny):
    recipe = tiny(BESIDE, *more)
    whole = train(recipe, fold=0)
    with pytest.raises(Interrupted):
        train(recipe, fold=0, listener=Stop())
    again = train(recipe, fold=0, resume=True)
    assert again.folder != whole.folder
    for file in ("last", "best", "predictions"):
        one, two = (load_tensors(run.arm_folder(0, "fused") / f"{file}.safetensors")[0] for run in (whole, again))
        assert set(one) == set(two) and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.slow
def test_kills_change_no_bit(tiny, tmp_path):
    recipe = tiny(BESIDE, STAGE, CONSISTENT, "train.epochs=150", "train.patience=0", "train.checkpoint_seconds=0.001")
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(runs, *more):
        words = [sys.executable, "-m", "fusionkit", "train", str(tmp_path / "r.yaml"), f"run.dir={tmp_path / runs}"]
        return subprocess.Popen([*words, "--no-report", "--no-export", "--fold", "0", *more], env=environment)

    assert start("whole").wait(300) == 0
    cut = start("cut")
    kills = 0
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(2)
        if list((tmp_path / "cut").rglob("last.safetensors")):
            if cut.poll() is not None:
                break
            cut.kill()
            cut.wait()
            kills += 1
            if kills == 3:
                break
            cut = start("cut", "--resume")
            time.sleep(4)
    assert kills
    assert start("cut", "--resume").wait(300) == 0
    found = [next((tmp_path / runs).glob("*/*/fold-0/fused")) for runs in ("whole", "cut")]
    for file in ("last", "best", "predictions"):
        one, two = (load_tensors(folder / f"{file}.safetensors")[0] for folder in found)
        assert set(one) == set(two) and all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_run_is_scored_asked_and_reported_as_others_are(tiny):
    run = train(tiny(BESIDE, STAGE, "modalities.eeg.normalise.kind=subject"))
    summary = summarise(run)
    assert summary.tasks["target"].labelled == 48 and summary.tasks["target"].groups == 6
    page = build_report(run, summary)
    assert "0 unlabelled" in page and "adds 30 records without labels" in page
    _, answered = answer_held_out(run.folder)
    assert answered.scored.sum() == 48 == len(answered.study.records)  # nothing is asked of the others
    found = np.stack([answered.predictions["target"][row] for row in range(48)])
    for fold, result in run.results("fused").items():
        said = torch.from_numpy(result.decisions["test"]["all"]["target"]).softmax(-1).numpy()
        assert np.allclose(found[result.rows["test"]], said, atol=1e-5), fold
    other = ask(open_trained(run.folder, ["data.subjects=2", "data.seed=8"]), labels=False)
    assert len(other.study.records) == 16


def test_a_recipe_that_changes_its_second_source_is_no_resume(tiny):
    recipe = tiny(BESIDE, STAGE)
    pretrain(recipe, fold=0)
    with pytest.raises(ConfigError, match="needs the recipe that began the run"):
        pretrain(tiny(BESIDE, STAGE, "data.unlabelled.seed=6"), fold=0, resume=True)


def test_a_label_that_the_split_goes_by_is_none_of_theirs(tmp_path, loaded):
    """Ages are groups of the split and what is to be told: of unlabelled records they only say which group is meant."""
    for called, count, first in (("own", 24, 0), ("more", 12, 6)):
        values = np.random.default_rng(first).normal(size=(count, 1, 100)).astype("f4")
        people, ages = [f"{called}{n // 2}" for n in range(count)], first + np.arange(count) // 2
        np.savez(
            tmp_path / f"{called}.npz",
            sig=values,
            rate=np.array(100),
            subject=np.array(people),
            age=ages,
            sort=ages % 2,
        )
    (tmp_path / "r.yaml").write_text(
        f"""\
name: ages
run: {{dir: {tmp_path}}}
data:
  kind: npz
  path: {tmp_path}/own.npz
  rates: {{sig: rate}}
  split: {{kind: k_fold, by: age, folds: 2, validation: 0.3}}
  unlabelled: {{kind: npz, path: {tmp_path}/more.npz, rates: {{sig: rate}}}}
modalities: {{sig: {{kind: signal, encoder: {{kind: mlp}}}}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{age: {{kind: regression}}, sort: {{kind: classification}}}}
train: {{epochs: 1, batch: 8, device: cpu, single_sensors: false, consistency: [{{kind: uda, ratio: 1}}]}}
"""
    )
    run = train(load_recipe(str(tmp_path / "r.yaml")), fold=0)
    assert loaded[1] and all(loaded[1])
    records, (fold, _) = opened(run)
    asked = {records.labels["age"][row] for part in ("validation", "test") for row in fold[part]}
    assert {records.labels["age"][row] for row in range(24, 36)} & asked
    assert not {records.labels["age"][row] for row in fold["unlabelled"]} & asked
