"""Supervised contrast against hand values, a naive loop, NT-Xent and a public implementation."""

import math

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.metric import Embedded
from fusionkit.pretraining.nt_xent import nt_xent
from fusionkit.pretraining.supcon import supcon


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_hand_values() -> None:
    same = Embedded(torch.ones(6, 1), torch.tensor([0, 0, 1, 1, 1, 0]), torch.ones(6, dtype=torch.bool))
    assert float(supcon(same, 0.3)) == pytest.approx(math.log(5), abs=1e-6)
    alone = Embedded(torch.eye(3), torch.tensor([0, 1, 2]), torch.ones(3, dtype=torch.bool))
    assert float(supcon(alone, 0.3)) == 0.0


def test_equals_a_naive_loop() -> None:
    values, who = unit(7, 5), torch.tensor([0, 1, 0, 2, 1, 0, 0])
    here = torch.tensor([True, True, True, True, True, True, False])
    kept, total = [i for i in range(7) if here[i]], 0.0
    for i in kept:
        others = [k for k in kept if k != i]
        positives = [k for k in others if who[k] == who[i]]
        below = sum(math.exp(float(values[i] @ values[k]) / 0.2) for k in others)
        for p in positives:
            total -= math.log(math.exp(float(values[i] @ values[p]) / 0.2) / below) / len(positives)
    assert float(supcon(Embedded(values, who, here), 0.2)) == pytest.approx(total / len(kept), rel=1e-5)


def test_without_labels_it_is_nt_xent() -> None:
    first, second, here = unit(5, 4), unit(5, 4, seed=1), torch.tensor([True, True, False, True, True])
    own = (-1 - torch.arange(5)).repeat(2)
    ours = supcon(Embedded(torch.cat([first, second]), own, here.repeat(2)), 0.5)
    assert float(ours) == pytest.approx(float(nt_xent(first, second, here, 0.5)), rel=1e-6)


def test_equals_a_public_implementation() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    values, labels = unit(8, 6), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    theirs = losses.SupConLoss(temperature=0.1)(values, labels)
    ours = supcon(Embedded(values, labels, torch.ones(8, dtype=torch.bool)), 0.1)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_what_is_not_here_changes_nothing_and_nobody_here_gives_nothing() -> None:
    values = unit(4, 3).requires_grad_()
    who = torch.tensor([0, 0, 1, 0])
    supcon(Embedded(values, who, torch.tensor([True, True, True, False])), 0.5).backward()
    assert values.grad is not None and not values.grad[3].any() and values.grad[:3].any()
    values.grad = None
    supcon(Embedded(values, who, torch.zeros(4, dtype=torch.bool)), 0.5).backward()
    assert values.grad is not None and not values.grad.any()
