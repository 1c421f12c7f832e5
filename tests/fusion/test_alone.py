"""Sensors trained by themselves: losses of every form of target, no path between sensors."""

import math

import pytest
import torch
from torch import nn

from fusionkit.core.errors import DataError
from fusionkit.fusion.alone import sensor_losses, train_alone

NAN = float("nan")
EVERY = torch.ones(2, 1, dtype=torch.bool)


def test_losses_by_hand():
    zero = torch.zeros(1, 2, 2)
    assert sensor_losses(zero, torch.tensor([0.0, 1.0]), EVERY).item() == pytest.approx(math.log(2))
    assert sensor_losses(zero, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), EVERY).item() == pytest.approx(math.log(2))
    assert sensor_losses(torch.ones(1, 2, 1), torch.tensor([[3.0], [2.0]]), EVERY).item() == 2.5


def test_missing_labels_and_absent_sensors_count_nothing():
    answer = torch.tensor([[[2.0], [5.0]], [[1.0], [5.0]]])  # two sensors, two records
    target = torch.tensor([[0.0], [NAN]])
    assert sensor_losses(answer, target, torch.ones(2, 2, dtype=torch.bool)).item() == 4 + 1
    assert sensor_losses(answer, target, torch.tensor([[True, False], [True, True]])).item() == 4
    assert sensor_losses(answer, torch.full((2, 1), NAN), torch.ones(2, 2, dtype=torch.bool)).item() == 0


def train(targets, x, here=None, layer=None):
    layer = layer or nn.Linear(2, 2)
    here = torch.ones(len(x), 2, dtype=torch.bool) if here is None else here
    states = lambda rows: torch.stack([layer(x[rows]), x[rows]])
    return train_alone(
        states, layer.parameters(), here, targets, rows=torch.arange(len(x)), epochs=80, lr=0.1,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


def test_every_form_of_target_is_learnt():
    x = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    for target in ((x[:, 0] > 0).float(), 40 + 7 * x[:, :1], (x > 0).float()):
        history = train({"task": target}, x)
        assert history[-1] < 0.5 * history[0]


def test_without_labels_it_says_so():
    with pytest.raises(DataError, match="needs labels"):
        train({"task": torch.full((9,), NAN)}, torch.randn(9, 2))


def test_nothing_is_left_in_the_gradients():
    layer = nn.Linear(2, 2)
    train({"task": torch.arange(9.0) % 2}, torch.randn(9, 2), layer=layer)
    assert all(parameter.grad is None for parameter in layer.parameters())
