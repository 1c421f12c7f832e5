"""Streams of an intermediate operation that learn the tasks by themselves: heads, losses, weights, missing sensors."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.core.levels import Batch, Features, Tokens, pool
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.central_net import CentralNet
from fusionkit.fusion.gradient_blending import GradientBlending
from fusionkit.fusion.graph import parse_graph
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.classification import Classification
from fusionkit.heads.gate import TaskHeads
from fusionkit.training.objective import TaskObjective
from fusionkit.training.run import train

ROWS, DIM = 6, 4


class AsTokens(Encoder):
    """Features as they are."""

    def __init__(self):
        super().__init__()
        self.dim = DIM

    def forward(self, features):
        return Tokens(features.values[..., 0], features.mask, features.present, None)


def make(weight=1.0, shared=False, operation=None):
    graph = parse_graph({"kind": "central_net", "dim": DIM}, ["eeg", "text"])
    task = Classification(classes=["x", "y"])
    target = torch.tensor([0.0, 1, 0, torch.nan, 1, 1])
    task.fit(target.numpy(), "state")
    heads = [TaskHeads(DIM, {"state": task}, gate=False) for _ in range(3)]
    model = FusionModel(
        graph,
        front_ends={},
        encoders={"eeg": AsTokens(), "text": AsTokens()},
        operations={"fused": operation or CentralNet({"eeg": DIM, "text": DIM}, DIM, None, sensor_weight=weight)},
        merges={},
        branch_heads={},
        heads={"fused": heads[0]},
        stream_heads={} if shared else {"fused": {"eeg": heads[1], "text": heads[2]}},
    )
    here = torch.ones(ROWS, 2, dtype=torch.bool)
    present = {"eeg": torch.tensor([True, True, False, True, True, False]), "text": torch.ones(ROWS, dtype=torch.bool)}
    inputs = {name: Features(torch.randn(ROWS, 2, DIM, 1), here, present[name]) for name in present}
    return TaskObjective(model, {"state": task}, {"state": 2.0}), Batch(inputs, {"state": target}), heads, present


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("shared", [False, True])
def test_the_loss_is_that_of_the_answer_and_the_weighted_ones_of_every_sensor(weight, shared):
    objective, batch, heads, present = make(weight, shared)
    fused = objective.model.operations["fused"]({k: AsTokens()(v) for k, v in batch.inputs.items()})
    target = batch.targets["state"]

    def cross_entropy(head, tokens, here):
        rows = here & ~target.isnan()
        return F.cross_entropy(head(pool(tokens))["state"][rows], target[rows].long())

    wanted = cross_entropy(heads[0], fused.tokens, torch.ones(ROWS, dtype=torch.bool))
    for head, name in zip(heads[:1] * 2 if shared else heads[1:], ("eeg", "text"), strict=True):
        wanted = wanted + weight * cross_entropy(head, fused.streams[name], present[name])
    torch.testing.assert_close(objective(batch), 2 * wanted)


def test_blended_losses_count_as_blended_in_training_and_the_answer_alone_in_validation():
    operation = GradientBlending({"eeg": DIM, "text": DIM}, DIM, None)
    operation.weight.copy_(torch.tensor([0.5, 0.3, 0.2]))
    objective, batch, heads, present = make(operation=operation)
    fused = operation({k: AsTokens()(v) for k, v in batch.inputs.items()})
    target, apart = batch.targets["state"], []
    for head, tokens, here in [
        (heads[1], fused.streams["eeg"], present["eeg"]),
        (heads[2], fused.streams["text"], present["text"]),
        (heads[0], fused.tokens, present["text"]),
    ]:
        rows = here & ~target.isnan()
        apart.append(2 * F.cross_entropy(head(pool(tokens))["state"][rows], target[rows].long()))
    wanted = torch.stack(apart)
    torch.testing.assert_close(objective(batch), (operation.weight * wanted).sum())
    torch.testing.assert_close(objective.terms(batch).tasks.sum(), (operation.weight * wanted).sum())
    with torch.no_grad():
        torch.testing.assert_close(objective(batch), wanted[2])
        torch.testing.assert_close(objective.apart(objective.model(batch.inputs), batch.targets), wanted)


def test_what_is_absent_teaches_a_sensors_own_heads_nothing_and_they_answer_nothing():
    objective, batch, heads, _ = make()
    eeg = batch.inputs["eeg"]
    batch.inputs["eeg"] = eeg._replace(present=torch.zeros(ROWS, dtype=torch.bool))
    objective(batch).backward()
    assert not any(p.grad.any() for p in heads[1].parameters())
    assert all(p.grad.any() for p in heads[2].parameters())
    output = objective.model(batch.inputs)
    assert set(output.decisions) == {"state"} and set(output.alone) == {"fused.eeg", "fused.text"}
    assert not output.seen["fused.eeg"].any() and output.seen["fused.text"].all()


def test_a_recipe_trains_them_for_the_tasks_that_their_node_has_a_part_in(tiny, monkeypatch):
    graph = (
        "{dim: 8, graph: {joint: {kind: central_net, inputs: [eeg, text]}, all: {kind: vote, inputs: [joint, eeg]}}}"
    )
    made = []
    monkeypatch.setattr(FusionModel, "__init__", _recording(FusionModel.__init__, made))
    run = train(tiny(f"fusion={graph}", "train.epochs=1"), fold=0)
    model = made[0]
    assert set(model.stream_heads["joint"]) == {"eeg", "text"} and model.stream_weights == {
        "joint.eeg": 1.0,
        "joint.text": 1.0,
    }
    assert run.folder.is_dir()
    before = [p.detach().clone() for p in nn.ModuleList(model.stream_heads.values()).parameters()]
    assert before and all(p.isfinite().all() for p in before)


@pytest.mark.parametrize("late", ["vote", "trusted"])
def test_heads_are_shared_with_streams_unless_they_give_evidence(tiny, monkeypatch, late):
    joint = "{kind: bottleneck, readout: token, heads: 2, inputs: [eeg, text]}"
    graph = f"{{dim: 8, graph: {{joint: {joint}, all: {{kind: {late}, inputs: [joint, eeg]}}}}}}"
    made = []
    monkeypatch.setattr(FusionModel, "__init__", _recording(FusionModel.__init__, made))
    train(tiny(f"fusion={graph}", "train.epochs=1"), fold=0)
    model = made[0]
    assert ("joint" in model.stream_heads) == (late == "trusted")
    assert model._heads_alone("joint", "eeg") is not model.branch_heads["joint"] or late == "vote"


def _recording(build, made):
    def init(self, *args, **kwargs):
        build(self, *args, **kwargs)
        made.append(self)

    return init
