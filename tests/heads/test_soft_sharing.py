"""Trunks per task, and the penalty that holds them together."""

import pytest
import torch
from torch import nn

from fusionkit.heads.soft_sharing import SoftSharing


def test_the_penalty_is_the_sum_over_pairs_of_trunks():
    module = SoftSharing(3, 4, penalty=0.3)
    total = 0.0
    for i in range(4):
        for j in range(i + 1, 4):
            one, other = module.trunks[i], module.trunks[j]
            for row in range(3):
                total += (one.bias[row] - other.bias[row]) ** 2
                for column in range(3):
                    total += (one.weight[row, column] - other.weight[row, column]) ** 2
    torch.testing.assert_close(module.distance(), 0.3 * total)


def test_three_trunks_that_differ_by_one_in_an_entry_each_pair():
    module = SoftSharing(2, 3, penalty=5.0)
    for place, trunk in enumerate(module.trunks):
        nn.init.zeros_(trunk.bias)
        nn.init.zeros_(trunk.weight)
        if place:
            trunk.weight.data[0, place - 1] = 1.0
    # pairs (0, 1) and (0, 2) differ by 1 in one entry, (1, 2) by 1 in two
    assert module.distance().item() == pytest.approx(5.0 * (1 + 1 + 2))


def train(penalty):
    torch.manual_seed(0)
    module = SoftSharing(3, 2, penalty=penalty)
    x = torch.randn(40, 3)
    wanted = [x @ torch.randn(3, 3) for _ in range(2)]
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        fit = sum((module(x, task) - wanted[task]).square().mean() for task in range(2))
        (fit + module.distance()).backward()
        optimiser.step()
    return (module.trunks[0].weight - module.trunks[1].weight).abs().max().item()


def test_a_large_penalty_makes_trunks_equal():
    assert train(1e4) < 0.01
    assert train(0.0) > 0.3


def test_without_penalty_trunks_are_independent():
    module = SoftSharing(3, 2, penalty=0.0)
    (module(torch.randn(4, 3), 0).sum() + module.distance()).backward()
    assert module.trunks[0].weight.grad.abs().sum() > 0
    assert module.trunks[1].weight.grad.abs().sum() == 0
