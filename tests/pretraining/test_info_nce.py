"""InfoNCE across sensors against hand values, a naive loop and its own promises."""

import math

import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.pretraining.info_nce import InfoNCE, info_nce
from fusionkit.pretraining.objective import Given


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def everyone(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def test_hand_values() -> None:
    pairs = torch.eye(2)
    assert float(info_nce(pairs, pairs, everyone(2), 1.0)) == pytest.approx(0.313262, abs=1e-6)
    three = torch.eye(3)  # one right with cosine 1, two wrong with 0
    assert float(info_nce(three, three, everyone(3), 1.0)) == pytest.approx(0.551445, abs=1e-6)
    same = torch.ones(4, 1)
    assert float(info_nce(same, same, everyone(4), 3.0)) == pytest.approx(math.log(4), abs=1e-6)


def test_equals_a_naive_loop_over_records_that_have_both_sensors() -> None:
    left, right = unit(6, 5), unit(6, 5, seed=1)
    here = torch.tensor([True, False, True, True, False, True])
    kept = [i for i in range(6) if here[i]]
    total = 0.0
    for i in kept:
        row = sum(math.exp(7 * float(left[i] @ right[k])) for k in kept)
        column = sum(math.exp(7 * float(left[k] @ right[i])) for k in kept)
        right_pair = math.exp(7 * float(left[i] @ right[i]))
        total -= (math.log(right_pair / row) + math.log(right_pair / column)) / 2
    assert float(info_nce(left, right, here, 7.0)) == pytest.approx(total / len(kept), rel=1e-5)


def test_equals_a_public_implementation() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    left, right, records = unit(8, 6), unit(8, 6, seed=1), torch.arange(8)
    rows, columns = (
        losses.NTXentLoss(temperature=0.2)(one, records, ref_emb=other, ref_labels=records.clone())
        for one, other in ((left, right), (right, left))
    )
    ours = info_nce(left, right, everyone(8), 1 / 0.2)
    assert float(ours) == pytest.approx(float(rows + columns) / 2, rel=1e-5)


def test_a_record_that_lacks_a_sensor_gets_no_gradient_and_one_record_alone_gives_nothing() -> None:
    left, right = unit(4, 3).requires_grad_(), unit(4, 3, seed=1)
    info_nce(left, right, torch.tensor([True, True, True, False]), 2.0).backward()
    assert left.grad is not None and not left.grad[3].any() and left.grad[:3].any()
    for here in ([False, True, False, False], [False] * 4):
        left.grad.zero_()
        loss = info_nce(left, right, torch.tensor(here), 2.0)
        loss.backward()
        assert float(loss.detach()) == 0.0 and not left.grad.any()


def given(*sensors: str) -> Given:
    return Given(sensors, 8, features={}, levels={})


def test_pairs_are_all_or_those_of_the_anchor() -> None:
    assert InfoNCE(given("eeg", "audio", "image")).pairs == [("eeg", "audio"), ("eeg", "image"), ("audio", "image")]
    anchored = InfoNCE(given("eeg", "audio", "image"), anchor="image")
    assert anchored.pairs == [("eeg", "image"), ("audio", "image")]
    with pytest.raises(ConfigError, match=r"two or more, but got \['eeg'\]"):
        InfoNCE(given("eeg"))
    with pytest.raises(UnknownNameError, match="no sensor of this stage named 'lidar'"):
        InfoNCE(given("eeg", "audio"), anchor="lidar")
    with pytest.raises(ConfigError, match="max_scale must be at least one over the temperature, but 5 is below 10"):
        InfoNCE(given("eeg", "audio"), temperature=0.1, max_scale=5.0)
