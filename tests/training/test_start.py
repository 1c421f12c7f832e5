"""Encoders of another run: what is taken, what is refused, how training treats them."""

import json
import shutil
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.objective import TaskObjective
from fusionkit.training.run import pretrain, train
from fusionkit.training.start import ENCODERS, HeldBack, read_start
from fusionkit.training.update import JointUpdate, decay_groups

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 1, batch: 8}"


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def best(run, arm="fused", fold=0):
    tensors = load_tensors(run.arm_folder(fold, arm) / "best.safetensors")[0]
    return {name.removeprefix("model.model."): value for name, value in tensors.items()}


@pytest.fixture
def pretrained(tiny):
    """A run of both folds."""
    return pretrain(tiny(STAGE, "name=before"))


def test_encoders_of_the_same_fold_are_taken_to_the_bit(tiny, pretrained):
    run = train(tiny(f"init.from={pretrained.folder}", "init.freeze=encoders"))
    for fold in (0, 1):
        weights = load_tensors(pretrained.folder / f"fold-{fold}/pretrained/{ENCODERS}")[0]
        found = best(run, fold=fold)
        assert weights and all(torch.equal(found[name], value) for name, value in weights.items())
        assert (run.folder / f"fold-{fold}/fused/files/text/tokenizer.json").read_bytes() == (
            pretrained.folder / f"fold-{fold}/pretrained/files/text/tokenizer.json"
        ).read_bytes()


def test_a_trained_run_gives_its_trained_encoders(tiny):
    before = train(tiny("name=before"), fold=0)
    run = train(tiny(f"init.from={before.folder}", "init.freeze=encoders"), fold=0)
    old, new = best(before), best(run)
    names = [name for name in old if name.startswith(("encoders.", "front_ends.", "standardise."))]
    assert names and all(torch.equal(old[name], new[name]) for name in names)
    assert any(not torch.equal(old[name], new[name]) for name in old if name.startswith("heads."))


@pytest.mark.parametrize(
    "change", ["data.split.folds=3", "seed=4", "data.split.validation=0.5", "data.split.by=record"]
)
def test_another_split_is_refused_unless_there_is_a_reason(tiny, tmp_path, pretrained, change):
    with pytest.raises(ConfigError, match=r"init\.from: .* has another split, .* init\.transductive='<reason>'"):
        train(tiny(f"init.from={pretrained.folder}", change), fold=0)
    assert not (tmp_path / "runs" / "tiny").exists()
    notes = Notes()
    why = "init.transductive=the encoders are to know these people"
    run = train(tiny(f"init.from={pretrained.folder}", change, why), fold=0, listener=notes)
    told = [note for note in run.facts["notes"] if note.startswith("transductive: encoders come from")]
    assert len(told) == 1 and told[0].endswith("the encoders are to know these people")
    assert f"note: {told[0]}" in notes.lines


@pytest.mark.parametrize("through", [(), (STAGE,)])
def test_a_reason_is_asked_for_again_of_who_begins_with_a_run_that_needed_one(tiny, tmp_path, pretrained, through):
    """The run between has this very split, but its encoders have seen another one's training records."""
    why = "init.transductive=to see"
    between = train(tiny(f"init.from={pretrained.folder}", "name=between", "data.split.folds=3", why, *through), fold=0)
    last = (f"init.from={between.folder}", "data.split.folds=3")
    with pytest.raises(ConfigError, match=r"init\.from: .* began with encoders that may have seen .*'to see'"):
        train(tiny(*last), fold=0)
    assert not (tmp_path / "runs" / "tiny").exists()
    notes = train(tiny(*last, why), fold=0).facts["notes"]
    assert any(note.startswith("transductive: encoders come from") for note in notes)


def test_encoders_that_knew_labels_which_are_hidden_now_are_told_of(tiny):
    def told(before):
        recipe = tiny(f"init.from={before.folder}", "data.labels={keep: 6}", "train.epochs=1")
        return [note for note in train(recipe, fold=0).facts["notes"] if "labels that data.labels hides here" in note]

    assert len(told(train(tiny("name=all", "train.epochs=1"), fold=0))) == 1
    assert told(train(tiny("name=few", "data.labels={keep: 6}", "train.epochs=1"), fold=0)) == []


