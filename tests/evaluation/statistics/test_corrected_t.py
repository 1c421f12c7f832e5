"""The corrected t test by hand, without its correction against scipy, and where folds agree."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.evaluation.statistics.corrected_t import corrected_t, correction


def test_the_correction_by_hand():
    assert correction(4, 0.25) == pytest.approx(7 / 12)
    assert correction(10, 0) == pytest.approx(0.1)


def test_four_folds_by_hand():
    found = corrected_t(np.array([0.02, 0.04, 0.06, 0.08]), test_share=0.25)
    assert found.statistic == pytest.approx(2.535, abs=1e-3)
    assert found.p == pytest.approx(0.085, abs=5e-4)


def test_without_overlap_it_is_the_plain_test_for_many_at_once():
    d = np.random.default_rng(0).normal(0.3, 1, (3, 2, 7))
    theirs = scipy.stats.ttest_1samp(d, 0, axis=-1)
    found = corrected_t(d, test_share=0.0)
    np.testing.assert_allclose(found.statistic, theirs.statistic)
    np.testing.assert_allclose(found.p, theirs.pvalue)


def test_keeps_its_level_where_folds_are_correlated_as_much_as_it_takes_them_to_be():
    rng = np.random.default_rng(1)
    d = np.sqrt(0.75) * rng.normal(size=(40_000, 4)) + np.sqrt(0.25) * rng.normal(size=(40_000, 1))
    assert (corrected_t(d, test_share=0.25).p < 0.05).mean() == pytest.approx(0.05, abs=0.005)
    assert (corrected_t(d, test_share=0.0).p < 0.05).mean() > 0.1


def test_four_folds_that_agree_are_four_signs():
    found = corrected_t(np.array([[0.1] * 4, [-0.1] * 4, [0.0] * 4]), test_share=0.25)
    np.testing.assert_array_equal(found.p, [2 / 2**4, 2 / 2**4, 1])
    np.testing.assert_array_equal(found.statistic, [np.inf, -np.inf, 0])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="got 1"):
        correction(4, 1.0)
    with pytest.raises(ShapeError, match="got 1"):
        corrected_t(np.ones((3, 1)), test_share=0.25)
