"""Critical differences against Demsar's tables, p-values against scikit-posthocs, cliques by hand."""

import math

import numpy as np
import pytest

from fusionkit.evaluation.statistics.friedman import friedman
from fusionkit.evaluation.statistics.nemenyi import cliques, critical_difference, nemenyi


@pytest.mark.parametrize(
    ("strategies", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_the_published_table(strategies, quantile):
    expected = quantile * math.sqrt(strategies * (strategies + 1) / (6 * 14))
    assert critical_difference(strategies, 14) == pytest.approx(expected, rel=3e-4)


def test_another_level():
    assert critical_difference(4, 14, 0.90) == pytest.approx(2.291 * math.sqrt(20 / 84), rel=3e-4)


def test_pairs_differ_where_ranks_lie_further_apart_than_the_critical_difference():
    difference = critical_difference(4, 9)
    p = nemenyi(np.array([1.0, 1 + difference * 1.001, 1 + difference * 0.999, 4.0]), 9)
    assert p[0, 1] < 0.05 < p[0, 2]
    np.testing.assert_allclose(p, p.T)
    np.testing.assert_allclose(np.diag(p), 1)


def test_agrees_with_scikit_posthocs():
    posthocs = pytest.importorskip("scikit_posthocs")
    scores = np.random.default_rng(0).normal(size=(10, 5)) + np.arange(5) * 0.4
    theirs = posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    np.testing.assert_allclose(nemenyi(friedman(scores).ranks, 10), theirs, atol=1e-6)


def test_cliques_by_hand():
    ranks = np.array([3.0, 1.0, 2.0, 9.0])
    assert cliques(ranks, 1.5) == [[1, 2], [2, 0]]
    assert cliques(ranks, 2.0) == [[1, 2, 0]]
    assert cliques(ranks, 0.5) == []
    assert cliques(ranks, 100) == [[1, 2, 0, 3]]
