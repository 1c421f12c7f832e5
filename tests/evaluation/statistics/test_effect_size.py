"""Effect sizes by hand, against loops, and without bias where they say so."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.evaluation.statistics.effect_size import cliffs_delta, cohen_dz, hedges_gz, rank_biserial
from fusionkit.evaluation.statistics.signed_rank import signed_rank


def test_by_hand():
    assert cohen_dz(np.array([1.0, 2, 3])) == pytest.approx(2)
    assert rank_biserial(np.array([1.0, 2, -3])) == pytest.approx(0)
    assert rank_biserial(np.array([1.0, 2, 3, 0])) == pytest.approx(1)
    assert cliffs_delta(np.array([1.0, 2]), np.array([1.0, 0])) == pytest.approx(0.75)


def test_what_does_not_vary_has_no_size():
    assert np.isnan(cohen_dz(np.ones(4)))
    assert np.isnan(cohen_dz(np.ones(1)))
    assert np.isnan(hedges_gz(np.array([1.0, 2.0])))
    assert np.isnan(rank_biserial(np.zeros(4)))


def test_cohens_is_the_t_statistic_over_the_root_of_subjects():
    d = np.random.default_rng(0).normal(0.3, 1, (4, 11))
    np.testing.assert_allclose(cohen_dz(d), scipy.stats.ttest_1samp(d, 0, axis=-1).statistic / np.sqrt(11))


def test_hedges_has_no_bias_where_cohens_has():
    d = np.random.default_rng(1).normal(0.8, 1, (60000, 5))
    assert hedges_gz(d).mean() == pytest.approx(0.8, abs=0.01)
    assert cohen_dz(d).mean() == pytest.approx(0.8 / 0.7979, abs=0.012)
    approximation = 1 - 3 / (4 * 19 - 1)
    assert hedges_gz(d[0].repeat(4)) / cohen_dz(d[0].repeat(4)) == pytest.approx(approximation, abs=5e-4)


def test_rank_biserial_is_the_signed_rank_statistic_rescaled():
    d = np.round(np.random.default_rng(2).normal(0.3, 1, (5, 9)), 0)
    total = [sum(scipy.stats.rankdata(np.abs(row[row != 0]))) for row in d]
    np.testing.assert_allclose(rank_biserial(d), 2 * signed_rank(d).statistic / total - 1)


def test_cliffs_delta_is_a_rescaled_mann_whitney():
    first, second = np.random.default_rng(3).integers(0, 5, (2, 12)).astype(float)
    u = scipy.stats.mannwhitneyu(first, second).statistic
    assert cliffs_delta(first, second) == pytest.approx(2 * u / 144 - 1)
