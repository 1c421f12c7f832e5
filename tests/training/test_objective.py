"""The loss of mixtures, against records' losses summed one by one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.augment.mixup import mix
from fusionkit.core.levels import Batch, Window
from fusionkit.fusion.model import Output
from fusionkit.heads.classification import Classification
from fusionkit.heads.regression import Regression
from fusionkit.training.objective import TaskObjective

BATCH = 12


class Model(nn.Module):
    """Answers that depend on the input alone; two branches where ``late``."""

    def __init__(self, late=False):
        super().__init__()
        self.merges = nn.ModuleDict({"state": nn.Identity()} if late else {})
        self.seen = torch.arange(BATCH) % 3 != 0
        self.given = None

    def forward(self, inputs, generator=None):
        self.given = values = inputs["eeg"].values.flatten(1)
        decisions = {"state": values[:, :2].log_softmax(1), "level": values[:, 2:3]}
        branches = {"a": decisions, "b": {"state": values[:, 3:5].log_softmax(1)}} if self.merges else {}
        seen = {"a": self.seen, "b": torch.ones(BATCH, dtype=torch.bool)} if self.merges else {}
        return Output(decisions, branches, seen, torch.tensor(0.25))


def make(late=False, mixup=1.0):
    state = Classification(classes=["x", "y"], class_weights={"y": 3.0})
    level = Regression()
    targets = {"state": torch.tensor([0.0, 1] * (BATCH // 2)), "level": torch.arange(BATCH).float()}
    targets["state"][[2, 5]] = torch.nan
    targets["level"][[0, 1, 2]] = torch.nan
    for name, task in (("state", state), ("level", level)):
        task.fit(targets[name].numpy(), name)
    values = torch.randn(BATCH, 1, 5, generator=torch.Generator().manual_seed(0))
    length = torch.where(torch.arange(BATCH) < 3, 4, 5)
    inputs = {"eeg": Window(values, length, torch.ones(BATCH, dtype=torch.bool))}
    weights = {"state": 2.0, "level": 1.0}
    return TaskObjective(Model(late), {"state": state, "level": level}, weights, mixup=mixup), Batch(inputs, targets)


def parts(logs, target, partner, share, seen):
    """Every record's two labels, each with its share."""
    total = weight = 0.0
    for row in range(BATCH):
        for label, part in ((target[row], share), (target[partner[row]], 1 - share)):
            if not label.isnan() and seen[row]:
                count = part * (3.0 if label == 1 else 1.0)
                total, weight = total - count * logs[row, int(label)], weight + count
    return total / weight


@pytest.mark.parametrize("late", [False, True])
def test_a_mixture_costs_both_labels_by_their_shares(late):
    objective, batch = make(late)
    found = objective(batch, torch.Generator().manual_seed(3))
    mixture = mix(batch.inputs, 1.0, torch.Generator().manual_seed(3))
    partner, share, values = mixture.partner, mixture.share, mixture.inputs["eeg"].values.flatten(1)
    assert 0.05 < share < 0.95 and torch.equal(objective.model.given, values)
    every = torch.ones(BATCH, dtype=torch.bool)
    target, level = batch.targets["state"], batch.targets["level"]
    state = parts(values[:, :2].log_softmax(1), target, partner, share, objective.model.seen if late else every)
    if late:
        state = (state + parts(values[:, 3:5].log_softmax(1), target, partner, share, every)) / 2
    total = weight = 0.0
    deviation = objective.tasks["level"].deviation
    for row in range(BATCH):
        for label, part in ((level[row], share), (level[partner[row]], 1 - share)):
            if not label.isnan():
                total, weight = total + part * ((values[row, 2] - label) / deviation) ** 2, weight + part
    torch.testing.assert_close(found, 2 * state + total / weight + 0.25)


def test_without_mixup_or_in_validation_nothing_is_mixed():
    for objective, generator in ((make(mixup=0.0), torch.Generator()), (make(), None)):
        made, batch = objective
        made(batch, generator)
        assert torch.equal(made.model.given, batch.inputs["eeg"].values.flatten(1))


def test_a_batch_of_one_is_its_own_partner():
    made, batch = make()
    one = Batch({"eeg": Window(*(x if x is None else x[5:6] for x in batch.inputs["eeg"]))})
    mixture = mix(one.inputs, 0.2, torch.Generator().manual_seed(0))
    assert torch.equal(mixture.inputs["eeg"].values, one.inputs["eeg"].values) and mixture.partner.tolist() == [0]
    state, target = made.tasks["state"], torch.tensor([1.0])
    loss, weight = state.loss(torch.zeros(1, 2).log_softmax(1), target)
    torch.testing.assert_close(loss / weight, F.cross_entropy(torch.zeros(1, 2), target.long()))
