"""Friedman's test by hand, against scipy, and Demsar's published example."""

import itertools

import numpy as np
import pytest
import scipy.stats

from fusionkit.core.errors import ShapeError
from fusionkit.evaluation.statistics.friedman import friedman

DEMSAR = np.array(  # JMLR 2006, table 6: AUC of C4.5 and three variants on 14 sets
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_the_published_example():
    found = friedman(DEMSAR)
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    untied = 12 * 14 / 20 * ((found.ranks**2).sum() - 25)
    assert untied == pytest.approx(9.28, abs=0.005)  # the paper does not correct for ties
    assert 13 * untied / (14 * 3 - untied) == pytest.approx(3.69, abs=0.005)
    assert found.f > 3.69  # ties leave less to chance
    assert found.p < 0.05


def test_three_subjects_that_agree():
    found = friedman(np.array([[1.0, 2, 3]] * 3))
    assert found.chi_square == pytest.approx(6)
    assert np.isinf(found.f)
    assert found.p == pytest.approx(1 / 36)  # that all three agree: certainty it is not
    np.testing.assert_array_equal(found.ranks, [3, 2, 1])
    np.testing.assert_array_equal(friedman(np.array([[1.0, 2, 3]] * 3), "lower").ranks, [1, 2, 3])


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_agrees_with_scipy_with_ties_for_many_tables_at_once(digits):
    scores = np.round(np.random.default_rng(digits).normal(size=(5, 9, 4)), digits)
    found = friedman(scores)
    for number, table in enumerate(scores):
        theirs = scipy.stats.friedmanchisquare(*table.T)
        assert found.chi_square[number] == pytest.approx(theirs.statistic)
        assert found.chi_square_p[number] == pytest.approx(theirs.pvalue)


def test_iman_and_davenport_is_an_analysis_of_variance_of_ranks():
    scores = np.random.default_rng(1).normal(size=(12, 3))  # too many to count out
    ranks = scipy.stats.rankdata(-scores, axis=1)
    between = 12 * ((ranks.mean(0) - 2) ** 2).sum() / 2
    within = ((ranks - ranks.mean(0)) ** 2).sum() / 22
    found = friedman(scores)
    assert found.f == pytest.approx(between / within)
    assert found.p == pytest.approx(scipy.stats.f.sf(between / within, 2, 22))


def shuffled(table):
    """Share of all ways to shuffle the ranks of every subject whose rank sums lie as far apart."""
    ranks = scipy.stats.rankdata(-table, axis=1)
    every = [list(itertools.permutations(row)) for row in ranks]
    spread = [((np.sum(rows, axis=0) - ranks.sum(0).mean()) ** 2).sum() for rows in itertools.product(*every)]
    return np.mean(np.array(spread) >= ((ranks.sum(0) - ranks.sum(0).mean()) ** 2).sum() - 1e-9)


@pytest.mark.parametrize(("subjects", "strategies"), [(2, 3), (3, 3), (5, 3), (3, 4), (2, 5)])
@pytest.mark.parametrize("digits", [0, 9])
def test_few_subjects_are_counted_out_ties_and_all(subjects, strategies, digits):
    tables = np.round(np.random.default_rng(subjects).normal(size=(4, subjects, strategies)), digits)
    assert friedman(tables).p == pytest.approx([shuffled(table) for table in tables])


@pytest.mark.parametrize(("subjects", "strategies"), [(2, 3), (3, 3), (4, 3), (5, 6), (12, 4)])
def test_keeps_its_level_with_few_subjects(subjects, strategies):
    """F alone finds a difference in 17 % of two subjects and in 19 % of three, where there is none."""
    scores = np.random.default_rng(0).normal(size=(4000, subjects, strategies))
    assert (friedman(scores).p < 0.05).mean() < 0.07


def test_rounding_breaks_no_tie():
    """0.1 + 0.2 is not 0.3 to a computer, but nobody is better for it."""
    scores = np.array([[0.1 + 0.2, 0.3, 0.9], [0.3, 0.1 + 0.2, 0.9], [0.3, 0.3, 0.9]])
    np.testing.assert_array_equal(friedman(scores).ranks, [2.5, 2.5, 1])


def test_all_the_same_is_no_evidence():
    found = friedman(np.ones((4, 3)))
    assert (found.chi_square, found.p) == (0, 1)
    np.testing.assert_array_equal(found.ranks, [2, 2, 2])


def test_one_strategy_is_refused():
    with pytest.raises(ShapeError, match="got 1 and 4"):
        friedman(np.ones((4, 1)))
