"""The kernel's distance: hand values, a naive loop, and its mean under one distribution."""

import math

import numpy as np
import pytest

from fusionkit.evaluation.generation.mmd import discrepancy


def naive(x: np.ndarray, y: np.ndarray, sigma: float, unbiased: bool) -> float:
    """The definition, pair by pair."""

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        found = [
            math.exp(-sum((p - q) ** 2) / (2 * sigma**2))
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (same and unbiased and i == j)
        ]
        return sum(found) / len(found)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def test_hand_values() -> None:
    found = discrepancy(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), 1.0)
    assert found.biased == pytest.approx(0.432332, abs=1e-6)
    assert found.unbiased == pytest.approx(0.038863, abs=1e-6)


def test_it_equals_a_naive_loop() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 3)), generator.normal(1, 1, size=(9, 3))
    found = discrepancy(x, y, 1.7)
    assert found.biased == pytest.approx(naive(x, y, 1.7, False))
    assert found.unbiased == pytest.approx(naive(x, y, 1.7, True))


def test_a_sample_is_no_distance_from_itself() -> None:
    x = np.random.default_rng(0).normal(size=(12, 4))
    assert discrepancy(x, x, 2.0).biased == pytest.approx(0, abs=1e-12)


def test_the_unbiased_one_is_0_on_average_and_the_biased_one_is_not() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(400, 2, 10, 3))
    found = np.array([discrepancy(x, y, 1.5) for x, y in draws])
    biased, unbiased = found.mean(0)
    error = found[:, 1].std() / 20
    assert abs(unbiased) < 3 * error
    assert biased > 10 * error
