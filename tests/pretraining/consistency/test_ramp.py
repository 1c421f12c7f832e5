"""How weights rise."""

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.ramp import climb, rise


def at(progress):
    return torch.tensor(progress, dtype=torch.float64)


def test_hand_values():
    assert [float(rise(at(t), 1.0)) for t in (0.0, 0.5, 1.0)] == pytest.approx([0.0067379, 0.286505, 1.0], abs=1e-6)
    assert [float(rise(at(t), 0.4)) for t in (0.2, 0.4, 0.9)] == pytest.approx([0.286505, 1.0, 1.0], abs=1e-6)
    assert float(rise(at(0.0), 0.0)) == 1.0
    assert [float(climb(at(t), 0.1, 0.6)) for t in (0.05, 0.1, 0.35, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_method_counts_its_steps_and_rises_with_them(objective, batch, generator):
    made = objective([("pi_model", {"weight": 4.0, "ramp": 0.5})], steps=10)
    method = made.consistency[0]
    seen = []
    for _ in range(7):
        seen.append(float(method.strength()))
        made.settle()
    assert seen[0] == pytest.approx(4 * 0.0067379, abs=1e-5) and seen[5] == seen[6] == 4.0
    assert seen == sorted(seen)


def test_a_pseudo_label_begins_late(objective):
    made = objective([("pseudo_label", {"begin": 0.1, "full": 0.6})], steps=10)
    method = made.consistency[0]
    seen = []
    for _ in range(8):
        seen.append(float(method.strength()))
        made.settle()
    assert seen == pytest.approx([0, 0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.0])
    with pytest.raises(ConfigError, match=r"begin must come before full, but 0\.6 does not come before 0\.5"):
        consistency.build("pseudo_label", {"begin": 0.6, "full": 0.5}, {"a": 1.0}, 1)
