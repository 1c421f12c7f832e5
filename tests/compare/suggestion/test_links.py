"""Granger links between sensors: found where they are, against statsmodels, and not by what a label does to both."""

import warnings

import numpy as np
import pytest

from fusionkit.compare.suggestion.links import Links, Stream, coarsen, measure_links


def stream(values, real=None):
    values = np.asarray(values, dtype=float)
    return Stream(values, np.ones(values.shape[:2], dtype=bool) if real is None else real)


def driven(draw, records=150, bins=16):
    """The second sensor's first number follows the first's second by two bins; the third is by itself."""
    first, second, third = draw.standard_normal((3, records, bins + 2, 3))
    second[:, 2:, 0] += 0.8 * first[:, :-2, 1]
    return [stream(one[:, 2:]) for one in (first, second, third)]


def test_a_sensor_that_comes_later_is_linked():
    found = measure_links([*driven(np.random.default_rng(0)), None])
    assert [tuple(pair) for pair in np.argwhere(found.certain)] == [(0, 1)]
    assert 0.25 < found.share[0, 1] < 0.45  # of 1 + 0.64 the past explains 0.64
    assert np.isnan(found.p[3]).all() and np.isnan(found.p[:, 3]).all() and np.isnan(found.p.diagonal()).all()
    assert np.allclose(found.distance, [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]])


def test_one_long_record_is_as_in_statsmodels():
    stattools = pytest.importorskip("statsmodels.tsa.stattools")
    draw = np.random.default_rng(1)
    x, y = draw.standard_normal((2, 400))
    for t in range(2, 400):
        y[t] += 0.3 * y[t - 1] + 0.3 * x[t - 2]
    found = measure_links([stream(x[None, :, None]), stream(y[None, :, None])])
    for source, target, (i, j) in ((x, y, (0, 1)), (y, x, (1, 0))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tested = stattools.grangercausalitytests(np.stack([target, source], 1), maxlag=2)
        assert found.p[i, j] == pytest.approx(tested[2][0]["ssr_ftest"][1], rel=1e-6)


def test_a_label_that_raises_both_links_nothing():
    draw = np.random.default_rng(2)
    label = draw.integers(0, 2, (300, 1, 1)) * 3.0
    found = measure_links([stream(draw.standard_normal((300, 8, 2)) + label) for _ in range(2)])
    assert not found.certain.any()


def test_records_that_lack_one_sensor_are_left_out():
    first, second, _ = driven(np.random.default_rng(3))
    there = np.arange(len(first.values)) < 100
    spoilt = np.where(there[:, None, None], second.values, 1e3)
    lacking = stream(spoilt, np.broadcast_to(there[:, None], second.real.shape))
    whole = measure_links([Stream(*(part[:100] for part in one)) for one in (first, second)])
    assert np.allclose(measure_links([first, lacking]).share, whole.share, equal_nan=True)
    nowhere = stream(spoilt, np.zeros_like(second.real))
    assert np.isnan(measure_links([first, nowhere]).p).all()


def test_numbers_that_never_change_are_not_tried_and_cost_no_bin():
    draw = np.random.default_rng(5)
    first, second = draw.standard_normal((2, 60, 5, 1))
    second[:, 1:] += 0.8 * first[:, :-1]
    dull = np.concatenate([np.zeros((60, 5, 1)), np.full((60, 5, 1), 3.1)], -1) * (1 + draw.standard_normal((60, 1, 1)))
    bare = measure_links([stream(first), stream(second)])
    filled = measure_links([stream(np.concatenate([one, dull], -1)) for one in (first, second)])
    assert np.allclose(filled.p, bare.p, equal_nan=True) and np.allclose(filled.share, bare.share, equal_nan=True)
    assert bare.certain.tolist() == [[False, True], [False, False]]
    assert np.isnan(measure_links([stream(first), stream(dull)]).p).all()


def test_two_clocks_meet_on_the_coarser():
    made = coarsen(stream([[[1.0], [3.0], [5.0], [9.0]]], np.array([[True, True, True, False]])), 2)
    assert made.values.tolist() == [[[2.0], [5.0]]] and made.real.all()
    fast, slow, _ = driven(np.random.default_rng(4))
    halves = measure_links([fast, coarsen(slow, 8)])
    assert np.allclose(halves.p, measure_links([coarsen(fast, 8), coarsen(slow, 8)]).p, equal_nan=True)


def test_a_small_share_counts_as_nothing():
    p, share = np.array([[np.nan, 1e-9], [1e-9, np.nan]]), np.array([[np.nan, 0.009], [0.02, np.nan]])
    assert Links(p, share).certain.tolist() == [[False, False], [True, False]]
