"""Moving mass: hand values, scipy and POT as oracles, and what a distance must obey."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from fusionkit.evaluation.generation.wasserstein import sliced_wasserstein, wasserstein


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_hand_values() -> None:
    assert wasserstein(column(0, 1), column(1, 2)) == pytest.approx(1)
    assert wasserstein(column(0), column(0, 3)) == pytest.approx(1.5)
    assert wasserstein(column(3, 1, 2), column(2, 3, 1)) == 0


@pytest.mark.parametrize(("one", "other"), [(7, 7), (7, 5), (6, 9), (1, 4), (30, 12)])
def test_every_column_equals_scipy(one: int, other: int) -> None:
    generator = np.random.default_rng(one * other)
    x, y = generator.normal(size=(one, 4)), generator.normal(1, 2, size=(other, 4)).round(1)
    theirs = [wasserstein_distance(a, b) for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(wasserstein(x, y), theirs, atol=1e-12)


numbers = st.lists(st.floats(-50, 50), min_size=1, max_size=6)


@given(numbers, numbers, numbers, st.floats(-9, 9))
def test_it_is_a_distance_that_shifts_with_a_sample(a: list[float], b: list[float], c: list[float], by: float) -> None:
    x, y, z = column(*a), column(*b), column(*c)
    assert wasserstein(x, y) == pytest.approx(wasserstein(y, x))
    assert wasserstein(x, z) <= wasserstein(x, y) + wasserstein(y, z) + 1e-9
    assert wasserstein(x, x + by) == pytest.approx(abs(by), abs=1e-9)


def test_a_shift_in_the_plane_is_seen_as_the_mean_cosine() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    moved = sliced_wasserstein(x, x + np.array([0.6, 0.8]), np.random.default_rng(1), lines=20000)
    assert moved == pytest.approx(2 / np.pi, abs=0.01)


def test_lines_see_a_correlation_that_columns_do_not() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=400)
    together, apart = np.stack([first, first], 1), np.stack([first, -first], 1)
    assert wasserstein(together, np.stack([first, first[::-1]], 1)).max() == 0
    assert sliced_wasserstein(together, apart, generator) > 0.3


def test_sliced_equals_pot_along_the_same_lines() -> None:
    ot = pytest.importorskip("ot")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 6)), generator.normal(0.5, 1.5, size=(25, 6))
    lines = np.random.default_rng(3).normal(size=(6, 50))
    lines /= np.linalg.norm(lines, axis=0)
    ours = sliced_wasserstein(x, y, np.random.default_rng(3), lines=50)
    assert ours == pytest.approx(ot.sliced_wasserstein_distance(x, y, projections=lines, p=1))
    assert wasserstein(x[:, :1], y[:, :1])[0] == pytest.approx(ot.emd2_1d(x[:, 0], y[:, 0], metric="euclidean"))
