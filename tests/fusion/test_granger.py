"""Granger: values by hand, statsmodels and plain least squares, stationarity, the false discovery rate, groups."""

import warnings

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from fusionkit.fusion.granger import (
    Moments,
    choose_lag,
    granger,
    linked_groups,
    links,
    make_stationary,
    significant,
    standardise,
    unit_root,
)


def driven(steps=400):
    """y follows x two steps later; the definition's example."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(steps), np.zeros(steps)
    for t in range(2, steps):
        y[t] = 0.3 * y[t - 1] + 0.8 * x[t - 2] + 0.3 * rng.standard_normal()
    return np.stack([x, y], -1)[None]


def everywhere(series):
    return np.ones(series.shape[:2], dtype=bool)


def naive_f(x, y, lag, real):
    """Two least squares on rows gathered one at a time, from any number of windows."""
    restricted, unrestricted, wanted = [], [], []
    for record in range(len(x)):
        for t in range(lag, x.shape[1]):
            if real[record, t - lag : t + 1].all():
                own, other = y[record, t - lag : t][::-1], x[record, t - lag : t][::-1]
                restricted.append([1, *own])
                unrestricted.append([1, *own, *other])
                wanted.append(y[record, t])
    left = []
    for design in (restricted, unrestricted):
        solution = np.linalg.lstsq(np.array(design), np.array(wanted), rcond=None)[0]
        left.append(((np.array(design) @ solution - wanted) ** 2).sum())
    n = len(wanted)
    return (left[0] - left[1]) / lag / (left[1] / (n - 2 * lag - 1))


def test_the_values_of_the_definition():
    series = driven()
    found, freedom = granger(series, everywhere(series), 2)
    assert freedom == 393
    assert found[0, 1] == pytest.approx(1480.24, abs=5e-3) and found[1, 0] == pytest.approx(0.748, abs=5e-4)
    assert found[0, 0] == found[1, 1] == 0


def test_units_and_offsets_do_not_matter():
    series = driven()
    scaled, _ = granger(standardise(series * [1e-6, 400] + 3, everywhere(series)), everywhere(series), 2)
    assert scaled[0, 1] == pytest.approx(1480.24, rel=1e-4)


def test_statsmodels_agrees():
    tools = pytest.importorskip("statsmodels.tsa.stattools")
    series = driven()
    found, _ = granger(series, everywhere(series), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = tools.grangercausalitytests(series[0][:, ::-1], [3])[3][0]["ssr_ftest"]
        walk = np.cumsum(np.random.default_rng(1).standard_normal((200, 2)), 0)
        roots = [tools.adfuller(column, maxlag=2, autolag=None)[0] for column in walk.T]
    assert found[0, 1] == pytest.approx(wanted[0])
    strength = links(found, 3, int(wanted[2]), 0.05)
    assert strength[0, 1] == pytest.approx(-np.log10(max(wanted[1], 1e-300)))
    np.testing.assert_allclose(unit_root(walk[None], everywhere(walk[None]), 2), roots)


def test_windows_with_gaps_are_one_regression():
    rng = np.random.default_rng(3)
    series = rng.standard_normal((6, 12, 3))
    series[:, 1:, 2] += series[:, :-1, 0]
    real = rng.random((6, 12)) < 0.9
    found, freedom = granger(series, real, 2)
    for source, target in ((0, 2), (1, 2), (2, 1)):
        assert found[source, target] == pytest.approx(naive_f(series[..., source], series[..., target], 2, real))
    assert freedom == Moments(series, real, 2).rows - 5


def test_what_is_not_real_changes_nothing():
    series, real = np.random.default_rng(0).standard_normal((4, 9, 2)), np.ones((4, 9), dtype=bool)
    real[1, 4:] = real[3] = False
    other = np.where(real[..., None], series, 77.0)
    for one in (series, other):
        kept, there = make_stationary(standardise(one, real), real, 1)
        found = granger(kept, there, 1)[0]
        np.testing.assert_allclose(found, granger(*make_stationary(standardise(series, real), real, 1), 1)[0])


def test_unit_root_is_plain_least_squares():
    walk = np.cumsum(np.random.default_rng(2).standard_normal(120))
    change = np.diff(walk)
    rows = [[1, walk[t], change[t - 1], change[t - 2]] for t in range(2, len(change))]
    design, wanted = np.array(rows), change[2:]
    slope, (left,), *_ = np.linalg.lstsq(design, wanted, rcond=None)
    error = np.sqrt(left / (len(wanted) - 4) * np.linalg.inv(design.T @ design)[1, 1])
    found = unit_root(walk[None, :, None], np.ones((1, 120), dtype=bool), 2)
    assert found[0] == pytest.approx(slope[1] / error)
    assert np.isnan(unit_root(walk[None, :5, None], np.ones((1, 5), dtype=bool), 2)[0])


def test_random_walks_are_differenced_and_noise_is_not():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((1, 300, 3))
    series = noise.copy()
    series[..., 1] = np.cumsum(noise[..., 1], 1)
    series[..., 2] = np.cumsum(np.cumsum(noise[..., 2], 1), 1)
    found, real = make_stationary(series, everywhere(series), 2)
    assert not real[0, :2].any() and real[0, 2:].all()
    np.testing.assert_allclose(found[0, 2:], noise[0, 2:], atol=1e-6)


def test_two_independent_walks_are_not_linked():
    """Without differencing they often are: spurious regression."""
    rng, linked = np.random.default_rng(5), []
    for _ in range(20):
        walks = np.cumsum(rng.standard_normal((1, 200, 2)), 1)
        found, real = make_stationary(standardise(walks, everywhere(walks)), everywhere(walks), 2)
        statistic, freedom = granger(found, real, 2)
        linked.append(links(statistic, 2, freedom, 0.05).any())
    assert sum(linked) <= 4


def test_the_lag_is_that_of_the_system():
    series = driven()
    assert choose_lag(series, everywhere(series), 5) == 2
    rng = np.random.default_rng(1)
    fast = rng.standard_normal((1, 400, 2))
    fast[0, 1:, 1] += 0.9 * fast[0, :-1, 0]
    assert choose_lag(fast, everywhere(fast), 5) == 1


def test_short_runs_are_asked_for_a_shorter_past():
    series = np.random.default_rng(0).standard_normal((20, 3, 2))
    assert choose_lag(series, everywhere(series), 2) in (1, 2)
    assert choose_lag(series[:, :2], everywhere(series[:, :2]), 2) == 1


def test_false_discoveries_by_hand_and_by_scipy():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    assert significant(p, 0.05).tolist() == [True, False, False, False]
    assert significant(np.array([0.01, 0.02, 0.03, 0.5]), 0.05).tolist() == [True, True, True, False]
    assert not significant(np.ones(3), 0.05).any() and significant(np.zeros((2, 2)), 0.05).all()
    p = np.random.default_rng(0).random(50) ** 3
    assert (significant(p, 0.1) == (false_discovery_control(p) <= 0.1)).all()


def test_three_independent_pairs_are_three_groups():
    rng = np.random.default_rng(7)
    series = np.zeros((1, 500, 6))
    for t in range(1, 500):
        series[0, t] = 0.5 * series[0, t - 1] + rng.standard_normal(6)
        series[0, t, 3:] += 0.8 * series[0, t - 1, :3]
    statistic, freedom = granger(series, everywhere(series), 1)
    assert linked_groups(links(statistic, 1, freedom, 0.01), 6) == [[0, 3], [1, 4], [2, 5]]


def test_groups_by_hand():
    strength = np.zeros((6, 6))
    strength[4, 1] = strength[1, 5] = strength[3, 2] = 2.0
    assert linked_groups(strength, 6) == [[1, 4, 5], [2, 3], [0]]
    assert linked_groups(strength, 2) == [[1, 4, 5], [0, 2, 3]]
    assert linked_groups(strength, 1) == [[0, 1, 2, 3, 4, 5]]


def test_channels_that_are_the_same_or_never_vary_are_no_error():
    series = np.random.default_rng(0).standard_normal((1, 60, 3))
    series[..., 1] = series[..., 0]
    series[..., 2] = 4.0
    found, freedom = granger(standardise(series, everywhere(series)), everywhere(series), 2)
    assert np.isfinite(found).all() and np.isfinite(links(found, 2, freedom, 0.05)).all()


def test_a_channel_that_never_changes_costs_the_others_no_step():
    noise = np.random.default_rng(0).standard_normal((40, 8, 2))
    noise[..., 1] = 3.1
    found, real = make_stationary(standardise(noise, everywhere(noise)), everywhere(noise), 2)
    assert real.all() and np.abs(found[..., 1]).max() < 1e-9
    np.testing.assert_allclose(found[..., 0], standardise(noise, everywhere(noise))[..., 0])
