"""The permutation test of signs by hand, by every pattern, and against scipy."""

import itertools

import numpy as np
import pytest
import scipy.stats

from fusionkit.evaluation.statistics import sign_flip as module
from fusionkit.evaluation.statistics.sign_flip import sign_flip


def plain(differences):
    """How many of all patterns of signs have a sum as far from 0."""
    sums = [abs(np.dot(differences, signs)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    return np.mean([s >= abs(np.sum(differences)) - 1e-9 for s in sums])


def test_three_subjects_by_hand():
    found = sign_flip(np.array([1.0, 2.0, 3.0]))
    assert (found.statistic, found.p) == (2, 0.25)


@pytest.mark.parametrize("subjects", [1, 2, 5, 11])
def test_every_pattern(subjects):
    d = np.random.default_rng(subjects).normal(0.4, 1, (3, 2, subjects))
    found = sign_flip(d)
    np.testing.assert_allclose(found.p.reshape(-1), [plain(row) for row in d.reshape(-1, subjects)])
    np.testing.assert_allclose(found.statistic, d.mean(-1))


def test_scores_in_tenths_are_not_split_by_rounding():
    assert sign_flip(np.array([0.1, 0.2, -0.3, 0.3])).p == plain([1, 2, -3, 3])


def test_agrees_with_scipy():
    d = np.random.default_rng(3).normal(0.5, 1, 10)
    theirs = scipy.stats.permutation_test((d,), lambda x, axis: x.mean(axis), permutation_type="samples",
                                          vectorized=True, n_resamples=np.inf)  # fmt: skip
    assert sign_flip(d).p == pytest.approx(theirs.pvalue)


def test_many_subjects_are_sampled_close_to_the_truth_and_alike_for_one_seed(monkeypatch):
    d = np.random.default_rng(0).normal(0.5, 1, (2, 13))
    exact = sign_flip(d).p
    monkeypatch.setattr("fusionkit.evaluation.statistics.sign_flip.EXACT", 12)
    first, again = sign_flip(d, seed=4), sign_flip(d, seed=4)
    np.testing.assert_array_equal(first.p, again.p)
    np.testing.assert_allclose(first.p, exact, atol=0.015)
    assert sign_flip(np.full(40, 1.0)).p == pytest.approx(1 / 10000)


def test_nothing_differs():
    assert sign_flip(np.zeros(6)).p == 1


def test_of_many_subjects_the_sum_is_normal_and_agrees_with_what_is_drawn(monkeypatch):
    d = np.random.default_rng(7).normal(0.03, 1, (4, 1001))
    normal = sign_flip(d)
    monkeypatch.setattr(module, "NORMAL", 5000)
    drawn = sign_flip(d, flips=20000)
    np.testing.assert_allclose(normal.p, drawn.p, atol=0.015)
    np.testing.assert_allclose(normal.statistic, d.mean(1))
    monkeypatch.undo()
    assert sign_flip(np.zeros(1001)).p == 1
