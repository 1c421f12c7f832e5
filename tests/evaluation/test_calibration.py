"""Reliability curves by hand, and against probabilities that are right by construction."""

import numpy as np
import pytest

from fusionkit.core.registry import heads
from fusionkit.evaluation.calibration import reliability_curve
from fusionkit.evaluation.metrics import score


def two(confidence):
    """Binary answers for class 0 with that confidence."""
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def test_two_answers_by_hand():
    curve = reliability_curve(two([0.9, 0.9]), np.array([0.0, 1.0]))
    full = curve.count > 0
    assert full.tolist() == [b == 13 for b in range(15)]  # 13/15 < 0.9 <= 14/15
    assert (curve.confidence[full], curve.accuracy[full], curve.count[full]) == (pytest.approx(0.9), 0.5, 2)
    assert np.isnan(curve.confidence[~full]).all()
    assert curve.error == pytest.approx(0.4)


def test_a_bin_holds_its_upper_edge():
    curve = reliability_curve(two([0.6, 0.61, 0.8, 1.0]), np.zeros(4), bins=5)
    np.testing.assert_allclose(curve.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_array_equal(curve.count, [0, 0, 1, 2, 1])


def test_right_probabilities_are_calibrated_and_bold_ones_are_not():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=20000)
    target = (rng.random((20000, 1)) > probabilities.cumsum(1)).sum(1).astype(float)
    curve = reliability_curve(probabilities, target)
    full = curve.count > 100
    np.testing.assert_allclose(curve.accuracy[full], curve.confidence[full], atol=0.06)
    assert curve.error < 0.02
    bold = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert reliability_curve(bold, target).error > 0.1


def test_the_error_of_the_curve_is_the_metric():
    rng = np.random.default_rng(1)
    probabilities, target = rng.dirichlet(np.ones(4), size=90), rng.integers(4, size=90).astype(float)
    target[::4] = np.nan
    task = heads.build("classification", {"classes": list("abcd")})
    curve = reliability_curve(probabilities, target)
    assert curve.error == pytest.approx(score(task, probabilities, target)["ece"])
    assert curve.count.sum() == np.isfinite(target).sum()


def test_nothing_labelled_is_nan():
    curve = reliability_curve(two([0.9]), np.array([np.nan]))
    assert np.isnan(curve.error)
    assert curve.count.sum() == 0
