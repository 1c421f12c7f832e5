"""What differs by rounding alone is the same; what differs by more is not."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.evaluation.statistics.effect_size import cliffs_delta, cohen_dz, rank_biserial
from fusionkit.evaluation.statistics.pairs import compare_pairs
from fusionkit.evaluation.statistics.signed_rank import signed_rank
from fusionkit.evaluation.statistics.ties import levels, without_rounding

FIRST = np.array([0.8, 0.3, 0.9, 0.55, 0.6, 0.7])
SECOND = np.array([0.75, 0.25, 0.95, 0.5, 0.65, 0.75])  # all differ by 0.05, says decimal arithmetic


def test_levels_by_hand():
    np.testing.assert_array_equal(levels(np.array([0.3, 0.8 - 0.75, 0.05, -0.3])), [2, 1, 1, 0])
    np.testing.assert_array_equal(levels(np.zeros((2, 3))), np.zeros((2, 3)))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8), st.floats(1e-3, 1e3))
def test_ranks_of_levels_are_those_of_whole_numbers(numbers, size):
    values = np.array(numbers) * size / 3 * 3  # as exact as a computer is
    np.testing.assert_array_equal(scipy.stats.rankdata(levels(values)), scipy.stats.rankdata(numbers))


def test_ranks_and_effects_see_no_order_where_all_differ_by_as_much():
    d = FIRST - SECOND
    assert len(np.unique(np.abs(d))) > 1  # rounding
    assert signed_rank(d).statistic == 10.5 == signed_rank(np.round(d, 9)).statistic
    assert rank_biserial(d) == 0
    assert rank_biserial(np.array([0.1, 0.2, -0.3 + 1e-17])) == 0
    assert np.isnan(cohen_dz(np.array([0.8 - 0.7, 0.9 - 0.8, 0.4 - 0.3])))
    assert cliffs_delta(np.array([0.1 + 0.2]), np.array([0.3])) == 0


def test_what_rounding_made_is_nothing_and_what_is_small_stays():
    np.testing.assert_array_equal(without_rounding(np.array([1e-17, 1e-9, -1.0]), 1.0), [0, 1e-9, -1])


def test_the_same_scores_in_another_order_of_seeds_are_no_difference():
    scores = np.random.default_rng(0).integers(0, 31, (20, 3)) / 30
    both = np.stack([scores.T, scores[:, [1, 2, 0]].T])  # (strategy, seed, subject)
    assert np.abs((both[0] - both[1]).mean(0)).max() > 0
    (pair,) = compare_pairs(both, both, np.arange(20), ["a", "b"], test_share=1 / 20, margin=0.01)
    assert (pair.comparison.difference, pair.comparison.p, pair.signed_rank, pair.sign_flip, pair.corrected) == (
        0, 1, 1, 1, 1,
    )  # fmt: skip
    assert np.isnan([pair.cohen_dz, pair.rank_biserial, pair.detectable]).all() and pair.cliffs_delta == 0
    assert pair.posterior.same == pytest.approx(1)
