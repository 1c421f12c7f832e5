"""NT-Xent against hand values, a naive loop and a public implementation."""

import math

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.nt_xent import nt_xent


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_hand_values() -> None:
    here = torch.ones(2, dtype=torch.bool)
    pairs = torch.eye(2, dtype=torch.float64)
    assert float(nt_xent(pairs, pairs, here, 0.5)) == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-6)
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(nt_xent(same, same, here, 0.5)) == pytest.approx(math.log(3), abs=1e-6)


def test_equals_a_naive_loop_over_the_records_that_count() -> None:
    first, second = unit(6, 5), unit(6, 5, seed=1)
    here = torch.tensor([True, False, True, True, False, True])
    looks = torch.cat([first[here], second[here]])
    count = len(looks) // 2
    total = 0.0
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = sum(math.exp(float(looks[i] @ looks[k]) / 0.3) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(float(looks[i] @ looks[j]) / 0.3) / others)
    assert float(nt_xent(first, second, here, 0.3)) == pytest.approx(total / (2 * count), rel=1e-5)


def test_records_that_do_not_count_change_nothing_and_get_no_gradient() -> None:
    first, second = unit(4, 3).requires_grad_(), unit(4, 3, seed=1)
    here = torch.tensor([True, True, True, False])
    nt_xent(first, second, here, 0.5).backward()
    assert first.grad is not None and not first.grad[3].any() and first.grad[:3].any()
    alone = torch.tensor([False, True, False, False])
    assert float(nt_xent(first, second, alone, 0.5).detach()) == 0.0


def test_equals_a_public_implementation() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    first, second = unit(8, 6), unit(8, 6, seed=1)
    labels = torch.arange(8).repeat(2)
    theirs = losses.NTXentLoss(temperature=0.2)(torch.cat([first, second]), labels)
    assert float(nt_xent(first, second, torch.ones(8, dtype=torch.bool), 0.2)) == pytest.approx(float(theirs), rel=1e-5)