def test_encoders_of_another_fold_put_in_its_place_are_refused(tiny, pretrained):
    folds = [pretrained.folder / f"fold-{fold}" / "pretrained" for fold in (0, 1)]
    shutil.rmtree(folds[0])
    shutil.copytree(folds[1], folds[0])
    with pytest.raises(ConfigError, match="has another split"):
        train(tiny(f"init.from={pretrained.folder}"), fold=0)


def test_a_split_that_was_edited_is_refused(tiny, pretrained):
    path = pretrained.folder / "split.json"
    content = json.loads(path.read_text())
    fold = content["folds"][0]
    fold["train"].append(fold["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="has another split"):
        train(tiny(f"init.from={pretrained.folder}"), fold=0)


def test_a_fold_that_is_not_there_is_refused(tiny):
    before = pretrain(tiny(STAGE, "name=before"), fold=0)
    assert train(tiny(f"init.from={before.folder}"), fold=0).folds() == [0]
    with pytest.raises(DataError, match=r"init\.from: .*fold 1 must be trained or pretrained to the end"):
        train(tiny(f"init.from={before.folder}", "name=other"), fold=1)


def test_encoders_that_are_built_otherwise_are_refused(tiny, tmp_path, pretrained):
    with pytest.raises(
        DataError, match=r"the encoder of 'eeg' must be built as the recipe's, but .* is \(.*\) there and"
    ):
        train(tiny(f"init.from={pretrained.folder}", "fusion.dim=16"), fold=0)
    with pytest.raises(DataError, match=r"the encoder of 'eeg' must be built as the recipe's"):
        train(tiny(f"init.from={pretrained.folder}", "modalities.eeg.encoder={kind: gru}"), fold=0)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_sensors_that_the_other_run_lacks_begin_anew(tiny):
    before = pretrain(tiny(STAGE, "name=before", "modalities=text"), fold=0)
    run = train(tiny(f"init.from={before.folder}", "init.freeze=encoders", "train.single_sensors=true"), fold=0)
    weights = load_tensors(before.folder / f"fold-0/pretrained/{ENCODERS}")[0]
    for arm in ("fused", "text"):
        found = best(run, arm)
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert (run.arm_folder(0, "eeg") / "predictions.safetensors").exists()


def test_a_run_without_a_sensor_of_the_recipe_is_refused(tiny):
    before = pretrain(tiny(STAGE, "name=before", "modalities=text"), fold=0)
    with pytest.raises(DataError, match=r"must have an encoder of eeg, but has those of text"):
        train(tiny(f"init.from={before.folder}", "modalities=eeg"), fold=0)


@pytest.mark.parametrize("cut", [0, 100, -20])
def test_a_file_that_is_cut_is_refused_by_name(tiny, pretrained, cut, capsys):
    path = pretrained.folder / f"fold-0/pretrained/{ENCODERS}"
    path.write_bytes(path.read_bytes()[:cut])
    recipe = pretrained.folder / "mine.yaml"
    recipe.write_text(dump_recipe(tiny(f"init.from={pretrained.folder}")))
    assert main(["train", str(recipe), "--fold", "0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: init.from: ") and str(path) in line


def test_a_folder_that_is_no_run_is_refused(tiny, tmp_path):
    with pytest.raises(DataError, match=r"init\.from: .* a run must be a folder with a recipe\.yaml"):
        train(tiny(f"init.from={tmp_path}"), fold=0)


def test_a_resumed_fold_reads_no_file_that_a_stranger_put_there(tiny, pretrained):
    """Encoders of another split in a run's own folder are refused, too."""
    path = pretrained.folder / f"fold-0/pretrained/{ENCODERS}"
    tensors, facts = load_tensors(path)
    save_tensors(path, tensors, {**facts, "split": "of others"})
    with pytest.raises(DataError, match="must be of this fold and split"):
        pretrain(tiny(STAGE, "name=before"), fold=0, resume=True)


def test_frozen_encoders_thaw_at_their_epoch(tiny, pretrained, monkeypatch):
    """Bits after every epoch: the same up to the second, moved after the third."""
    seen = []
    close = TaskObjective.close_epoch

    def remember(self):
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return close(self)

    monkeypatch.setattr(TaskObjective, "close_epoch", remember)
    changes = ("init.freeze=until(2)", "train.epochs=3", "train.patience=0")
    train(tiny(f"init.from={pretrained.folder}", *changes), fold=0)
    weights = load_tensors(pretrained.folder / f"fold-0/pretrained/{ENCODERS}")[0]
    for epoch, state in enumerate(seen):
        same = all(torch.equal(state[name], value) for name, value in weights.items())
        assert same == (epoch < 2)
    assert any(not torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_a_stop_while_encoders_are_frozen_goes_on_to_the_same_bits(tiny, pretrained, monkeypatch):
    changes = (f"init.from={pretrained.folder}", "init.freeze=until(1)", "init.lr_scale=0.5", "train.epochs=3")
    whole = best(train(tiny(*changes), fold=0))
    request, steps = StopRequest(), []
    settle = TaskObjective.settle

    def stop(self):
        settle(self)
        steps.append(1)
        request.signal = 15 * (len(steps) == 1)

    @contextmanager
    def asked():
        yield request

    monkeypatch.setattr(TaskObjective, "settle", stop)
    monkeypatch.setattr("fusionkit.training.run.stop_on_signals", asked)
    with pytest.raises(Interrupted):
        train(tiny(*changes), fold=0)
    monkeypatch.undo()
    again = best(train(tiny(*changes), fold=0, resume=True))
    assert all(torch.equal(again[name], value) for name, value in whole.items())


class Two(nn.Module):
    """Two layers, of which the first was trained before."""

    def __init__(self, frozen=0.0, scale=1.0):
        super().__init__()
        self.old, self.new = nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.held = HeldBack([self.old], frozen, scale)

    def scales(self):
        return self.held.scales()

    def forward(self, batch, generator):
        return self.new(self.old(batch)).square().mean()


def test_a_scaled_rate_moves_parameters_by_that_part():
    """The first step of Adam without decay is the rate itself, whatever the gradient."""
    made = Two(scale=0.1)
    update = JointUpdate(made, made, weight_decay=0.0, clip=None, precision=None, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in made.named_parameters()}
    update(torch.randn(8, 3), torch.Generator(), 1e-2)
    moved = {name: (value - before[name]).abs().max().item() for name, value in made.named_parameters()}
    assert moved["new.weight"] == pytest.approx(1e-2, rel=1e-2)
    assert moved["old.weight"] == pytest.approx(1e-3, rel=1e-2)


def test_groups_are_as_before_where_nothing_is_scaled():
    groups = decay_groups(Two(), 0.1)
    assert [len(group["params"]) for group in groups] == [1, 3] and {group["scale"] for group in groups} == {1.0}


def test_frozen_parts_are_in_evaluation_mode_and_unknown_to_the_optimiser():
    made = Two(frozen=float("inf"))
    update = JointUpdate(made, made, weight_decay=0.1, clip=1.0, precision=None, device=torch.device("cpu"))
    before = {name: value.clone() for name, value in made.old.state_dict().items()}
    for epoch in (0, 1):
        made.train()
        made.held.begin_epoch(epoch)
        update(torch.randn(8, 3), torch.Generator(), 1e-1)
    assert all(torch.equal(value, before[name]) for name, value in made.old.state_dict().items())
    assert sum(len(group["params"]) for group in decay_groups(made, 0.1)) == 2


def test_start_knows_its_sensors(pretrained):
    start = read_start(pretrained.folder, 0)
    assert start.sensors == ["eeg", "text"] and start.source.endswith("fold-0/pretrained")
