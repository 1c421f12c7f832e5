"""The Bayesian test by hand, by sampling, and against baycomp."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.evaluation.statistics.correlated_t import correlated_t

FOLDS = np.array([0.02, 0.05, -0.01, 0.04])


def test_without_a_region_the_probabilities_are_one_sided_p_values():
    found = correlated_t(FOLDS, test_share=0.25, rope=0)
    statistic = FOLDS.mean() / np.sqrt(7 / 12 * FOLDS.var(ddof=1))
    assert found.worse == pytest.approx(scipy.stats.t.sf(statistic, 3))
    assert (found.same, found.better) == (0, pytest.approx(1 - found.worse))
    assert found.low == pytest.approx(FOLDS.mean() - 3.182446 * np.sqrt(7 / 12 * FOLDS.var(ddof=1)))


@pytest.mark.parametrize("rope", [0.0, 0.01, 0.2])
def test_agrees_with_samples_of_the_model(rope):
    """Draw a variance, then a mean given it: the posterior of a normal model, its variance stretched."""
    rng = np.random.default_rng(0)
    variance = 3 * FOLDS.var(ddof=1) / rng.chisquare(3, 400_000)
    mean = rng.normal(FOLDS.mean(), np.sqrt(7 / 12 * variance))
    found = correlated_t(FOLDS, test_share=0.25, rope=rope)
    expected = [(mean < -rope).mean(), (np.abs(mean) <= rope).mean(), (mean > rope).mean()]
    assert [found.worse, found.same, found.better] == pytest.approx(expected, abs=0.004)
    assert found.worse + found.same + found.better == pytest.approx(1)


def test_agrees_with_baycomp():
    baycomp = pytest.importorskip("baycomp")
    first, second = np.random.default_rng(1).normal(0.8, 0.05, (2, 10))
    theirs = baycomp.two_on_single(second, first, rope=0.01)  # left, region, right of first less second
    found = correlated_t(first - second, test_share=0.1, rope=0.01)
    assert (found.worse, found.same, found.better) == pytest.approx(theirs, abs=1e-6)


def test_the_order_of_strategies_turns_the_answer():
    here, there = (correlated_t(sign * FOLDS, test_share=0.25, rope=0.01) for sign in (1, -1))
    assert (here.worse, here.same, here.better) == pytest.approx((there.better, there.same, there.worse))


def test_folds_that_all_agree_leave_no_doubt():
    found = correlated_t(np.full(4, 0.02), test_share=0.25, rope=0.01)
    assert (found.worse, found.same, found.better, found.low, found.high) == (0, 0, 1, 0.02, 0.02)
    assert correlated_t(np.zeros(4), test_share=0.25, rope=0.0).same == 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="got -1"):
        correlated_t(FOLDS, test_share=0.25, rope=-1)
    with pytest.raises(ConfigError, match="got nan"):
        correlated_t(FOLDS, test_share=0.25, rope=float("nan"))
    with pytest.raises(ShapeError, match="got 1"):
        correlated_t(FOLDS[:1], test_share=0.25, rope=0)
