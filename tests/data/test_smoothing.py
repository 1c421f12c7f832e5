"""Smoothing against plain loops and the exact posterior, in sequences across records, and inside the exported graph."""

import math
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fusionkit.core.errors import DataError
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd
from fusionkit.core.recording import Recording
from fusionkit.data.features import CachedFeatures
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.smoothing import (
    LinearDynamicSystem,
    MovingAverage,
    NoSmoothing,
    SmoothedFrontEnd,
    SmoothOptions,
    crosses_records,
    smooth_features,
    smooth_sequence,
    smoothing_groups,
    step_weights,
)


def draw(steps, seed=0, holes=0.0):
    generator = np.random.default_rng(seed)
    values = generator.normal(3, 2, (steps, 2, 3))
    values[generator.random(values.shape) < holes] = np.nan
    return values


def plain_average(values, steps, causal):
    """One number at a time."""
    made = np.full(values.shape, np.nan)
    for at in np.ndindex(values.shape):
        time = at[0]
        first, last = (time - steps + 1, time) if causal else (time - steps // 2, time + steps // 2)
        seen = [values[(t, *at[1:])] for t in range(max(first, 0), min(last, len(values) - 1) + 1)]
        seen = [value for value in seen if not math.isnan(value)]
        if not math.isnan(values[at]):
            made[at] = sum(seen) / len(seen)
    return made


def posterior(series, mean, options):
    """The state's mean given all observations, from the precision matrix of states: no recursion at all."""
    count = len(series)
    precision = np.zeros((count, count))
    precision[0, 0] = 1 / (options.start_variance + options.process_variance)
    for t in range(1, count):
        precision[t - 1 : t + 1, t - 1 : t + 1] += np.array([[1, -1], [-1, 1]]) / options.process_variance
    seen = ~np.isnan(series)
    precision[np.diag_indices(count)] += seen / options.noise_variance
    right = np.where(seen, series, 0) / options.noise_variance
    right[0] += mean / (options.start_variance + options.process_variance)
    return np.linalg.solve(precision, right)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.booleans(), st.sampled_from([0.0, 0.3]), st.integers(0, 99))
def test_moving_average_is_the_plain_loop(time, half, causal, holes, seed):
    options = MovingAverage(steps=2 * half + 1, causal=causal)
    values = draw(time, seed, holes)
    np.testing.assert_allclose(
        smooth_sequence(options, values), plain_average(values, options.steps, causal), rtol=1e-12
    )


VARIANCES = [(1e-4, 1.0, 0.01), (0.5, 2.0, 0.0), (3.0, 0.1, 10.0)]


@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_smoother_is_the_exact_posterior_of_the_whole_sequence(variances, holes):
    q, r, v = variances
    options = LinearDynamicSystem(causal=False, process_variance=q, noise_variance=r, start_variance=v)
    values = draw(40, holes=holes)
    made = smooth_sequence(options, values)
    for channel, band in np.ndindex(2, 3):
        series = values[:, channel, band]
        expected = np.where(np.isnan(series), np.nan, posterior(series, np.nanmean(series), options))
        np.testing.assert_allclose(made[:, channel, band], expected, rtol=1e-8)


@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_filter_is_the_exact_posterior_of_what_came_so_far(variances, holes):
    q, r, v = variances
    options = LinearDynamicSystem(process_variance=q, noise_variance=r, start_variance=v)
    values = draw(25, holes=holes)
    made = smooth_sequence(options, values)
    for channel, band in np.ndindex(2, 3):
        series = values[:, channel, band]
        start = series[~np.isnan(series)][0]
        for time in np.flatnonzero(~np.isnan(series)):
            expected = posterior(series[: time + 1], start, options)[-1]
            assert made[time, channel, band] == pytest.approx(expected, rel=1e-9)


def test_gain_is_0_0099_at_first_and_in_the_steady_state():
    weights = step_weights(LinearDynamicSystem(), 1200).double()
    gain = weights.diagonal()
    q, v = 1e-4, 0.01  # by hand: P = V + Q, K = P / (P + R), V = (1 - K) P
    for step in range(1200):
        k = (v + q) / (v + q + 1)
        v = (1 - k) * (v + q)
        if step:
            assert gain[step].item() == pytest.approx(k, rel=1e-4)
        else:
            assert k == pytest.approx(0.009999, abs=1e-6)
    assert gain[1199].item() == pytest.approx((math.sqrt(1e-8 + 4e-4) - 1e-4) / 2, rel=1e-4)  # 0.00995


