"""Paired gains against hand values, scipy and a simulation of overlapping training parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.evaluation.paired import paired_gain

FOUR = np.array([[0.02], [0.04], [0.06], [0.08]])


def test_hand_value() -> None:
    found = paired_gain(0.5 + FOUR, np.full((4, 1), 0.5), ratio=1 / 3)
    assert [found.value, found.low, found.high] == pytest.approx([0.05, -0.012758, 0.112758], abs=1e-6)
    assert found.finding == "no gain" and found.folds == 4 and found.note == ""


def test_without_the_correction_it_is_the_paired_t_interval_of_scipy() -> None:
    generator = np.random.default_rng(0)
    changed, plain = generator.normal(0.1, 1, (2, 7, 1))
    found = paired_gain(changed, plain, ratio=0)
    oracle = stats.ttest_rel(changed[:, 0], plain[:, 0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    plain_hand = paired_gain(0.5 + FOUR, np.full((4, 1), 0.5), ratio=0)
    assert (plain_hand.low, plain_hand.high) == pytest.approx((0.0089, 0.0911), abs=1e-4)
    assert plain_hand.finding == "gain"


def test_seeds_are_averaged_and_are_no_observations() -> None:
    wobble = np.array([[-0.3, 0.3]])
    one = paired_gain(0.5 + FOUR, np.full((4, 1), 0.5), ratio=0.2)
    two = paired_gain(0.5 + FOUR + wobble, np.full((4, 2), 0.5), ratio=0.2)
    many = paired_gain(np.repeat(0.5 + FOUR, 50, 1), np.full((4, 50), 0.5), ratio=0.2)
    for other in (two, many):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


def test_what_is_missing_has_no_pair() -> None:
    changed, plain = np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, np.nan]]), np.array([[0.0, 9.0], [1.0, 1.0], [5, 5]])
    found = paired_gain(changed, plain, ratio=0)
    assert found.each[:2] == (1.0, 1.5) and np.isnan(found.each[2])
    assert found.value == 1.25 and found.folds == 2


def test_one_fold_has_no_interval_and_none_no_value() -> None:
    one = paired_gain(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]), ratio=0.25)
    assert one.value == 1.5 and np.isnan(one.low) and one.finding == "unknown" and "one fold" in one.note
    none = paired_gain(np.full((3, 1), np.nan), np.zeros((3, 1)), ratio=0.25)
    assert np.isnan(none.value) and none.note == "no pair" and none.finding == "unknown"


def test_equal_scores_are_no_gain() -> None:
    same = np.random.default_rng(0).random((4, 3))
    found = paired_gain(same, same, ratio=1 / 3)
    assert (found.value, found.low, found.high, found.finding) == (0, 0, 0, "no gain")


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(0, 2))
def test_where_lower_is_better_the_sign_turns(values: list[float], ratio: float) -> None:
    changed = np.array(values)[:, None]
    higher, lower = (paired_gain(changed, 0 * changed, ratio=ratio, better=b) for b in ("higher", "lower"))
    assert (lower.value, lower.low, lower.high) == pytest.approx((-higher.value, -higher.high, -higher.low))
    assert {higher.finding, lower.finding} in ({"gain", "loss"}, {"no gain"}, {"unknown"})


@pytest.mark.parametrize("plain", [0.5, 0.1, 0.7])
def test_folds_that_all_differ_alike_are_no_certain_gain(plain: float) -> None:
    """Two folds of 20 records, each with one more that is right: 0.05 twice."""
    before = np.array([[plain], [plain + 0.1]])
    found = paired_gain(before + 0.05, before, ratio=1)
    assert found.value == pytest.approx(0.05) and found.finding == "unknown" and "all folds alike" in found.note
    assert paired_gain(before, before, ratio=1).finding == "no gain"


def test_bounds() -> None:
    with pytest.raises(ConfigError, match="-1"):
        paired_gain(FOUR, FOUR, ratio=-1)
    with pytest.raises(ShapeError, match=r"\(4, 1\) and \(3, 1\)"):
        paired_gain(FOUR, FOUR[:3], ratio=0.3)


def test_the_correction_holds_its_level_where_parts_overlap() -> None:
    """Two guesses that are equally good, on 10 random parts of the same data: the plain t says so too rarely."""
    generator = np.random.default_rng(1)
    covered = {0.0: 0, 1 / 3: 0}
    for _ in range(300):
        data = generator.normal(size=(24, 3))
        changed, plain = np.empty((10, 1)), np.empty((10, 1))
        for fold in range(10):
            order = generator.permutation(24)
            for score, column in ((changed, 1), (plain, 2)):
                test, train = data[order[:6]], data[order[6:]]
                slope = train[:, column] @ train[:, 0] / (train[:, column] @ train[:, column])
                score[fold, 0] = -np.mean((slope * test[:, column] - test[:, 0]) ** 2)
        for ratio in covered:
            found = paired_gain(changed, plain, ratio=ratio)
            covered[ratio] += found.low <= 0 <= found.high
    assert covered[0.0] / 300 < 0.85 and covered[1 / 3] / 300 > 0.92
