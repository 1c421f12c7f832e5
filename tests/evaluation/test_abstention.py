"""Risk against coverage by hand, against a plain loop, and its ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.evaluation.abstention import abstention_curve
from fusionkit.evaluation.intervals import bootstrap


def two(confidence):
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def test_two_answers_by_hand():
    curve = abstention_curve(two([0.6, 0.9]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(curve.coverage, [0.5, 1])
    np.testing.assert_allclose(curve.risk, [0, 0.5])
    assert (curve.area, curve.excess) == (0.25, 0)
    worst = abstention_curve(two([0.6, 0.9]), np.array([0.0, 1.0]))
    assert (worst.area, worst.excess) == (0.75, 0.5)


@given(st.integers(0, 100), st.integers(1, 30))
def test_agrees_with_the_plain_loop(seed, records):
    rng = np.random.default_rng(seed)
    rows, target = rng.dirichlet(np.ones(3), records), rng.integers(3, size=records).astype(float)
    order = sorted(range(records), key=lambda i: -rows[i].max())
    mistakes, risks = 0, []
    for k, i in enumerate(order, start=1):
        mistakes += rows[i].argmax() != target[i]
        risks.append(mistakes / k)
    curve = abstention_curve(rows, target)
    np.testing.assert_allclose(curve.risk, risks)
    assert curve.area == pytest.approx(np.mean(risks))
    assert curve.risk[-1] == pytest.approx((rows.argmax(1) != target).mean())
    assert curve.excess >= -1e-12


def test_answers_that_are_as_sure_come_in_no_order():
    rng = np.random.default_rng(0)
    sure, target = rng.choice([0.6, 0.7, 0.9], 40), rng.integers(2, size=40).astype(float)
    curve = abstention_curve(two(sure), target)
    shuffled = []
    for _ in range(3000):
        order = rng.permutation(40)
        order = order[np.argsort(-sure[order], kind="stable")]
        shuffled.append((np.cumsum(target[order] != 0) / np.arange(1, 41)).mean())
    assert curve.area == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / 3000**0.5)
    order = rng.permutation(40)
    np.testing.assert_allclose(abstention_curve(two(sure[order]), target[order]).risk, curve.risk)
    np.testing.assert_allclose(abstention_curve(two([0.8] * 4), np.array([0.0, 1, 0, 0])).risk, 0.25)


def test_certainty_that_means_something_beats_certainty_that_does_not():
    rng = np.random.default_rng(1)
    sure = rng.uniform(0.5, 1, 2000)
    target = (rng.random(2000) > sure).astype(float)
    useful = abstention_curve(two(sure), target)
    useless = abstention_curve(two(rng.permutation(sure)), target)
    assert useful.area < useless.area - 0.05
    assert useless.area == pytest.approx(useless.risk[-1], abs=0.03)


def test_the_area_has_an_interval_over_subjects():
    rng = np.random.default_rng(2)
    sure, subjects = rng.uniform(0.5, 1, 200), np.arange(200) % 10
    target = (rng.random(200) > sure).astype(float)
    found = bootstrap(lambda p, t: abstention_curve(p, t).area, two(sure), target, subjects, seed=0, repetitions=200)
    assert found.low < found.value < found.high


def test_missing_targets_are_left_out_and_nothing_is_nan():
    rows, target = two([0.9, 0.8, 0.7]), np.array([0.0, np.nan, 1.0])
    assert abstention_curve(rows, target).area == abstention_curve(rows[[0, 2]], target[[0, 2]]).area
    nothing = abstention_curve(rows, np.full(3, np.nan))
    assert np.isnan([nothing.area, nothing.excess]).all()
    assert len(nothing.risk) == 0