def test_time_constant_is_100_steps():
    values = np.concatenate([np.zeros((300, 1, 1)), np.ones((400, 1, 1))])
    made = smooth_sequence(LinearDynamicSystem(), values)[300:, 0, 0]
    assert np.argmax(made > 1 - math.exp(-1)) == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    "options", [LinearDynamicSystem(), LinearDynamicSystem(causal=False), MovingAverage(), MovingAverage(causal=False)]
)
def test_a_constant_stays_what_it_is(options):
    np.testing.assert_allclose(smooth_sequence(options, np.full((50, 1, 2), -7.3)), -7.3, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.sampled_from(
        [MovingAverage(steps=2), MovingAverage(steps=7), LinearDynamicSystem()]
        + [LinearDynamicSystem(process_variance=q, noise_variance=r, start_variance=v) for q, r, v in VARIANCES]
    ),
)
def test_weights_of_the_graph_are_the_recursion(steps, options):
    weights = step_weights(options, steps)
    assert (weights.triu(1) == 0).all() and weights.isfinite().all()
    torch.testing.assert_close(weights.sum(1), torch.ones(steps))
    values = draw(steps)
    made = np.einsum("ts,sij->tij", weights.double().numpy(), values)
    np.testing.assert_allclose(made, smooth_sequence(options, values), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "variances", [(1.0, 1e-8, 0.01), (1e8, 1e-8, 0.01), (1e-12, 1.0, 0.0), (1e-8, 1e-3, 1e6), (1.0, 1.0, 0.0)]
)
def test_weights_stay_exact_over_long_windows_and_at_any_variance(variances):
    q, r, v = variances
    options = LinearDynamicSystem(process_variance=q, noise_variance=r, start_variance=v)
    values = draw(1500)
    made = np.einsum("ts,sij->tij", step_weights(options, 1500).double().numpy(), values)
    np.testing.assert_allclose(made, smooth_sequence(options, values), atol=2e-6)


@pytest.mark.parametrize("options", [MovingAverage(), LinearDynamicSystem()])
def test_causal_smoothing_sees_no_future(options):
    values, other = draw(30), draw(30)
    other[20:] = 1e6
    np.testing.assert_array_equal(smooth_sequence(options, values)[:20], smooth_sequence(options, other)[:20])


class Means(FrontEnd):
    """Mean of every second; a channel of zeros is not measured."""

    shape = FeatureShape(channel=2, subchannel=1)
    lacks = True

    def forward(self, values, length):
        blocks = values.unfold(-1, 4, 4)
        made = blocks.mean(-1).transpose(1, 2)[..., None]
        dead = (values == 0).all(-1)[:, None, :, None]
        steps = torch.arange(1, made.shape[1] + 1)
        return torch.where(dead, torch.nan, made), 4 * steps <= length[:, None]

    def times(self, steps):
        return torch.arange(steps) + 0.5


@pytest.mark.parametrize("options", [MovingAverage(steps=3), LinearDynamicSystem(process_variance=0.1)])
def test_a_smoothed_front_end_honours_mask_and_dead_channels(options):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 24))).float()
    values[1, 1] = 0
    values[2, :, 8:] = torch.nan
    front_end = SmoothedFrontEnd(Means(), options)
    made, mask = front_end(values, torch.tensor([24, 24, 8]))
    assert front_end.lacks and front_end.shape == Means.shape and mask.sum(1).tolist() == [6, 6, 2]
    plain, _ = Means()(values, torch.tensor([24, 24, 8]))
    for row, steps in enumerate([6, 6, 2]):
        expected = smooth_sequence(options, plain[row, :steps].numpy())
        np.testing.assert_allclose(made[row, :steps], expected, rtol=1e-5, atol=1e-6)
    assert made[1, :, 1].isnan().all() and not made[1, :, 0].isnan().any()


