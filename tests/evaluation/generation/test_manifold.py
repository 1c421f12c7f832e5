"""Precision and recall of the manifold: hand values, a naive loop, and the failures they are there to show."""

import numpy as np
import pytest

from fusionkit.evaluation.generation.manifold import precision_and_recall


def naive(real: np.ndarray, made: np.ndarray, k: int) -> tuple[float, float]:
    def share(points: np.ndarray, centres: np.ndarray) -> float:
        reach = [sorted(np.linalg.norm(centres - c, axis=1))[k] for c in centres]  # the 0th is the centre itself
        return float(
            np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, reach, strict=True)) for p in points])
        )

    return share(made, real), share(real, made)


def test_hand_values() -> None:
    real, made = np.array([[0.0], [1.0], [10.0]]), np.array([[0.5], [0.6], [19.5], [30.0]])
    assert precision_and_recall(real, made, 1) == pytest.approx((1 / 2, 1 / 3))


@pytest.mark.parametrize("k", [1, 3])
def test_they_equal_a_naive_loop(k: int) -> None:
    generator = np.random.default_rng(k)
    real, made = generator.normal(size=(25, 4)), generator.normal(0.5, 0.7, size=(20, 4))
    assert precision_and_recall(real, made, k) == pytest.approx(naive(real, made, k))


def test_a_collapsed_sample_is_precise_and_recalls_nothing() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(200, 5))
    found = precision_and_recall(real, real[:1] + 1e-3 * generator.normal(size=(200, 5)))
    assert found.precision == 1
    assert found.recall < 0.02


def test_a_spread_sample_recalls_much_and_is_not_precise() -> None:
    generator = np.random.default_rng(0)
    found = precision_and_recall(generator.normal(size=(200, 5)), 4 * generator.normal(size=(200, 5)))
    assert found.precision < 0.2
    assert found.recall > 0.8
