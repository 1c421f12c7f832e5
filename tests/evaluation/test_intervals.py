"""The bootstrap: coverage on made studies, groups against windows, determinism, degenerate cases, speed."""

import time

import numpy as np
import pytest
from scipy import stats

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.core.registry import heads
from fusionkit.evaluation.intervals import bootstrap, bootstrap_all
from fusionkit.evaluation.metrics import metrics_of

TASK = heads.build("classification", {"classes": ["a", "b"]})
ACCURACY = metrics_of(TASK)["accuracy"]


def study(groups, windows, seed):
    """Subjects differ in how well they are read: mean accuracy 0.8 over subjects."""
    rng = np.random.default_rng(seed)
    ability = rng.beta(8, 2, size=groups)
    right = rng.random((groups, windows)) < ability[:, None]
    target = np.arange(groups * windows) % 2
    sure = np.where(right.ravel(), 0.7, 0.3)
    prediction = np.stack([np.where(target == 0, sure, 1 - sure), np.where(target == 1, sure, 1 - sure)], axis=1)
    return prediction, target.astype(float), np.repeat(np.arange(groups), windows)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """400 studies of 60 subjects: 95 % give or take four binomial deviations and the bootstrap's own small lack."""
    held = 0
    for seed in range(400):
        interval = bootstrap(ACCURACY, *study(60, 20, seed), seed=seed, repetitions=400)
        held += interval.low <= 0.8 <= interval.high
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 400, 0.94)
    assert low <= held <= high


def test_drawing_windows_would_be_too_narrow_and_wrong():
    held, narrower = 0, 0
    for seed in range(60):
        prediction, target, groups = study(24, 30, seed)
        right = bootstrap(ACCURACY, prediction, target, groups, seed=seed, repetitions=300)
        wrong = bootstrap(ACCURACY, prediction, target, np.arange(len(target)), seed=seed, repetitions=300)
        narrower += wrong.high - wrong.low < right.high - right.low
        held += wrong.low <= 0.8 <= wrong.high
    assert narrower == 60
    assert held < 54  # 68 % in the long run, far from 95 %


def test_the_width_is_that_of_the_normal_approximation():
    prediction, target, groups = study(200, 10, 1)
    interval = bootstrap(ACCURACY, prediction, target, groups, seed=0)
    each = (prediction.argmax(1) == target).reshape(200, 10).mean(1)
    assert interval.value == pytest.approx(each.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * each.std() / 200**0.5, rel=0.1)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_records_none():
    prediction, target, groups = study(12, 9, 3)
    one = bootstrap_all(TASK, prediction, target, groups, seed=5)
    assert one == bootstrap_all(TASK, prediction, target, groups, seed=5)
    few = {bootstrap(ACCURACY, prediction, target, groups, seed=seed, repetitions=20) for seed in range(5)}
    assert len(few) > 1
    order = np.random.default_rng(0).permutation(len(target))
    shuffled = bootstrap_all(TASK, prediction[order], target[order], groups[order], seed=5)
    for name, interval in one.items():
        assert (shuffled[name].low, shuffled[name].high) == pytest.approx((interval.low, interval.high), nan_ok=True)


def test_all_metrics_share_the_draws_of_one():
    prediction, target, groups = study(12, 9, 3)
    assert bootstrap_all(TASK, prediction, target, groups, seed=5)["accuracy"] == bootstrap(
        ACCURACY, prediction, target, groups, seed=5
    )


def test_a_function_of_one_s_own_is_resampled_by_records():
    prediction, target, groups = study(8, 5, 2)

    def accuracy(prediction, target):
        return float((prediction.argmax(1) == target).mean())

    slow = bootstrap(accuracy, prediction, target, groups, seed=1, repetitions=200)
    fast = bootstrap(ACCURACY, prediction, target, groups, seed=1, repetitions=200)
    assert (slow.low, slow.high, slow.value) == pytest.approx((fast.low, fast.high, fast.value))


def test_groups_may_have_names_and_missing_targets_leave():
    prediction, target, groups = study(6, 4, 2)
    names = np.array([f"S{g:02d}" for g in groups])
    named = bootstrap(ACCURACY, prediction, target, names, seed=1)
    assert named == bootstrap(ACCURACY, prediction, target, groups, seed=1)
    gaps = np.where(groups == 2, np.nan, target)
    left = bootstrap(ACCURACY, prediction, gaps, names, seed=1)
    assert left == bootstrap(ACCURACY, prediction[groups != 2], target[groups != 2], names[groups != 2], seed=1)


def test_one_group_has_no_interval_and_says_so():
    prediction, target, _ = study(2, 10, 1)
    interval = bootstrap(ACCURACY, prediction, target, np.zeros(20), seed=0)
    assert np.isnan([interval.low, interval.high]).all()
    assert interval.value == pytest.approx((prediction.argmax(1) == target).mean())
    assert interval.note == "no interval: one group only"


def test_no_labelled_record_says_so():
    prediction, target, groups = study(2, 10, 1)
    interval = bootstrap(ACCURACY, prediction, np.full_like(target, np.nan), groups, seed=0)
    assert np.isnan([interval.low, interval.high, interval.value]).all()
    assert interval.note == "no labelled record"


def test_resamples_without_both_classes_are_counted():
    """Four subjects, one of whom alone is of class 0: about (3/4)^4 of resamples lack it, and (1/4)^4 have no other."""
    target = np.repeat([0.0, 1, 1, 1], 5)
    yes = np.linspace(0, 1, 20)
    prediction = np.stack([1 - yes, yes], axis=1)
    interval = bootstrap_all(TASK, prediction, target, np.repeat(np.arange(4), 5), seed=0)["auroc"]
    assert (interval.low, interval.high, interval.value) == (1, 1, 1)
    lost = int(interval.note.removeprefix("not defined in ").split()[0])
    assert abs(lost / 2000 - (81 + 1) / 256) < 0.05
    never = bootstrap_all(TASK, prediction, np.ones(20), np.repeat(np.arange(4), 5), seed=0)["auroc"]
    assert np.isnan([never.low, never.high, never.value]).all()
    assert never.note == "not defined in any resample"


def test_a_wider_level_is_a_wider_interval():
    made = study(24, 10, 1)
    narrow, wide = (bootstrap(ACCURACY, *made, seed=0, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"level": 1.0}, ConfigError, "level between 0 and 1, got 2000 and 1.0"),
        ({"repetitions": 0}, ConfigError, "got 0 and"),
    ],
)
def test_wrong_numbers_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        bootstrap(ACCURACY, *study(3, 3, 0), seed=0, **options)


def test_what_does_not_fit_is_refused():
    prediction, target, groups = study(3, 3, 0)
    with pytest.raises(ShapeError, match=r"a group for each record, but got \(8,\)"):
        bootstrap(ACCURACY, prediction, target, groups[1:], seed=0)
    with pytest.raises(DataError, match="no logarithms"):
        bootstrap(ACCURACY, np.log(prediction), target, groups, seed=0)


def test_chunks_do_not_show(monkeypatch):
    made = study(10, 7, 4)
    whole = bootstrap_all(TASK, *made, seed=2, repetitions=100)
    monkeypatch.setattr("fusionkit.evaluation.intervals.CELLS", 7 * 70)
    assert bootstrap_all(TASK, *made, seed=2, repetitions=100) == whole


def test_720_records_of_24_groups_take_far_less_than_a_second():
    made = study(24, 30, 0)
    start = time.process_time()
    bootstrap(ACCURACY, *made, seed=0)
    bootstrap_all(TASK, *made, seed=0)
    assert time.process_time() - start < 1
