"""TSTR and TRTS: perfect classes, labels without meaning, and scikit-learn as oracle."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusionkit.evaluation.generation.transfer import transfer


def drawn(generator: np.random.Generator, count: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    label = np.arange(count) % 3
    return apart * np.eye(3)[label] + generator.normal(size=(count, 3)), label


def test_classes_far_apart_give_1_everywhere() -> None:
    generator = np.random.default_rng(0)
    found = transfer(*drawn(generator, 60, 50), *drawn(generator, 30, 50), *drawn(generator, 60, 50), 3)
    assert found == pytest.approx((1, 1, 1, 1 / 3))


def test_labels_without_meaning_leave_generated_ones_at_chance() -> None:
    generator = np.random.default_rng(0)
    made, _ = drawn(generator, 600, 50)
    found = transfer(*drawn(generator, 600, 50), *drawn(generator, 300, 50), made, generator.integers(0, 3, 600), 3)
    assert found.real_real == 1
    assert found.real_made == pytest.approx(1 / 3, abs=0.06)
    assert found.made_real < 0.9


def test_it_equals_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    real, held_out, made = (drawn(generator, count, 2) for count in (90, 60, 90))
    found = transfer(*real, *held_out, *made, 3)
    for ours, train, test in (
        (found.made_real, made, held_out),
        (found.real_real, real, held_out),
        (found.real_made, real, made),
    ):
        theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*train).predict(test[0])
        assert ours == pytest.approx(balanced_accuracy_score(test[1], theirs))


def test_without_held_out_records_only_generated_ones_are_tested() -> None:
    generator = np.random.default_rng(0)
    real, made = drawn(generator, 30, 50), drawn(generator, 30, 50)
    found = transfer(*real, real[0][:0], real[1][:0], *made, 3)
    assert math.isnan(found.made_real)
    assert math.isnan(found.real_real)
    assert found.real_made == 1
