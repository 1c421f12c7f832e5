"""Holm's correction by hand, against statsmodels, and what it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fusionkit.evaluation.statistics.holm import holm


def test_three_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_what_was_not_tested_does_not_count():
    np.testing.assert_allclose(holm(np.array([np.nan, 0.04, 0.01, np.nan])), [np.nan, 0.04, 0.02, np.nan])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).random((6, 8)) ** 3
    theirs = [multitest.multipletests(row, method="holm")[1] for row in p]
    np.testing.assert_allclose(holm(p), theirs)


@given(arrays(float, st.integers(1, 7), elements=st.floats(0, 1)))
def test_between_the_raw_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_steps_down_where_bonferroni_does_not():
    assert (holm(np.array([0.01, 0.02, 0.04])) <= 0.05).all()
    assert not (3 * np.array([0.01, 0.02, 0.04]) <= 0.05).all()
