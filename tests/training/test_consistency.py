"""Semi-supervised training from the recipe on: what it learns from, what it repeats, what it refuses."""

import os
import signal

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import consistency
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.run import train
from fusionkit.training.trained import load_trained

FEW = ("data.labels.keep=6", "train.patience=0", "train.batch=4")


def with_method(text):
    return f"train.consistency=[{{{text}}}]"


def weights(run, file="last"):
    tensors, _ = load_tensors(run.arm_folder(0, "fused") / f"{file}.safetensors")
    return tensors


@pytest.mark.parametrize("kind", consistency.kinds())
def test_every_method_trains_from_a_recipe_and_its_model_answers(kind, tiny):
    run = train(tiny(*FEW, with_method(f"kind: {kind}")), fold=0)
    history = (run.arm_folder(0, "fused") / "history.csv").read_text().splitlines()
    assert f"consistency_{kind}" in history[0].split(",") and len(history) == 3
    assert load_trained(run, 0).model is not None
    (note,) = [note for note in run.facts["notes"] if "data.labels" in note]
    assert "training learns from records without labels" in note


def test_records_without_labels_change_what_is_learned(tiny):
    plain, made = (train(tiny(*FEW, *more), fold=0) for more in ([], [with_method("kind: pi_model, ramp: 0.0")]))
    one, two = weights(plain), weights(made)
    assert any(not torch.equal(value, two[name]) for name, value in one.items() if name.startswith("model.model."))


class Stop(Listener):
    def epoch(self, entry):
        if entry["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("kind", ["uda", "interpolation"])
def test_a_stopped_training_goes_on_to_the_same_bits_its_teacher_too(kind, tiny):
    recipe = tiny(*FEW, "train.epochs=4", with_method(f"kind: {kind}"))
    whole = train(recipe, fold=0)
    with pytest.raises(Interrupted):
        train(recipe, fold=0, listener=Stop())
    again = train(recipe, fold=0, resume=True)
    assert again.folder != whole.folder
    one, two = weights(whole), weights(again)
    assert set(one) == set(two) and all(torch.equal(value, two[name]) for name, value in one.items())
    assert kind == "uda" or any("teacher" in name for name in one)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([with_method("kind: uda, temprature: 1")], r"no such option; did you mean 'temperature'\?"),
        ([with_method("kind: udas")], "no consistency component named 'udas'; did you mean 'uda'"),
        ([with_method("kind: uda, ratio: 0")], r"consistency\.0\.ratio.*greater than or equal to 1, got 0"),
        ([with_method("kind: pseudo_label, begin: 0.9, full: 0.5")], r"begin must come before full, but 0\.9 does"),
        (
            ["train.consistency={kind: uda}"],
            r"train\.consistency: must be a list of methods, but got \{'kind': 'uda'\}",
        ),
        (["train.consistency=[{kind: uda, ratio: 2}, {kind: vat}]"], r"ratio must be one for all, but got \[2, 3\]"),
        ([with_method("kind: uda"), "train.mixup=0.2"], r"mixup=0\.2 mixes records"),
        ([with_method("kind: uda"), "train.task_mode=random"], "belongs to no single task, but task_mode is random"),
        ([with_method("kind: uda"), "tasks={target: {kind: regression}}"], "uda needs a task that answers with prob"),
        (["data.labels={}"], r"data\.labels\.keep: must be given"),
        (["data.labels={keep: 0}"], r"data\.labels\.keep.*greater than or equal to 1, got 0"),
        (["data.labels={keep: 3, by: person}"], r"data\.labels\.by"),
    ],
)
def test_what_cannot_be_is_refused_while_the_recipe_is_read(overrides, message, tiny):
    with pytest.raises(ConfigError, match=message):
        tiny(*overrides)


def test_a_resolved_recipe_reads_back_with_every_option(tiny):
    recipe = tiny("data.labels.keep=6", "train.consistency=[{kind: uda, ratio: 2}, {kind: vat, ratio: 2}]")
    again = parse_recipe(dump_recipe(recipe), "again.yaml")
    assert again.resolved() == recipe.resolved()
    uda, vat = again.resolved()["train"]["consistency"]
    assert uda["temperature"] == 0.4 and vat["epsilon"] == 6.0 and again.data.labels.by == "record"