@pytest.mark.parametrize("options", [MovingAverage(steps=3), LinearDynamicSystem()])
def test_it_exports_with_free_time(options):
    front_end = SmoothedFrontEnd(Means(), options).eval()
    dynamic = {0: torch.export.Dim("batch"), 2: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            front_end,
            (torch.randn(2, 2, 24), torch.tensor([24, 20])),
            input_names=["values", "length"],
            dynamo=True,
            dynamic_shapes=(dynamic, {0: dynamic[0]}),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for steps in (3, 6, 40):
        values, length = torch.randn(3, 2, 4 * steps), torch.tensor([4 * steps, 8, 4 * steps])
        values[2, 0] = 0
        got = session.run(None, {"values": values.numpy(), "length": length.numpy()})
        wanted, mask = front_end(values, length)
        np.testing.assert_allclose(got[0][mask], wanted.numpy()[mask], rtol=1e-5, atol=1e-6)


RATE = 4.0


def make(tmp_path, starts, recordings, trials=None, steps=2, seed=0, times=True):
    """Records of two steps of a second each; ``starts`` in seconds within a recording of 40 s."""
    count = len(starts)
    rows = [{"id": f"r{i}", "subject": "s", "trial": (trials or "t" * count)[i]} for i in range(count)]
    whole = Recording(np.zeros((160, 2), np.float32), RATE, ("a", "b"), "V")
    made = NewSensor.of([whole] * (1 + max(recordings)))
    sensor = replace(
        made,
        recording=np.array(recordings),
        start=(np.array(starts) * RATE).astype(np.int64),
        count=np.full(count, int(steps * RATE)),
    )
    study = save_study(tmp_path / "study.h5", Records.of(rows), {"eeg": sensor})
    values = np.random.default_rng(seed).normal(size=(count, steps, 2, 1)).astype(np.float32)
    real = np.full(count, steps)
    return study, CachedFeatures(values, real, np.arange(steps) + 0.5 if times else None, "name")


@pytest.mark.parametrize(
    "options",
    [
        LinearDynamicSystem(over="trial", causal=False, process_variance=0.2),
        MovingAverage(over="recording", steps=3),
        MovingAverage(over="record", causal=False, steps=3),
    ],
)
def test_sequences_are_records_in_the_order_of_time(options, tmp_path):
    starts, recordings, trials = [6, 0, 2, 0, 8, 4], [1, 1, 0, 0, 1, 1], "ababaa"
    study, cached = make(tmp_path, starts, recordings, trials)
    cached.steps[2] = 1
    cached.values[2, 1] = 0
    made = smooth_features(options, cached, study, "eeg", tmp_path / "cache")
    sequences = {
        "trial": [[5, 0, 4, 2], [1, 3]],  # the recording that the table names first comes first
        "recording": [[1, 5, 0, 4], [3, 2]],
        "record": [[row] for row in range(6)],
    }[options.over]
    for sequence in sequences:
        whole = np.concatenate([cached.values[row, : cached.steps[row]] for row in sequence])
        parts = np.split(smooth_sequence(options, whole), np.cumsum(cached.steps[sequence])[:-1])
        for row, part in zip(sequence, parts, strict=True):
            np.testing.assert_allclose(made.values[row, : len(part)], part, rtol=1e-6)
            assert not made.values[row, len(part) :].any()
    assert isinstance(made.values, np.memmap) and not made.values.flags.writeable
    assert list((tmp_path / "cache").glob("*.npy")) and made.name != cached.name
    np.testing.assert_array_equal(made.steps, cached.steps)


def test_overlapping_steps_of_one_sequence_are_refused_by_name(tmp_path):
    study, cached = make(tmp_path, [0, 1], [0, 0])
    with pytest.raises(DataError, match="must follow each other, but record 'r1' begins before 'r0' ends"):
        smooth_features(MovingAverage(over="trial"), cached, study, "eeg", tmp_path)
    smooth_features(MovingAverage(causal=False), cached, study, "eeg", tmp_path)  # each record by itself


def test_overlapping_windows_of_one_step_each_are_a_sequence(tmp_path):
    study, cached = make(tmp_path, [0, 0.5, 1], [0, 0, 0])
    one = CachedFeatures(cached.values[:, :1], np.ones(3, int), np.array([1.0]), "name")
    made = smooth_features(MovingAverage(over="trial", steps=2), one, study, "eeg", tmp_path)
    np.testing.assert_allclose(made.values[2, 0], one.values[1:, 0].mean(0), rtol=1e-6)


def test_what_cannot_be_smoothed_is_refused(tmp_path):
    study, cached = make(tmp_path, [0, 4], [0, 0], ["t", ""])
    with pytest.raises(DataError, match="smoothed over trials, but record 'r1' has none"):
        smoothing_groups(MovingAverage(over="trial"), study, "eeg")
    with pytest.raises(DataError, match="must have times to be smoothed"):
        smooth_features(MovingAverage(over="recording"), replace(cached, times=None), study, "eeg", tmp_path)
    one = CachedFeatures(cached.values[:, :1], np.ones(2, int), np.array([1.0]), "name")
    with pytest.raises(DataError, match="two steps or more to be smoothed, but every sequence of eeg has one"):
        smooth_features(MovingAverage(causal=False, steps=3), one, study, "eeg", tmp_path)


def test_a_channel_that_was_off_in_one_record_is_smoothed_over_the_others(tmp_path):
    study, cached = make(tmp_path, [0, 2, 4], [0, 0, 0])
    cached.values[1, :, 1] = np.nan
    made = smooth_features(MovingAverage(over="trial", steps=4), cached, study, "eeg", tmp_path)
    assert np.isnan(made.values[1, :, 1]).all() and np.isfinite(made.values[:, :, 0]).all()
    np.testing.assert_allclose(made.values[2, 1, 1], cached.values[2, :, 1].mean(), rtol=1e-6)


def test_which_smoothing_a_window_cannot_hold():
    assert not crosses_records(NoSmoothing()) and not crosses_records(MovingAverage())
    assert crosses_records(MovingAverage(over="trial")) and crosses_records(LinearDynamicSystem(causal=False))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"kind": "moving_average", "causal": False, "steps": 4}, "odd number of steps"),
        ({"kind": "lds", "steps": 4}, "steps"),
        ({"kind": "lds", "noise_variance": 0}, "greater than 0"),
        ({"kind": "kalman"}, "moving_average"),
    ],
)
def test_options_that_do_not_fit_are_refused(given_, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(SmoothOptions).validate_python(given_)
