"""Momentum contrast: hand values, the queue against a list, the copy that makes keys."""

import math
from collections import deque

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.pretraining.moco import KeyQueue, moco
from fusionkit.pretraining.momentum import follow


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_hand_values() -> None:
    axes = torch.eye(3)
    one, full = torch.ones(1, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    assert float(moco(axes[:1], axes[:1], axes[1:], full, one, 1.0)) == pytest.approx(0.551445, abs=1e-6)
    assert float(moco(axes[:1], axes[:1], axes[1:], ~full, one, 1.0)) == 0.0


def test_equals_a_naive_loop() -> None:
    query, key, queue = unit(4, 3), unit(4, 3, seed=1), unit(5, 3, seed=2)
    filled, here = torch.tensor([True] * 3 + [False] * 2), torch.tensor([True, False, True, True])
    total = 0.0
    for i in (0, 2, 3):
        right = math.exp(float(query[i] @ key[i]) / 0.2)
        total -= math.log(right / (right + sum(math.exp(float(query[i] @ queue[j]) / 0.2) for j in range(3))))
    assert float(moco(query, key, queue, filled, here, 0.2)) == pytest.approx(total / 3, rel=1e-5)


def test_the_queue_holds_the_newest_keys_of_records_that_have_the_sensor() -> None:
    naive: deque[float] = deque(maxlen=7)
    queue, number = KeyQueue(7, 1), 0
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        count = (3, 5, 10, 1)[step % 4]  # 10 are more than the places
        keys = torch.arange(number, number + count, dtype=torch.float32)[:, None]
        here = torch.rand(count, generator=generator) < 0.7
        queue.put(keys, here)
        naive.extend(keys[here, 0].tolist())
        number += count
        assert int(queue.filled.sum()) == len(naive)
        assert sorted(queue.keys[queue.filled, 0].tolist()) == sorted(naive)


def test_the_copy_follows_exactly() -> None:
    slow, fast = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert slow.running_mean is not None and fast.running_mean is not None
    with torch.no_grad():
        slow.weight.fill_(1)
        fast.weight.fill_(2)
        fast.running_mean.fill_(5)
    follow(slow, fast, 0.9)
    torch.testing.assert_close(slow.weight, torch.full((3,), 1.1))
    assert torch.equal(slow.bias, fast.bias) and slow.running_mean.tolist() == [5, 5, 5]
