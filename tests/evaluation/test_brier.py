"""The decomposition of the Brier score: by hand, and its terms add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.evaluation.brier import brier_parts
from fusionkit.evaluation.formula import brier


def test_a_model_that_says_how_often():
    parts = brier_parts(np.tile([0.75, 0.25], (4, 1)), np.array([0.0, 0, 0, 1]))
    assert (parts.score, parts.reliability, parts.resolution) == pytest.approx((0.375, 0, 0))
    assert (parts.uncertainty, parts.within) == pytest.approx((0.375, 0))


def test_a_model_that_knows():
    parts = brier_parts(np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]), np.array([0.0, 1, 0, 1]))
    assert (parts.score, parts.reliability) == (0, 0)
    assert parts.resolution == parts.uncertainty == pytest.approx(0.5)


def test_a_model_that_is_sure_and_wrong_half_of_the_time():
    parts = brier_parts(np.tile([1.0, 0.0], (4, 1)), np.array([0.0, 1, 0, 1]))
    assert parts.reliability == pytest.approx(2 * 0.25)
    assert (parts.resolution, parts.uncertainty) == pytest.approx((0, 0.5))


@given(st.integers(0, 200), st.integers(2, 5), st.integers(1, 60))
def test_terms_add_up_and_what_bins_hide_is_what_the_paper_says(seed, classes, records):
    rng = np.random.default_rng(seed)
    probabilities, target = rng.dirichlet(np.ones(classes), records), rng.integers(classes, size=records).astype(float)
    parts = brier_parts(probabilities, target, bins=4)
    assert parts.score == pytest.approx(brier(probabilities, target).mean())
    within = 0.0
    for c in range(classes):
        truth, said = (target == c).astype(float), probabilities[:, c]
        place = np.minimum(np.ceil(said * 4) - 1, 3).clip(0)
        for b in range(4):
            p, o = said[place == b], truth[place == b]
            if len(p):
                within += ((p - p.mean()) ** 2).sum() / records
                within -= 2 * ((p - p.mean()) * (o - o.mean())).sum() / records
    assert parts.within == pytest.approx(within, abs=1e-9)
    assert parts.score == pytest.approx(parts.reliability - parts.resolution + parts.uncertainty + parts.within)


def test_missing_targets_are_left_out_and_nothing_is_nan():
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 9)
    target = np.array([0.0, 1, 2] * 3)
    target[4:] = np.nan
    assert brier_parts(rows, target) == brier_parts(rows[:4], target[:4])
    assert np.isnan(brier_parts(rows, np.full(9, np.nan)).score)
