"""Stages of pretraining: what they leave, what they never see, how they go on after a stop, how they say collapse."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.loading import Loader
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.pretraining.objective import PretrainingObjective
from fusionkit.training import stage as module
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.out_of_fold import notes_of_held_out
from fusionkit.training.run import pretrain, train
from fusionkit.training.stage import notes_of_looks
from fusionkit.training.start import ENCODERS, read_start

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 2, batch: 8}"
TWO = (
    "pretrain=[{objectives: [{kind: nt_xent}], epochs: 2, batch: 8}, {objectives: [{kind: nt_xent}], encoders: [eeg]}]"
)


class Notes(Listener):
    def __init__(self):
        self.lines, self.ended, self.epochs = [], [], []

    def say(self, text):
        self.lines.append(text)

    def end(self, arm, fold, seconds):
        self.ended.append((fold, arm))

    def epoch(self, entry):
        self.epochs.append(dict(entry))


def encoders(run, fold=0):
    return load_tensors(run.folder / f"fold-{fold}" / "pretrained" / ENCODERS)


def test_a_pretrained_run_leaves_what_its_docstring_says(tiny):
    notes = Notes()
    run = pretrain(tiny(STAGE), listener=notes)
    assert notes.ended == [(0, "pretrained"), (1, "pretrained")]
    assert sum(line.endswith("records/s") for line in notes.lines) == 2
    assert list(run.pretrained()) == [0, 1] and run.folds() == []
    for fold in (0, 1):
        folder = run.folder / f"fold-{fold}" / "pretrained"
        assert {"stage-0", "files", "history.csv", ENCODERS} == {part.name for part in folder.iterdir()}
        weights, facts = encoders(run, fold)
        assert {name.partition(".")[0] for name in weights} == {"encoders", "front_ends", "standardise"}
        assert {name.split(".")[1] for name in weights if name.startswith("encoders.")} == {"eeg", "text"}
        assert {name.split(".")[1] for name in weights if name.startswith("front_ends.")} == {"text"}
        with Study.open(run.study) as study:
            split = Split.load(run.folder / "split.json", study.records)
        assert facts["sensors"] == ["eeg", "text"] and facts["split"] == split.digest and facts["fold"] == fold
        assert facts["records"] == len(split.folds[fold].train) and facts["records_per_second"] > 0
        with open(folder / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["stage"], row["epoch"]) for row in rows] == [("0.0", "0.0"), ("0.0", "1.0")]
        assert {f"{what}_{name}" for what in ("spread", "alignment", "uniformity") for name in ("eeg", "text")} <= set(
            rows[0]
        )


def test_the_same_seed_repeats_to_the_bit_and_another_does_not(tiny):
    one, two, other = (encoders(pretrain(tiny(STAGE, seed), fold=0))[0] for seed in ("seed=3", "seed=3", "seed=4"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(one[n].shape != other[n].shape or not torch.equal(one[n], other[n]) for n in one)


def test_train_pretrains_first_with_the_same_bits_and_begins_with_them(tiny):
    first = pretrain(tiny(STAGE), fold=0)
    notes = Notes()
    run = train(tiny(STAGE, "init.freeze=encoders", "train.single_sensors=true"), fold=0, listener=notes)
    assert notes.ended == [(0, "pretrained"), (0, "fused"), (0, "eeg"), (0, "text")]
    wanted, found = encoders(first)[0], encoders(run)[0]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for arm, sensors in (("fused", ("eeg", "text")), ("eeg", ("eeg",)), ("text", ("text",))):
        trained = load_tensors(run.arm_folder(0, arm) / "best.safetensors")[0]
        for name, value in wanted.items():
            if name.split(".")[1] in sensors:
                assert torch.equal(trained[f"model.model.{name}"], value), (arm, name)
    assert (run.arm_folder(0, "fused") / "files/text/tokenizer.json").read_bytes() == (
        run.folder / "fold-0/pretrained/files/text/tokenizer.json"
    ).read_bytes()


def test_train_with_resume_goes_on_from_a_pretrained_run(tiny):
    first = pretrain(tiny(STAGE), fold=0)
    notes = Notes()
    run = train(tiny(STAGE), fold=0, resume=True, listener=notes)
    assert run.folder == first.folder and notes.ended == [(0, "fused")] and run.folds() == [0]


def test_only_training_records_are_loaded_and_no_other_label_is_known(tiny, monkeypatch):
    """Every row that anything asks of the loader, and every label that it could give."""
    asked, labels = set(), []
    load, make = Loader.batch, Loader.__init__

    def batch(self, rows):
        asked.update(rows.tolist())
        return load(self, rows)

    def init(self, study, inputs, targets, *more):
        labels.append({name: np.flatnonzero(~np.isnan(values)) for name, values in targets.items()})
        make(self, study, inputs, targets, *more)

    monkeypatch.setattr(Loader, "batch", batch)
    monkeypatch.setattr(Loader, "__init__", init)
    run = pretrain(tiny(STAGE), fold=1)
    with Study.open(run.study) as study:
        fold = Split.load(run.folder / "split.json", study.records).folds[1]
    assert asked == set(fold.train.tolist())
    assert labels and all(set(known["target"].tolist()) == set(fold.train.tolist()) for known in labels)


def test_what_validation_and_test_records_hold_changes_no_bit(tiny, monkeypatch):
    """Signals, sentences and labels of all other records are replaced before anything is read of them."""
    clean = encoders(pretrain(tiny(STAGE), fold=0))[0]
    held, real = {}, module.Material

    class Poisoned(real):
        def __init__(self, recipe, study, *more):
            fold = module_split["split"].folds[0]
            held["rows"] = np.concatenate([fold.validation, fold.test])
            super().__init__(recipe, study, *more)

        def loader(self, recipe, modalities, targets):
            made = super().loader(recipe, modalities, targets)
            load = made.batch

            def batch(rows):
                found = load(rows)
                strange = torch.from_numpy(np.isin(np.asarray(rows.cpu()), held["rows"]))
                for name, level in found.inputs.items():
                    values = level.values.clone()
                    values[strange] = 7 if not values.is_floating_point() else 1e6
                    found.inputs[name] = level._replace(values=values)
                return found

            made.batch = batch
            return made

        def fit_modalities(self, recipe, rows, *more):
            assert not set(rows.tolist()) & set(held["rows"].tolist())
            return super().fit_modalities(recipe, rows, *more)

    module_split = {}
    divide = sys.modules["fusionkit.training.run"].divide

    def remember(recipe, records):
        module_split["split"] = divide(recipe, records)
        return module_split["split"]

    monkeypatch.setattr("fusionkit.training.run.divide", remember)
    monkeypatch.setattr("fusionkit.training.run.Material", Poisoned)
    poisoned = encoders(pretrain(tiny(STAGE), fold=0))[0]
    assert all(torch.equal(clean[name], poisoned[name]) for name in clean)


def test_a_later_stage_moves_only_its_encoders(tiny):
    """The text encoder is the same to the bit after a second stage of EEG alone."""
    one, two = (pretrain(tiny(stages), fold=0) for stages in (STAGE, TWO))
    first = load_tensors(two.folder / "fold-0/pretrained/stage-0/last.safetensors")[0]
    done = encoders(two)[0]
    for name, value in encoders(one)[0].items():
        assert torch.equal(first[f"model.model.{name}"], value)
        assert name.startswith(("encoders.eeg", "front_ends.eeg")) or torch.equal(done[name], value), name
    assert any(not torch.equal(done[name], first[f"model.model.{name}"]) for name in done)
    history = (two.folder / "fold-0/pretrained/history.csv").read_text().splitlines()
    assert len(history) == 1 + 2 + 20


def test_looks_that_nothing_makes_differ_are_noted(tiny):
    def told(objectives, *more):
        return notes_of_looks(tiny(f"pretrain={{objectives: [{objectives}], epochs: 1}}", *more))

    noise = "augment.eeg=[{kind: channel_noise}]"
    (line,) = told("{kind: nt_xent}, {kind: moco}")
    assert line.startswith("pretrain.0: nt_xent, moco compares two looks at eeg, text, but augment names none of these")
    (line,) = told("{kind: triplet}", noise)
    assert "two looks at text, but" in line
    assert told("{kind: triplet}", noise, "pretrain.encoders=[eeg]") == []
    assert told("{kind: triplet, task: target}") == told("{kind: supcon}") == told("{kind: masked_sensor}") == []
    notes = Notes()
    run = pretrain(tiny(STAGE), fold=0, listener=notes)
    assert any("compares two looks at eeg, text" in note for note in run.facts["notes"])


@pytest.mark.parametrize("before", [(), (STAGE,)])
def test_stacking_says_that_encoders_saw_what_is_held_out(tiny, before):
    made = tiny("fusion={kind: stacking, dim: 8, folds: 2}", *before)
    assert len(notes_of_held_out(made)) == len(before)
    assert notes_of_held_out(tiny("fusion={kind: vote, dim: 8}", *before)) == []


def test_labels_that_are_hidden_stay_hidden(tiny, monkeypatch):
    known, make = [], Loader.__init__

    def init(self, study, inputs, targets, *more):
        known.append(int((~np.isnan(targets["target"])).sum()))
        make(self, study, inputs, targets, *more)

    monkeypatch.setattr(Loader, "__init__", init)
    run = pretrain(tiny(STAGE, "data.labels={keep: 6}"), fold=0)
    assert known == [6]
    assert any(note.startswith("data.labels hides labels: training records") for note in run.facts["notes"])


def test_more_labels_than_there_are_cannot_be_kept_in_pretraining_either(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("fusionkit.training.run.open_study", None)  # refused before any signal is read
    with pytest.raises(DataError, match=r"fold 0: data\.labels\.keep must not exceed the 16 labelled"):
        pretrain(tiny(STAGE, "data.labels={keep: 17}"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("moment", [1, 3, 4])
def test_a_stopped_stage_goes_on_to_the_same_bits(tiny, monkeypatch, moment):
    recipe = tiny(TWO, "pretrain.1.epochs=1")
    whole = encoders(pretrain(recipe, fold=0))[0]
    request, steps = StopRequest(), []
    settle = module.StageObjective.settle

    def stop(self):
        settle(self)
        steps.append(1)
        if len(steps) == moment:
            request.signal = 15

    @contextmanager
    def asked():
        yield request

    monkeypatch.setattr(module.StageObjective, "settle", stop)
    monkeypatch.setattr("fusionkit.training.run.stop_on_signals", asked)
    with pytest.raises(Interrupted):
        pretrain(recipe, fold=0)
    monkeypatch.undo()
    again = pretrain(recipe, fold=0, resume=True)
    found, facts = encoders(again)
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert facts["sensors"] == ["eeg", "text"]


def test_a_stage_with_several_objectives_logs_each(tiny):
    both = "pretrain={objectives: [{kind: nt_xent}, {kind: nt_xent, temperature: 0.1, weight: 0.5}], epochs: 1}"
    notes = Notes()
    pretrain(tiny(both), fold=0, listener=notes)
    (entry,) = notes.epochs
    assert entry["loss"] == pytest.approx(entry["loss_nt_xent"] + 0.5 * entry["loss_nt_xent_1"], rel=1e-5)


@pytest.fixture
def objective(monkeypatch):
    """Register an objective for one test."""

    def register(kind, cls):
        registry.objectives.kinds()
        monkeypatch.setitem(registry.objectives._classes, kind, cls)

    return register


def test_collapse_is_said_and_kept(tiny, objective):
    class Flat(PretrainingObjective):
        """All embeddings are to be one."""

        def forward(self, looks, generator):
            return sum((looks.view(0).readout(name) - 1).square().mean() for name in self.given.sensors)

    objective("flat", Flat)
    notes = Notes()
    run = pretrain(
        tiny("pretrain={objectives: [{kind: flat}], epochs: 60, lr: 0.05, weight_decay: 0, encoders: [eeg]}"),
        fold=0,
        listener=notes,
    )
    assert notes.epochs[-1]["spread_eeg"] < notes.epochs[0]["spread_eeg"]
    told = [line for line in notes.lines if "embeddings of eeg are collapsed" in line]
    assert (len(told) == 1) == (notes.epochs[-1]["spread_eeg"] < 0.02)
    assert encoders(run)[1]["collapsed"] == (["eeg"] if told else [])
    assert told, notes.epochs[-1]


def test_a_loss_that_is_not_finite_stops_with_the_records_named(tiny, objective, tmp_path):
    class Broken(PretrainingObjective):
        """Divides by nothing."""

        def forward(self, looks, generator):
            return looks.view(0).readout("eeg").sum() / 0

    objective("broken", Broken)
    recipe = tiny("pretrain={objectives: [{kind: broken}], epochs: 1}")
    with pytest.raises(DataError, match=r"the loss must be finite, but is .* in epoch 0, step 0, records s"):
        pretrain(recipe, fold=0)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_an_objective_that_does_not_fit_is_refused_by_its_place(tiny):
    with pytest.raises(ConfigError, match=r"pretrain\.objectives\.0: rotation learns from image sensors"):
        tiny("pretrain={objectives: [{kind: rotation}]}")


@pytest.mark.parametrize("when", ["__init__", "bind"])
def test_what_only_data_tell_is_refused_before_any_stage_trains(tiny, tmp_path, objective, when):
    """A later stage that does not fit costs no training, and the run leaves no folder."""

    class Unfit(PretrainingObjective):
        """Refuses the windows of this study."""

        def __init__(self, given):
            super().__init__(given)
            if when == "__init__":
                raise ConfigError("windows must be others")

        def bind(self, model):
            raise ConfigError("windows must be others")

        def forward(self, looks, generator):
            raise AssertionError

    objective("unfit", Unfit)
    notes = Notes()
    later = "pretrain=[{objectives: [{kind: nt_xent}], epochs: 1}, {objectives: [{kind: unfit}]}]"
    with pytest.raises(ConfigError, match=r"pretrain\.1: .*windows must be others"):
        pretrain(tiny(later), fold=0, listener=notes)
    assert notes.epochs == [] and not (tmp_path / "runs" / "tiny").exists()


def test_a_recipe_without_stages_is_refused(tiny):
    with pytest.raises(ConfigError, match="pretrain: must have a stage"):
        pretrain(tiny())


def test_an_objective_is_told_what_it_needs(tiny, objective):
    given = {}

    class Curious(PretrainingObjective):
        """Remembers."""

        def __init__(self, told):
            super().__init__(told)
            given["told"] = told
            self.layer = nn.Linear(told.dim, 1)

        def forward(self, looks, generator):
            return self.layer(looks.clean.readout("text")).mean()

    objective("curious", Curious)
    pretrain(tiny("pretrain={objectives: [{kind: curious}], encoders: [text], epochs: 3, batch: 8}"), fold=0)
    told = given["told"]
    assert told.sensors == ("text",) and told.dim == 8 and told.classes == {"target": 2}
    assert told.levels == {"eeg": "features", "text": "features"}
    assert 258 < told.vocabularies["text"] <= 300 and told.windows["text"] is None and told.windows["eeg"] is not None
    assert told.features["text"].trains and told.steps % 3 == 0


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(tiny, tmp_path):
    """Two stages, then training, killed again and again."""
    from fusionkit.recipe.write import dump_recipe

    stages = "pretrain=[{objectives: [{kind: nt_xent}], epochs: 150, batch: 8}, {objectives: [{kind: nt_xent}], epochs: 150}]"
    recipe = tiny(stages, "train.epochs=30", "train.checkpoint_seconds=0.001", "train.patience=0")
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(recipe))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}

    def command(runs, *more):
        verb = [sys.executable, "-m", "fusionkit", "train", str(path), f"run.dir={runs}", "--no-report", "--no-export"]
        return [*verb, "--fold", "0", *more]

    subprocess.run(command(tmp_path / "whole"), check=True, env=environment, cwd=tmp_path)
    runs, kills, rng = tmp_path / "cut", 0, random.Random(0)
    while kills < 10:
        begun = bool(list(runs.glob("tiny/*/recipe.yaml")))
        process = subprocess.Popen(command(runs, *(["--resume"] if begun else [])), env=environment, cwd=tmp_path)
        while not list(runs.glob("tiny/*/recipe.yaml")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 8))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(runs, "--resume"), check=True, env=environment, cwd=tmp_path)
    assert kills >= 5
    for file in ("pretrained/encoders", "pretrained/stage-1/last", "fused/best", "fused/predictions"):
        whole, cut = (
            load_tensors(next((tmp_path / name / "tiny").glob(f"*/fold-0/{file}.safetensors")))[0]
            for name in ("whole", "cut")
        )
        assert all(torch.equal(whole[name], cut[name]) for name in whole if not name.startswith("random")), file


def test_trained_encoders_of_a_run_are_preferred_to_pretrained_ones(tiny):
    run = train(tiny(STAGE), fold=0)
    trained, pretrained = read_start(run.folder, 0), encoders(run)[0]
    assert trained.sensors == ["eeg", "text"]
    assert any(not torch.equal(trained.weights[name], value) for name, value in pretrained.items())
