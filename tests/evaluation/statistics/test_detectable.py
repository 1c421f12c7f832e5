"""Detectable differences against statsmodels and by simulation."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.statistics.detectable import detectable_difference


@pytest.mark.parametrize("subjects", [4, 12, 40])
@pytest.mark.parametrize(("level", "power"), [(0.95, 0.8), (0.99, 0.5), (0.95, 0.08)])
def test_agrees_with_statsmodels(subjects, level, power):
    statsmodels = pytest.importorskip("statsmodels.stats.power")
    effect = statsmodels.TTestPower().solve_power(nobs=subjects, alpha=1 - level, power=power)
    found = detectable_difference(1 / np.sqrt(subjects), subjects - 1, level=level, power=power)
    assert found == pytest.approx(effect, rel=1e-4)


def test_many_subjects_and_four_folds_by_hand():
    assert detectable_difference(1, 10_000) == pytest.approx(1.960 + 0.842, abs=2e-3)
    assert detectable_difference(1, 3) == pytest.approx(4.26, abs=0.01)


def test_a_difference_of_that_size_is_found_as_often_as_promised():
    true = detectable_difference(1 / np.sqrt(8), 7)
    d = np.random.default_rng(0).normal(true, 1, (40_000, 8))
    assert (scipy.stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_it_grows_with_the_error_and_with_what_is_asked():
    assert detectable_difference(0.02, 5) == pytest.approx(2 * detectable_difference(0.01, 5))
    assert detectable_difference(0, 5) == 0
    assert detectable_difference(1, 5, power=0.9) > detectable_difference(1, 5, power=0.8)
    assert detectable_difference(1, 5, level=0.99) > detectable_difference(1, 5)


@pytest.mark.parametrize(("freedom", "level", "power"), [(0, 0.95, 0.8), (3, 1.0, 0.8), (3, 0.95, 0.05), (3, 0.95, 1)])
def test_what_makes_no_sense_is_refused(freedom, level, power):
    with pytest.raises(ConfigError, match="must have"):
        detectable_difference(1, freedom, level=level, power=power)
