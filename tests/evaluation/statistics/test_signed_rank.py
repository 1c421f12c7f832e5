"""Wilcoxon's test by hand, by every pattern of signs, and against scipy."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fusionkit.evaluation.statistics import signed_rank as module
from fusionkit.evaluation.statistics.signed_rank import signed_rank


def plain(differences):
    """W and its p-value by trying all patterns of signs."""
    d = np.array([x for x in differences if x])
    ranks = scipy.stats.rankdata(np.abs(d))
    statistic = ranks[d > 0].sum()
    every = np.array([np.dot(ranks, signs) for signs in itertools.product([0, 1], repeat=len(d))])
    return statistic, min(1, 2 * min((every <= statistic + 1e-9).mean(), (every >= statistic - 1e-9).mean()))


def test_five_subjects_that_all_agree():
    found = signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert (found.statistic, found.p) == (15, pytest.approx(2 / 32))


@pytest.mark.parametrize(
    "differences",
    [[1, 2, 3, -4], [1, 1, -1, 2, 2, 0, -5], [0, 0, 3], [-1, -1, -1, 1], [0.5, -0.5, 0.25, 1, 1, 1, -0.25, 0]],
)
def test_every_pattern_of_signs_with_ties_and_zeros(differences):
    found = signed_rank(np.array(differences, dtype=float))
    assert (found.statistic, found.p) == pytest.approx(plain(differences))


@pytest.mark.parametrize("subjects", [6, 12, 24, 80])
def test_agrees_with_scipy_for_many_tests_at_once(subjects):
    d = np.random.default_rng(subjects).normal(0.2, 1, (3, 4, subjects))
    theirs = scipy.stats.wilcoxon(d, axis=-1, method="exact")
    found = signed_rank(d)
    np.testing.assert_allclose(found.p, theirs.pvalue, rtol=1e-9)
    np.testing.assert_allclose(np.minimum(found.statistic, subjects * (subjects + 1) / 2 - found.statistic),
                               theirs.statistic)  # fmt: skip


def test_many_subjects_follow_the_normal_law(monkeypatch):
    d = np.round(np.random.default_rng(0).normal(0.1, 1, 150), 1)
    theirs = scipy.stats.wilcoxon(d, method="asymptotic", correction=False)
    normal = signed_rank(d)
    assert normal.p == pytest.approx(theirs.pvalue)
    monkeypatch.setattr(module, "EXACT", 150)
    assert signed_rank(d).p == pytest.approx(normal.p, rel=0.02)


def test_no_difference_at_all_is_no_evidence():
    assert signed_rank(np.zeros(8)).p == 1
    assert signed_rank(np.zeros(200)).p == 1


@given(arrays(float, st.integers(1, 9), elements=st.sampled_from([-2, -1, -0.5, 0, 0.5, 1, 3])))
def test_the_order_of_strategies_does_not_matter(differences):
    here, turned = signed_rank(differences), signed_rank(-differences)
    assert here.p == pytest.approx(turned.p)
    assert 0 < here.p <= 1
