"""Fitting a model: every node in graph order, with what it takes, from training records, without a trace in gradients."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from fusionkit.core.levels import Batch, Features, FeatureShape, Tokens, scrub
from fusionkit.encoders.encoder import FeatureEncoder
from fusionkit.fusion.graph import Graph, Node
from fusionkit.fusion.model import FusionModel
from fusionkit.fusion.operation import EarlyFusion, IntermediateFusion, LateFusion


class Spread(FeatureEncoder):
    """Features as tokens, times a weight that can be told; dropout, to see whether it sleeps."""

    def __init__(self, width, factor):
        super().__init__(FeatureShape(width, 1), width)
        self.factor = nn.Parameter(torch.tensor(factor))
        self.dropout = nn.Dropout(0.5)

    def forward(self, features):
        clean = scrub(features)
        return Tokens(self.dropout(clean.values.squeeze(-1) * self.factor), clean.mask, clean.present)


class Recorder:
    """Keeps what its fit is given."""

    log: ClassVar[list[tuple[object, ...]]] = []

    def fit(self, training_batches, generator):
        first, second = list(training_batches()), list(training_batches())
        Recorder.log.append((self.name, first, second, torch.is_grad_enabled(), generator))
        self.offset.fill_(first[0][self.names[0]].values.mean())


class Early(Recorder, EarlyFusion):
    name, shape = "joint", FeatureShape(2, 1)

    def __init__(self, names):
        super().__init__({one: FeatureShape(2, 1) for one in names}, None)
        self.names = names
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, inputs):
        one = inputs[self.names[0]]
        return one._replace(values=one.values + self.offset)


class Middle(Recorder, IntermediateFusion):
    name = "middle"

    def __init__(self, names):
        super().__init__(dict.fromkeys(names, 2), 2, None)
        self.names = names
        self.register_buffer("offset", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        one = inputs[self.names[0]]
        return one._replace(values=one.values * self.weight + 10 * self.offset)

    def fit(self, training_batches, generator):
        super().fit(training_batches, generator)
        with torch.enable_grad():
            (self.weight * 2).backward()


class Late(Recorder, LateFusion):
    name = "late"

    def __init__(self, names, task):
        super().__init__(names)
        self.names, self.name = names, f"late {task}"
        self.register_buffer("offset", torch.zeros(()))

    def merge_log_probabilities(self, decisions, present):
        return decisions.mean(0)

    def merge_values(self, decisions, present):
        return decisions.mean(0)


class Heads(nn.Module):
    def forward(self, readout):
        return {"kind": readout.log_softmax(-1), "score": readout[:, :1]}


def model():
    nodes = (
        Node("joint", "early", "early", ("a",)),
        Node("middle", "middle", "intermediate", ("joint", "b")),
        Node("end", "late", "late", ("middle", "b")),
    )
    return FusionModel(
        Graph(nodes, ("a", "b"), 2),
        front_ends={},
        encoders={"b": Spread(2, 3.0), "joint": Spread(2, 2.0)},
        operations={"joint": Early(("a",)), "middle": Middle(("joint", "b"))},
        merges={task: Late(("middle", "b"), task) for task in ("kind", "score")},
        branch_heads={"middle": Heads(), "b": Heads()},
        heads={},
        value_tasks=["score"],
    )


def batches():
    def features(value):
        here = torch.ones(3, dtype=torch.bool)
        return Features(torch.full((3, 2, 2, 1), value), torch.ones(3, 2, dtype=torch.bool), here)

    for a in (1.0, 3.0):
        yield Batch(
            {"a": features(a), "b": features(a + 1)},
            {"kind": torch.tensor([0.0, 1.0, a]), "score": torch.full((3,), a)},
        )


@pytest.fixture
def fitted():
    Recorder.log = []
    made = model()
    generator = torch.Generator().manual_seed(0)
    made.fit(batches, generator)
    return made, Recorder.log, generator


def test_nodes_are_fitted_in_graph_order_on_what_fitted_nodes_make(fitted):
    _, log, _ = fitted
    assert [entry[0] for entry in log] == ["joint", "middle", "late kind", "late score"]
    early, middle, late = (entry[1] for entry in log[:3])
    assert early[0]["a"].values.unique().tolist() == [1.0]  # features
    assert middle[0]["joint"].values.unique().tolist() == [(1 + 1) * 2.0]  # plus the offset that was fitted, encoded
    assert middle[1]["b"].values.unique().tolist() == [4 * 3.0]
    torch.testing.assert_close(late[0]["middle"].values, torch.full((3, 2), 0.5).log())
    assert log[3][1][1]["b"].values.tolist() == [[12.0]] * 3  # the decision about the score


def test_every_pass_is_fresh_and_the_same_and_nothing_has_a_gradient(fitted):
    _, log, generator = fitted
    for _, first, second, grad, given in log:
        assert not grad and given is generator and len(first) == len(second) == 2
        for one, other in zip(first, second, strict=True):
            for name in one:
                assert torch.equal(one[name].values, other[name].values) and not one[name].values.requires_grad


def test_targets_come_along_in_the_form_of_their_task(fitted):
    _, log, _ = fitted
    targets = log[1][1][1].targets
    assert targets["kind"].tolist() == [0.0, 1.0, 3.0] and targets["score"].tolist() == [[3.0]] * 3
    assert set(log[2][1][0].targets) == {"kind"} and set(log[3][1][0].targets) == {"score"}


def test_training_mode_and_gradients_are_as_before(fitted):
    made, _, _ = fitted
    assert made.training and made.encoders["b"].dropout.training
    assert all(parameter.grad is None for parameter in made.parameters())
    made.eval().fit(batches, torch.Generator())
    assert not made.training


def test_what_was_fitted_is_the_checkpoint(fitted):
    made, _, _ = fitted
    other = model()
    other.load_state_dict(made.state_dict())
    batch = next(iter(batches()))
    assert torch.equal(other.eval()(batch.inputs).decisions["kind"], made.eval()(batch.inputs).decisions["kind"])
    assert other.operations["middle"].offset.item() == 4.0
