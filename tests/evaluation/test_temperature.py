"""Temperature scaling by hand, against a grid and scikit-learn, and where it must end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.evaluation.calibration import reliability_curve
from fusionkit.evaluation.formula import negative_log_likelihood
from fusionkit.evaluation.temperature import fit_temperature, fit_temperature_near, temper


def sample(temperature, records=4000, classes=3, seed=0):
    """Logits that are right at a temperature, with classes drawn accordingly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (records, classes))
    chance = temper(logits, 1.0)
    target = (rng.random((records, 1)) > chance.cumsum(1)).sum(1).clip(0, classes - 1).astype(float)
    return logits * temperature, target


def test_a_temperature_by_hand():
    np.testing.assert_allclose(temper(np.log([[0.9, 0.1]]), 2), [[0.75, 0.25]])
    np.testing.assert_allclose(temper(np.log([[0.9, 0.1]]), 1), [[0.9, 0.1]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_logits_were_multiplied_by(temperature):
    assert fit_temperature(*sample(temperature, records=40_000)) == pytest.approx(temperature, rel=0.03)


def test_has_the_least_loss_of_a_grid():
    logits, target = sample(2.0, records=300)
    found = fit_temperature(logits, target)
    losses = {t: negative_log_likelihood(temper(logits, t), target).mean() for t in np.linspace(0.5, 5, 400)}
    best = min(losses, key=losses.get)
    assert found == pytest.approx(best, abs=0.012)
    assert negative_log_likelihood(temper(logits, found), target).mean() <= losses[best]


def test_agrees_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    logits, target = sample(2.5, records=500)
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("this scikit-learn has no temperature scaling")
    theirs = calibration._TemperatureScaling().fit(logits, target.astype(int))
    assert 1 / theirs.beta_ == pytest.approx(fit_temperature(logits, target), rel=1e-3)


def test_new_records_are_better_calibrated_and_no_answer_changes():
    logits, target = sample(3.0)
    found = fit_temperature(logits[:2000], target[:2000])
    before, after = temper(logits[2000:], 1.0), temper(logits[2000:], found)
    error = [reliability_curve(p, target[2000:]).error for p in (before, after)]
    assert error[0] > 0.1
    assert error[1] < 0.04
    np.testing.assert_array_equal(before.argmax(1), after.argmax(1))


def test_records_that_warrant_no_certainty_and_records_that_are_all_right():
    rows = np.log([[0.9, 0.1], [0.9, 0.1]])
    assert fit_temperature(rows, np.array([0.0, 1.0])) == 20
    assert fit_temperature(rows, np.array([1.0, 1.0])) == 20
    assert fit_temperature(rows, np.array([0.0, 0.0])) == 0.05
    assert fit_temperature(np.zeros((2, 2)), np.array([0.0, 1.0])) == 20


def test_a_probability_of_0_is_no_infinite_loss():
    rows = np.array([[0.0, -np.inf], [0.0, -np.inf], [0.0, -np.inf]])
    assert fit_temperature(rows, np.array([0.0, 0.0, 1.0])) == 20  # log(10^12) / log(2) = 39.9 would be the best
    assert np.isfinite(temper(rows, 0.05)).all()


@given(st.integers(0, 50), st.floats(-50, 50))
def test_what_is_added_to_all_classes_changes_nothing(seed, shift):
    logits, target = sample(1.5, records=40, seed=seed)
    assert fit_temperature(logits + shift, target) == pytest.approx(fit_temperature(logits, target), rel=1e-5)


def test_missing_targets_are_left_out_and_labels_share_a_temperature():
    logits, target = sample(2.0, records=200, classes=2)
    some = target.copy()
    some[::3] = np.nan
    kept = ~np.isnan(some)
    assert fit_temperature(logits, some) == pytest.approx(fit_temperature(logits[kept], target[kept]))
    labels = fit_temperature(logits.reshape(100, 2, 2), target.reshape(100, 2))
    assert labels == pytest.approx(fit_temperature(logits, target))


def test_what_makes_no_sense_is_refused():
    logits, target = sample(1.0, records=4)
    with pytest.raises(DataError, match="none"):
        fit_temperature(logits, np.full(4, np.nan))
    with pytest.raises(DataError, match="below 3"):
        fit_temperature(logits, target + 5)
    with pytest.raises(DataError, match="finite"):
        fit_temperature(np.full((4, 3), np.nan), target)
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        fit_temperature(logits, target[:3])
    with pytest.raises(ConfigError, match="got 0"):
        temper(logits, 0)


def test_a_few_records_move_a_known_temperature_a_little():
    sure = np.log([[0.9, 0.1]] * 4)
    right = np.zeros(4)
    assert fit_temperature(sure, right) == 0.05
    near = fit_temperature_near(sure, right, 1.5)
    assert 0.5 < near < 1.5
    grid = np.exp(np.linspace(-2, 2, 40_001))
    scaled = sure[:, :, None] / grid
    loss = -(scaled[:, 0] - np.log(np.exp(scaled).sum(1))).sum(0) + np.log(grid / 1.5) ** 2 / (2 * 0.5**2)
    assert near == pytest.approx(grid[loss.argmin()], rel=1e-3)


def test_without_labels_a_known_temperature_stays_and_many_records_overrule_it():
    generator = np.random.default_rng(0)
    rows, right = generator.normal(0, 4, (20_000, 3)), generator.integers(0, 3, 20_000).astype(float)
    assert fit_temperature_near(rows, np.full(20_000, np.nan), 2.5) == pytest.approx(2.5, rel=1e-4)
    right[:] = [generator.choice(3, p=p) for p in temper(rows, 3.0)]
    assert fit_temperature_near(rows, right, 0.5) == pytest.approx(fit_temperature(rows, right), rel=0.02)
