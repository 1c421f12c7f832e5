"""The classifier's test: scikit-learn as oracle, what its interval holds, and what it sees."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

from fusionkit.evaluation.generation.two_sample import two_sample_test


def test_it_equals_cross_validation_by_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 3)), generator.normal(0.7, 1, size=(25, 3))
    found = two_sample_test(x, y, 4)
    parts = StratifiedKFold(5, shuffle=True, random_state=4)
    values, side = np.concatenate([x, y]), np.repeat([0, 1], [40, 25])
    scores = cross_val_score(SVC(class_weight="balanced"), values, side, cv=parts, scoring="balanced_accuracy")
    assert found.value == pytest.approx(scores.mean())
    half = 2.776445 * np.sqrt((1 / 5 + 1 / 4) * scores.var(ddof=1))  # t of 4 degrees of freedom at 0.975
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-6)


def test_the_interval_holds_a_half_where_the_samples_are_alike() -> None:
    draws = np.random.default_rng(0).normal(size=(60, 2, 30, 4))
    found = [two_sample_test(x, y, seed) for seed, (x, y) in enumerate(draws)]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= 0.9
    assert np.mean([one.value for one in found]) == pytest.approx(0.5, abs=0.04)


def test_what_no_line_parts_is_told_apart() -> None:
    generator = np.random.default_rng(0)
    inside, outside = generator.normal(size=(100, 2)), generator.normal(size=(100, 2))
    outside *= 3 / np.linalg.norm(outside, axis=1, keepdims=True)
    found = two_sample_test(inside, outside, 0)
    assert found.value > 0.9
    assert found.low > 0.5


def test_records_that_all_show_their_origin_leave_room_for_those_not_seen() -> None:
    x = np.arange(10.0)[:, None]
    found = two_sample_test(x, x + 1000, 0)
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.025 ** (1 / 20))  # Clopper and Pearson
