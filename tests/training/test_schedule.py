"""The learning rate at steps that can be counted by hand."""

import itertools
import math

import pytest
import torch

from fusionkit.training.order import derive_seed, epoch_order
from fusionkit.training.schedule import learning_rate_factor


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5)])
def test_hand_values(step, factor):
    assert learning_rate_factor(step, 100, 0.1) == pytest.approx(factor)


def test_it_ends_near_zero_and_never_rises_after_warm_up():
    factors = [learning_rate_factor(step, 50, 0.2) for step in range(50)]
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 39 / 40)))


def test_orders_are_permutations_that_depend_on_seed_and_epoch():
    rows = torch.tensor([4, 8, 15, 16, 23, 42])
    orders = {tuple(epoch_order(rows, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) > 6
    assert all(sorted(order) == rows.tolist() for order in orders)


def test_seeds_differ_by_part_and_not_by_joining():
    assert derive_seed("a", 1) == derive_seed("a", 1)
    assert len({derive_seed("a", 11), derive_seed("a", 1, 1), derive_seed("a1", 1), derive_seed("b", 11)}) == 4
    assert 0 <= derive_seed("x") < 2**63
