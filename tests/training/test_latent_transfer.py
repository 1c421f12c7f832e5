"""From a run of one sensor to another sensor that the run's own head answers for, whole runs on a made study."""

import json

import pytest
import torch

from fusionkit.core.errors import DataError
from fusionkit.evaluation.summary import summarise, write_summary
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.problem import RecipeError
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.run import Run, train

RECIPE = """
name: NAME
seed: 1
data:
  kind: synthetic
  subjects: 8
  records: 30
  redundant: 2.0
  noise: 0.3
  split: {kind: k_fold, by: subject, folds: 2, validation: 0.25}
modalities:
  image: {kind: image, encoder: {kind: mlp, hidden: 32}}
"""
OLD = """
fusion: {kind: vote, rule: mean, dim: 8}
tasks: {target: {kind: classification}}
train: {epochs: 16, batch: 16, lr: 3e-3, monitor: last, patience: 0, device: cpu}
"""
NEW = """
  text: {kind: text, vocab_size: 300, width: 16, encoder: {kind: mlp, hidden: 32}}
pretrain:
  objectives: [{kind: latent_transfer, teacher: image}]
  encoders: [text]
  epochs: 40
  batch: 16
  lr: 5e-3
fusion: {kind: vote, rule: mean, dim: 8}
tasks: {target: {kind: classification}}
init: {from: OLD, freeze: encoders, heads: {image: image, text: image}}
train: {epochs: 1, batch: 16, monitor: last, patience: 0, device: cpu}
"""


def read(folder, text, *overrides):
    return parse_recipe(text, "transfer.yaml", [f"run.dir={folder}", *overrides])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Run, Run]:
    """The run of the old sensor alone, and that in which the new one learned from it."""
    folder = tmp_path_factory.mktemp("transfer")
    old = train(read(folder, RECIPE.replace("NAME", "old") + OLD), fold=0)
    text = (RECIPE.replace("NAME", "new") + NEW).replace("OLD", str(old.folder))
    return old, train(read(folder, text), fold=0)


def weights(run: Run, arm: str = "fused") -> dict[str, torch.Tensor]:
    tensors = load_tensors(run.arm_folder(0, arm) / "best.safetensors")[0]
    kept = "model.model."
    return {name.removeprefix(kept): value for name, value in tensors.items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def accuracy(runs) -> dict[str, float]:
    """By model: old is the old run's, the others are the new run's fused model and each sensor alone."""
    found: dict[str, float] = {}
    for name, run in zip(("old", "new"), runs, strict=True):
        write_summary(run, summarise(run))
        rows = json.loads((run.folder / "metrics.json").read_text())["tasks"]["target"]["rows"]
        found |= {f"{name} {arm}": row["accuracy"]["value"] for arm, row in rows.items()}
    return found


def test_old_weights_are_the_same_to_the_bit_and_the_new_sensor_has_the_old_head(runs) -> None:
    old, new = weights(runs[0]), weights(runs[1])
    for name, value in old.items():
        assert torch.equal(new[name], value), name
    heads = {name: value for name, value in new.items() if name.startswith("branch_heads.text.")}
    assert heads and all(torch.equal(value, old[name.replace(".text.", ".image.")]) for name, value in heads.items())
    alone = weights(runs[1], "text")
    assert all(torch.equal(value, new[name]) for name, value in alone.items())


def test_the_old_head_serves_the_new_sensor_alone_and_both(accuracy) -> None:
    assert accuracy["old fused"] > 0.8
    assert accuracy["new image alone"] == accuracy["new fused without text"] == accuracy["old fused"]
    assert accuracy["new text alone"] == accuracy["new fused without image"] > 0.65  # half of the labels are each class
    assert accuracy["new fused"] > accuracy["old fused"] - 0.03


def test_the_encoder_of_the_new_sensor_learned_it_in_pretraining(runs) -> None:
    pretrained = load_tensors(runs[1].folder / "fold-0" / "pretrained" / "encoders.safetensors")[0]
    new = weights(runs[1])
    assert all(torch.equal(new[name], value) for name, value in pretrained.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("init.heads={sound: image}", "no branch named 'sound'"),
        ("fusion={kind: rcft, dim: 8}", "are for the branches of a late node, but rcft is none"),
        ("init={heads: {text: image}}", "init.from names none"),
    ],
)
def test_heads_that_cannot_be_taken_are_refused_when_the_recipe_is_read(tmp_path, change, message) -> None:
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, RECIPE + NEW, change)


def test_a_head_that_the_other_run_lacks_is_refused_by_name(runs, tmp_path) -> None:
    text = (RECIPE.replace("NAME", "new") + NEW).replace("OLD", str(runs[0].folder))
    with pytest.raises(DataError, match=r"head of 'sound' must be one to be taken, but it has those of \['image'\]"):
        train(read(tmp_path, text, "init.heads={text: sound}", "pretrain.epochs=1"), fold=0)
