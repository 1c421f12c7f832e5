"""Causal filters: equal in any chunks, equal to SciPy's, still where the signal is, and deaf to what was lost."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from fusionkit.runtime import BundleError
from fusionkit.runtime.filters import Chain

HIGH = signal.butter(4, 0.02, "high", output="sos")
BAND = signal.butter(5, [0.02, 0.1], "band", output="sos")
ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.1, 0.1, 0.5]])


def steps(*names, up=3, down=5):
    """Steps as plain JSON."""
    known = {
        "sos": {"sos": HIGH.tolist()},
        "mix": {"matrix": ROTATION.tolist()},
        "resample": {"up": up, "down": down},
        "bank": {"sos": [HIGH.tolist(), BAND.tolist()]},
    }
    return json.loads(json.dumps([{"step": name, **known[name]} for name in names]))


def noise(time, offset=0.0, channels=3, seed=0):
    return np.random.default_rng(seed).normal(offset, 1.0, (time, channels))


def in_chunks(chain, values, sizes):
    cuts = np.cumsum(sizes)
    parts = [chain.push(part) for part in np.split(values, cuts[cuts < len(values)])]
    return np.concatenate(parts)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=30),
    up=st.integers(1, 7),
    down=st.integers(1, 7),
    lost=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 2)), max_size=6),
    late=st.integers(0, 60),
)
def test_any_chunks_equal_one_push(sizes, up, down, lost, late):
    values = noise(200, offset=1e3)
    values[:late, 1] = np.nan
    for row, channel in lost:
        values[row, channel] = np.inf
    description = steps("sos", "mix", "resample", "bank", up=up, down=down)
    chain = Chain(description)
    whole = chain.push(values)
    assert len(whole) == math.ceil(200 * chain.ratio)
    pushed = in_chunks(Chain(description), values, sizes)
    assert whole.shape == (math.ceil(200 * up / down), 3, 2) and whole.dtype == np.float32
    np.testing.assert_allclose(pushed, whole, rtol=0, atol=1e-5 * np.nanstd(whole))


def test_reset_forgets_everything():
    chain, values = Chain(steps("sos", "mix", "resample", "bank")), noise(100, offset=5)
    first = chain.push(values)
    assert not np.array_equal(chain.push(values), first)
    chain.reset()
    np.testing.assert_array_equal(chain.push(values), first)
    chain.reset()
    assert chain.push(values[:, :3]).shape == first.shape


def test_a_long_push_is_cut_and_joined(monkeypatch):
    values, description = noise(500), steps("sos", "resample", "bank")
    whole = Chain(description).push(values)
    monkeypatch.setattr("fusionkit.runtime.filters.PIECE", 7)
    np.testing.assert_allclose(Chain(description).push(values), whole, rtol=0, atol=1e-6)


def test_sections_are_those_of_scipy_from_the_steady_state():
    values = noise(300, offset=2.0)
    want = signal.sosfilt(HIGH, values, axis=0, zi=signal.sosfilt_zi(HIGH)[..., None] * values[0])[0]
    np.testing.assert_allclose(Chain(steps("sos")).push(values), want, atol=1e-6)
    bank = Chain(steps("bank")).push(values)
    np.testing.assert_allclose(bank[..., 0], want, atol=1e-6)
    want = signal.sosfilt(BAND, values, axis=0, zi=signal.sosfilt_zi(BAND)[..., None] * values[0])[0]
    np.testing.assert_allclose(bank[..., 1], want, atol=1e-6)


def test_a_mix_is_a_matrix_product():
    values = noise(10)
    matrix = np.random.default_rng(1).normal(size=(2, 3))
    got = Chain([{"step": "mix", "matrix": matrix.tolist()}]).push(values)
    np.testing.assert_allclose(got, values @ matrix.T, rtol=1e-6)


def slow_resample(values, up, down):
    """Zeros between the samples, one filter, every ``down``-th sample: the definition."""
    most = max(up, down)
    number = np.arange(-10 * most, 10 * most + 1)
    taps = np.sinc(number / most) * np.kaiser(len(number), 5.0)
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    values = values - (first := values[0])
    stuffed = np.zeros(len(values) * up)
    stuffed[::up] = values
    return np.convolve(stuffed, taps)[: len(stuffed)][::down] + first


@pytest.mark.parametrize(("up", "down"), [(1, 5), (2, 1), (3, 5), (128, 125), (25, 16), (6, 4)])
def test_resampling_is_its_definition(up, down):
    values = noise(1000, offset=3.0, channels=1)
    divisor = math.gcd(up, down)
    want = slow_resample(values[:, 0], up // divisor, down // divisor)
    got = Chain([{"step": "resample", "up": up, "down": down}]).push(values)[:, 0]
    assert len(got) == math.ceil(1000 * up / down)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(1000, 200), (125, 128), (128, 512), (200, 200)])
def test_resampling_keeps_a_sine_and_delays_it_by_ten_samples_of_the_lower_rate(old, new):
    delay = 0.0 if old == new else 10 / min(old, new)
    sine = np.sin(2 * np.pi * 7 * np.arange(4 * old) / old)[:, None]
    got = Chain([{"step": "resample", "up": new, "down": old}]).push(sine)[:, 0]
    want = np.sin(2 * np.pi * 7 * (np.arange(4 * new) / new - delay))
    assert len(got) == 4 * new
    assert np.abs(got - want)[new:].max() < 0.005


def test_resampling_removes_what_the_new_rate_cannot_hold():
    sine = np.sin(2 * np.pi * 130 * np.arange(4000) / 1000)[:, None]
    got = Chain([{"step": "resample", "up": 1, "down": 5}]).push(sine)[200:]
    assert np.abs(got).max() < 0.005


@pytest.mark.parametrize("name", ["sos", "resample", "bank"])
def test_an_offset_rings_nowhere(name):
    chain = Chain(steps(name, up=128, down=125))
    out = chain.push(np.full((500, 3), 0.03))
    np.testing.assert_allclose(out, np.broadcast_to(out[:1], out.shape), atol=1e-9)
    if name == "resample":
        np.testing.assert_allclose(out, 0.03, rtol=1e-6)


def test_what_is_lost_is_nan_there_and_nowhere_else():
    values = noise(200, offset=10.0)
    values[50:53, 1] = np.nan
    values[60, 2] = -np.inf
    held = values.copy()
    held[50:53, 1], held[60, 2] = held[49, 1], held[59, 2]
    for name in ("sos", "bank"):
        got, want = Chain(steps(name)).push(values), Chain(steps(name)).push(held)
        lost = np.isnan(got)
        assert lost[50:53, 1].all() and lost[60, 2].all() and lost.sum() == 4 * got[0, 0].size
        np.testing.assert_array_equal(got[~lost], want[~lost])


def test_a_channel_that_starts_late_starts_in_its_steady_state():
    values = np.full((100, 2), 7.0)
    values[:30, 1] = np.nan
    got = Chain(steps("sos")).push(values)
    assert np.isnan(got[:30, 1]).all()
    np.testing.assert_allclose(got[30:], 0, atol=1e-9)
    never = Chain(steps("sos", "resample")).push(np.full((20, 2), np.nan))
    assert np.isnan(never).all() and never.shape == (12, 2)


def test_lost_samples_come_out_of_resampling_where_their_filter_has_its_middle():
    values = noise(1000, channels=1)
    values[500] = np.nan
    lost = np.flatnonzero(np.isnan(Chain([{"step": "resample", "up": 1, "down": 5}]).push(values)[:, 0]))
    assert lost.tolist() == [110]  # 500 / 5, and a delay of 10
    lost = np.flatnonzero(np.isnan(Chain([{"step": "resample", "up": 2, "down": 1}]).push(values)[:, 0]))
    assert set(lost) >= {1020} and lost.min() >= 1018 and lost.max() <= 1022


def test_a_lost_channel_costs_an_average_reference_only_itself():
    values = noise(20, channels=8)
    values[5, 2] = np.nan
    average = np.eye(8) - 1 / 8
    got = Chain([{"step": "mix", "matrix": average.tolist()}]).push(values)
    assert np.argwhere(np.isnan(got)).tolist() == [[5, 2]]
    to_one = np.eye(8)
    to_one[:, 2] -= 1
    got = Chain([{"step": "mix", "matrix": to_one.tolist()}]).push(values)
    assert np.argwhere(np.isnan(got)).tolist() == [[5, i] for i in range(8) if i != 2]  # 2 itself is 0 for ever


def test_channels_of_exact_zeros_stay_exact_zeros():
    values = noise(100, offset=4.0)
    values[:, 1] = 0
    got = Chain(steps("sos", "resample", "bank")).push(values)
    assert not got[:, 1].any() and got[:, 0].any()


UNSTABLE = [[1.0, 0.0, 0.0, 1.0, -2.1, 1.1]]
ON_THE_CIRCLE = [[1.0, 0.0, 0.0, 1.0, -1.0, 0.0]]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"step": "sos"}, "a chain must be a list of steps, but got dict"),
        ("sos", "a chain must be a list of steps, but got str"),
        ([3], r"chain step 1: step must be one of \['bank', 'mix', 'resample', 'sos'\], but got 'None'"),
        ([{"step": "eval", "code": "1"}], "chain step 1: step must be one of .*'eval'"),
        ([{"step": ["sos"]}], "chain step 1: step must be one of"),
        ([{"step": "sos"}], r"chain step 1: a sos must have the keys \['sos', 'step'\], but has \['step'\]"),
        ([*steps("mix"), {"step": "mix", "matrix": [[1]], "why": 1}], "chain step 2: a mix must have the keys"),
        ([{"step": "sos", "sos": UNSTABLE}], "chain step 1: a filter must be stable.*but one lies at 1.1"),
        ([{"step": "sos", "sos": ON_THE_CIRCLE}], "a filter must be stable.*but one lies at 1"),
        ([{"step": "bank", "sos": [HIGH.tolist(), UNSTABLE]}], "chain step 1: a filter must be stable"),
        ([{"step": "sos", "sos": [[1, 0, 0, 2, 0, 0]]}], r"sections must be \[b0, b1, b2, 1, a1, a2\]"),
        ([{"step": "sos", "sos": [[1, 0, 0]]}], "sections must be"),
        ([{"step": "sos", "sos": []}], "sos must be rows of equal length of finite numbers"),
        ([{"step": "mix", "matrix": [[1, 2], [3]]}], "matrix must be rows of equal length"),
        ([{"step": "mix", "matrix": [["1"]]}], "matrix must be rows of equal length of finite numbers"),
        ([{"step": "mix", "matrix": [[float("nan")]]}], "matrix must be rows .* finite"),
        ([{"step": "resample", "up": 0, "down": 5}], "up must be a whole number from 1 to 10000, but got 0"),
        ([{"step": "resample", "up": 1, "down": 10**9}], "down must be a whole number"),
        ([{"step": "resample", "up": 1.5, "down": 5}], "up must be a whole number"),
        ([{"step": "resample", "up": True, "down": 5}], "up must be a whole number"),
        ([{"step": "bank", "sos": []}], "a bank must have the sections of at least one band"),
        ([*steps("bank", "sos")], "chain step 1: a bank must be the last step, but others follow"),
    ],
)
def test_descriptions_that_break_a_rule_are_refused_in_one_line(description, message):
    with pytest.raises(BundleError, match=message) as raised:
        Chain(description)
    assert len(str(raised.value).splitlines()) == 1


def test_chunks_that_do_not_fit_are_refused():
    with pytest.raises(BundleError, match="chain step 1: a mix of 3 channels must get as many, but got 2"):
        Chain(steps("mix")).push(np.zeros((5, 2)))
    chain = Chain([])
    assert chain.push(np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(BundleError, match="a chunk must have 2 channels, as before, but has 3"):
        chain.push(np.zeros((5, 3)))
    with pytest.raises(BundleError, match=r"a chunk must be numbers \(time, channel\), but got float64 \[5\]"):
        chain.push(np.zeros(5))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [{"step": "resample", "up": 1000, "down": 1}] * 3,
            "a chain must make at most 100 samples of one, but makes 1000",
        ),
        ([{"step": "mix", "matrix": [[1.0]] * 10_001}], "chain step 1: a mix must give at most 10000 channels"),
        (
            [{"step": "sos", "sos": [[1.0, 0, 0, 1.0, -1.9999999999999998, 0.9999999999999998]]}],
            "chain step 1: a filter must have a steady state, but a pole lies at 1",
        ),
    ],
)
def test_a_chain_that_blows_up_is_refused(steps, message):
    with pytest.raises(BundleError, match=message):
        Chain(steps)


def test_a_glitch_beyond_all_numbers_does_not_stay_in_the_filters():
    chain = Chain([{"step": "mix", "matrix": [[1.0, 1.0]]}, {"step": "sos", "sos": [[0.2, 0.2, 0.0, 1.0, -0.6, 0.0]]}])
    chunk = np.ones((100, 2))
    chunk[50] = 1.7e308
    out = chain.push(chunk)
    assert np.isnan(out[50, 0]) and np.allclose(np.delete(out, 50, axis=0), 2)


def test_what_float32_cannot_hold_is_infinite_without_a_word():
    assert np.isinf(Chain([{"step": "mix", "matrix": [[1e300]]}]).push(np.ones((2, 1)))).all()


def test_a_nan_that_signals_is_lost_without_a_word():
    signals = np.array([0x7F800001, 0x3F800000], np.uint32).view(np.float32)[:, None]
    out = Chain([{"step": "mix", "matrix": [[1.0]]}]).push(signals)
    assert np.isnan(out[0, 0]) and out[1, 0] == 1
