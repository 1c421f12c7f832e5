"""Measures of collapse against hand values and naive loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fusionkit.pretraining.collapse import COLLAPSED, alignment, spread, uniformity

AXES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def everywhere(count):
    return torch.ones(count, dtype=torch.bool)


def test_hand_values():
    same = torch.tensor([[2.0, 1.0]]).expand(5, 2)
    assert float(spread(same, everywhere(5))) == pytest.approx(0, abs=1e-3)
    assert float(uniformity(same, everywhere(5))) == pytest.approx(0, abs=1e-6)
    assert float(spread(AXES, everywhere(4))) == pytest.approx(1)
    pairs = math.log((4 * math.exp(-8) + 8 * math.exp(-4)) / 12)
    assert float(uniformity(AXES, everywhere(4))) == pytest.approx(pairs, rel=1e-5)
    assert float(uniformity(AXES[:2], everywhere(2))) == pytest.approx(-8, rel=1e-5)
    assert float(alignment(AXES, AXES, everywhere(4))) == 0
    assert float(alignment(AXES[:1], AXES[2:3], everywhere(1))) == pytest.approx(2)


def test_uniform_directions_reach_the_best_uniformity():
    z = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    assert float(spread(z, everywhere(2000))) == pytest.approx(1, abs=0.01)
    # the mean of exp(4 cos) is about exp(8 / 64) where cosines have the variance 1 / 64
    assert float(uniformity(z, everywhere(2000))) == pytest.approx(-4 + 8 / 64, abs=0.02)


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 100))
def test_equals_a_naive_loop_over_the_records_that_count(kept, seed):
    generator = torch.Generator().manual_seed(seed)
    z, other = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator)
    here = torch.tensor(kept)
    unit, partner = F.normalize(z[here], dim=1), F.normalize(other[here], dim=1)
    count = len(unit)
    if count:
        wanted = math.sqrt(float(unit.var(0, correction=0).sum()))
        assert float(spread(z, here)) == pytest.approx(wanted, abs=1e-3)
        apart = sum(float((a - b).square().sum()) for a, b in zip(unit, partner, strict=True)) / count
        assert float(alignment(z, other, here)) == pytest.approx(apart, rel=1e-4)
    pairs = [
        math.exp(-2 * float((unit[i] - unit[j]).square().sum())) for i in range(count) for j in range(count) if i != j
    ]
    wanted = math.log(sum(pairs) / len(pairs)) if pairs else 0.0
    assert float(uniformity(z, here)) == pytest.approx(wanted, abs=1e-4)


def test_nobody_there_is_finite():
    nobody = torch.zeros(4, dtype=torch.bool)
    for value in (spread(AXES, nobody), alignment(AXES, AXES, nobody), uniformity(AXES, nobody)):
        assert float(value) == 0


def test_the_limit_is_that_of_cosines():
    """A spread s belongs to a mean cosine of 1 - s ** 2."""
    z = F.normalize(torch.tensor([1.0, 0.0]) + COLLAPSED * AXES[2:], dim=1)
    assert float(spread(z, everywhere(2))) == pytest.approx(COLLAPSED, rel=1e-2)
    assert 1 - COLLAPSED**2 > 0.999
