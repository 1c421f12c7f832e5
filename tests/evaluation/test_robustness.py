"""Areas under curves of faults by hand, and their intervals over subjects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fusionkit.core.errors import ConfigError, ShapeError, UnknownNameError
from fusionkit.evaluation.robustness import effective_robustness, missingness_area, relative_robustness, robustness
from fusionkit.evaluation.statistics.resampled import resample_means

CURVE = arrays(float, 5, elements=st.floats(-1, 1))
LEVELS = [0, 0.1, 0.2, 0.5, 1.0]


def test_relative_robustness_by_hand():
    assert relative_robustness(np.array([1, 0.5, 0]), [0, 0.5, 1]) == pytest.approx(0.5)
    assert relative_robustness(np.array([0.9, 0.9, 0.3]), [0, 0.1, 0.3]) == pytest.approx(0.09 + 0.12)


def test_relative_robustness_is_the_published_sum_at_steps_of_a_tenth():
    curve = np.random.default_rng(0).random(11)
    published = sum((curve[i] + curve[i + 1]) * 0.1 / 2 for i in range(10))
    assert relative_robustness(curve, [i / 10 for i in range(11)]) == pytest.approx(published)


def test_missingness_area_by_hand():
    assert missingness_area(np.array([0.9, 0.5]), [0.05, 0.95]) == pytest.approx(0.7)
    assert missingness_area(np.full(5, 0.8), LEVELS) == pytest.approx(0.8)


def test_effective_robustness_by_hand():
    assert effective_robustness(np.array([0.9, 0.8, 0.6]), np.array([0.7, 0.5, 0.3])) == pytest.approx(0.2)


def test_effective_robustness_is_the_published_sum():
    f, late = np.random.default_rng(1).random((2, 11))
    published = 0.0
    for i in range(11):
        expected = late[i] + (f[0] - late[0])
        published += f[i] - expected
    assert effective_robustness(f, late) == pytest.approx(published)


@given(CURVE, CURVE, st.floats(-1, 1))
def test_a_better_start_alone_is_not_robustness(curve, reference, shift):
    assert effective_robustness(reference + shift, reference) == pytest.approx(0, abs=1e-12)
    before = effective_robustness(curve, reference)
    assert effective_robustness(curve + shift, reference) == pytest.approx(before, abs=1e-9)
    assert effective_robustness(reference, curve) == pytest.approx(-before, abs=1e-9)


@given(CURVE, CURVE)
def test_the_area_lies_between_the_scores_and_is_the_same_whoever_takes_part(curve, other):
    area = missingness_area(np.stack([curve, other]), LEVELS)
    assert curve.min() - 1e-12 <= area[0] <= curve.max() + 1e-12
    assert area[0] == pytest.approx(missingness_area(curve, LEVELS))


def study(subjects=20):
    rng = np.random.default_rng(0)
    fall = np.array([[0.0, 0.1, 0.2], [0.0, 0.05, 0.1], [0.05, 0.15, 0.25]])
    scores = 0.8 - fall + rng.normal(0, 0.1, (subjects, 1, 1)) + rng.normal(0, 0.01, (subjects, 3, 3))
    return resample_means(scores, seed=0), fall


def test_strategies_with_intervals_over_subjects():
    scores, _ = study()
    found = robustness(scores, ["late", "kept", "low"], [0, 0.5, 1.0], reference="late")
    assert list(found) == ["late", "kept", "low"]
    zero = found["late"].effective
    assert (zero.low, zero.value, zero.high) == (0, 0, 0)
    assert found["kept"].effective.low > 0.1
    assert found["kept"].effective.value == pytest.approx(0.15, abs=0.02)
    assert found["low"].effective.low < 0 < found["low"].effective.high
    assert found["kept"].clean.value == pytest.approx(scores.value[1, 0])
    assert found["kept"].worst.value == pytest.approx(scores.value[1, 2])
    assert found["kept"].relative.value == pytest.approx(relative_robustness(scores.value[1], [0, 0.5, 1]))
    people = found["kept"].area.high - found["kept"].area.low
    paired = found["kept"].effective.high - found["kept"].effective.low
    assert people > 2 * paired  # that people differ does not blur a paired measure


def test_what_makes_no_sense_is_refused():
    scores, _ = study()
    with pytest.raises(UnknownNameError, match="vote"):
        robustness(scores, ["late", "kept", "low"], [0, 0.5, 1.0], reference="vote")
    with pytest.raises(ShapeError, match="2 strategies"):
        robustness(scores, ["late", "kept"], [0, 0.5, 1.0], reference="late")
    with pytest.raises(ConfigError, match="ascend"):
        relative_robustness(np.zeros(3), [0, 1, 1])
    with pytest.raises(ConfigError, match="two or more"):
        missingness_area(np.zeros(1), [0.5])
    with pytest.raises(ShapeError, match=r"each of 2 levels, but got \(3,\)"):
        relative_robustness(np.zeros(3), [0, 1])
    with pytest.raises(ShapeError, match="same levels"):
        effective_robustness(np.zeros(3), np.zeros(2))
