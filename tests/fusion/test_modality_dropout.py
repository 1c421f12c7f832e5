"""ModDrop: whole sensors, at least one kept, at the rate that was asked for."""

import pytest
import torch

from fusionkit.fusion.modality_dropout import drop_modalities


def make(batch=4000, sensors=3):
    return {f"s{i}": torch.ones(batch, dtype=torch.bool) for i in range(sensors)}


def test_nothing_is_dropped_at_zero():
    present = make()
    kept = drop_modalities(present, 0.0)
    assert all(torch.equal(kept[name], present[name]) for name in present)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9, 1.0])
def test_at_least_one_is_kept(probability):
    kept = torch.stack(list(drop_modalities(make(), probability).values()))
    assert kept.any(0).all()


def test_the_rate_is_the_one_asked_for_but_for_rescues():
    probability, batch = 0.4, 40000
    kept = torch.stack(list(drop_modalities(make(batch), probability, torch.Generator().manual_seed(0)).values()))
    expected = 1 - probability + probability**3 / 3  # a third of the rescues falls on each
    sigma = (expected * (1 - expected) / batch) ** 0.5
    assert ((kept.float().mean(1) - expected).abs() < 4 * sigma).all()


def test_what_is_absent_stays_absent_and_is_never_the_one_kept():
    present = make(500)
    present["s0"] = torch.zeros(500, dtype=torch.bool)
    kept = drop_modalities(present, 0.9)
    assert not kept["s0"].any()
    assert (kept["s1"] | kept["s2"]).all()


def test_a_sample_without_any_sensor_stays_so():
    present = {name: torch.zeros(3, dtype=torch.bool) for name in ("a", "b")}
    assert not torch.stack(list(drop_modalities(present, 0.5).values())).any()


def test_the_generator_decides():
    one, two = (drop_modalities(make(), 0.5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
