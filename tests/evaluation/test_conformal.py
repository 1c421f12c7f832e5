"""Conformal sets by hand, against plain loops, and their coverage where people are alike and where they are not."""

import math

import numpy as np
import pytest

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.evaluation.conformal import calibrate, coverage


def plain_lac(calibration, target, new, level):
    scores = sorted(1 - row[int(y)] for row, y in zip(calibration, target, strict=True))
    k = math.ceil((len(scores) + 1) * level)
    bar = scores[k - 1] if k <= len(scores) else math.inf
    return [[1 - p <= bar + 1e-12 for p in row] for row in new]


def plain_aps(calibration, target, new, level):
    def strange(row, c):
        return sum(p for p in row if p > row[c]) + row[c]  # no two probabilities are equal here

    scores = sorted(strange(row, int(y)) for row, y in zip(calibration, target, strict=True))
    k = math.ceil((len(scores) + 1) * level)
    bar = scores[k - 1] if k <= len(scores) else math.inf
    return [[strange(row, c) <= bar + 1e-12 for c in range(len(row))] for row in new]


def sample(records, classes=4, seed=0, sharp=1.0):
    """Probabilities that are too sure by ``sharp``, and classes drawn from the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.dirichlet(np.full(classes, 0.5), records)
    target = (rng.random((records, 1)) > right.cumsum(1)).sum(1).clip(0, classes - 1).astype(float)
    said = right**sharp
    return said / said.sum(1, keepdims=True), target


@pytest.mark.parametrize(("kind", "plain"), [("lac", plain_lac), ("aps", plain_aps)])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("records", [8, 9, 60])
def test_agrees_with_the_plain_loop(kind, plain, level, records):
    calibration, target = sample(records)
    new, _ = sample(30, seed=1)
    found = calibrate(kind, calibration, target, level=level)(new)
    np.testing.assert_array_equal(found, plain(calibration, target, new, level))


def test_by_hand():
    rows = np.array([[0.6, 0.3, 0.1]])
    lac = calibrate("lac", np.array([[0.8, 0.1, 0.1]] * 9), np.array([0.0] * 8 + [1.0]), level=0.8)
    assert lac.threshold == pytest.approx(0.2)  # the eighth of nine: 0.2 eight times, then 0.9
    assert lac(rows).tolist() == [[False, False, False]]
    aps = calibrate("aps", np.array([[0.6, 0.3, 0.1]] * 9), np.array([0.0] * 4 + [1.0] * 5), level=0.8)
    assert aps.threshold == pytest.approx(0.9)
    assert aps(rows).tolist() == [[True, True, False]]


def test_too_few_records_for_the_level_hold_all_classes():
    calibration, target = sample(8)
    found = calibrate("lac", calibration, target, level=0.9)
    assert found.threshold == math.inf
    assert found(calibration).all()
    assert calibrate("lac", *sample(9), level=0.9).threshold < 1
    assert calibrate("aps", *sample(19), level=0.95).threshold <= 1 + 1e-9


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("sharp", [1.0, 4.0])
def test_covers_as_often_as_asked_however_wrong_the_probabilities(kind, sharp):
    """The theorem: between the level and the level + 1 / (n + 1), on average over calibrations."""
    held = []
    for seed in range(300):
        rows, target = sample(99 + 50, seed=seed, sharp=sharp)
        sets = calibrate(kind, rows[:99], target[:99], level=0.9)(rows[99:])
        held.append(sets[np.arange(50), target[99:].astype(int)].mean())
    assert np.mean(held) == pytest.approx(0.905, abs=0.012)


def test_lac_sets_are_the_smaller_and_aps_grow_with_doubt():
    rows, target = sample(4000)
    lac, aps = (calibrate(kind, rows[:2000], target[:2000])(rows[2000:]) for kind in ("lac", "aps"))
    assert lac.sum() < aps.sum()
    sure = rows[2000:].max(1)
    assert aps[sure < 0.5].sum(1).mean() > aps[sure > 0.9].sum(1).mean()


def test_coverage_is_measured_by_subject_and_falls_where_people_differ():
    rows, target = sample(3000, seed=3)
    sets = calibrate("lac", rows[:1000], target[:1000])
    subjects = np.repeat(np.arange(20), 100)
    strange = np.random.default_rng(0).permutation(rows[1000:][subjects == 7], axis=1)
    new = rows[1000:].copy()
    new[subjects == 7] = strange  # for one person the model's classes mean something else
    found = coverage(sets(new), target[1000:], subjects, seed=0)
    assert min(found.by_subject, key=found.by_subject.get) == "7"
    assert found.by_subject["7"][0] < 0.75
    everyone = np.array(list(found.by_subject.values())).mean(0)  # each has as many records
    assert everyone == pytest.approx([found.coverage.value, found.size.value])
    assert found.coverage.low < found.coverage.value < found.coverage.high
    plain = sets(new)[np.arange(2000), target[1000:].astype(int)].mean()
    assert found.coverage.value == pytest.approx(plain)
    assert found.size.value == pytest.approx(sets(new).sum(1).mean())
    assert found.empty + found.single <= 1
    assert found.single == pytest.approx((sets(new).sum(1) == 1).mean())


def test_missing_targets_are_left_out():
    rows, target = sample(60)
    some = target.copy()
    some[::4] = np.nan
    kept = ~np.isnan(some)
    here, there = calibrate("aps", rows, some), calibrate("aps", rows[kept], target[kept])
    assert here == there
    subjects = np.arange(60) % 5
    measured = coverage(here(rows), some, subjects, seed=0)
    assert measured == coverage(here(rows)[kept], target[kept], subjects[kept], seed=0)


def test_what_makes_no_sense_is_refused():
    rows, target = sample(5)
    with pytest.raises(ConfigError, match="got 1"):
        calibrate("lac", rows, target, level=1)
    with pytest.raises(ConfigError, match="'raps'"):
        calibrate("raps", rows, target)
    with pytest.raises(DataError, match="none"):
        calibrate("lac", rows, np.full(5, np.nan))
    with pytest.raises(DataError, match="between 0 and 1"):
        calibrate("lac", np.log(rows), target)
    with pytest.raises(ShapeError, match="group"):
        coverage(rows > 0.5, target, np.arange(5)[:, None], seed=0)
