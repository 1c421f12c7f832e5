"""Group statistics: what a plain loop gives, in float64; calibration from the right samples, and told apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusionkit.core.errors import DataError
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Stored
from fusionkit.data import normalisation
from fusionkit.data.features import CachedFeatures
from fusionkit.data.normalisation import NormaliseOptions, statistics, warn_of_erased_labels
from fusionkit.data.records import Records
from fusionkit.data.study import StoredSensor, Study
from fusionkit.runtime.statistics import RunningStatistics

RATE = 4.0


class Waves(Modality):
    kind = "waves"

    def read(self, path):
        raise NotImplementedError

    def from_array(self, values, sample_rate=None, channels=()):
        raise NotImplementedError

    def front_end(self, stored):
        raise NotImplementedError

    def window(self, stored):
        return stored.T


class Seconds(FrontEnd):
    """The mean of every second, per channel."""

    shape = FeatureShape(channel=2, subchannel=1)

    def forward(self, values, length):
        steps = values.shape[-1] // 4
        made = values[..., : 4 * steps].unflatten(-1, (steps, 4)).mean(-1).transpose(1, 2)[..., None]
        return made, 4 * torch.arange(1, steps + 1) <= length[:, None]

    def times(self, steps):
        return torch.arange(steps) + 0.5


def make(subjects, recordings, length=40, *, names=None, rate=RATE, windows=None, values=None, labels=None):
    """A study with one sensor; ``recordings`` is the stored recording of each record, -1 where it lacks it."""
    count, stored = len(subjects), 1 + max(recordings)
    rows = [{"id": f"r{i}", "subject": s, "state": (labels or "ab" * count)[i]} for i, s in enumerate(subjects)]
    recording = np.array(recordings)
    starts = np.array(windows or [0] * count)
    sensor = StoredSensor(
        stored=Stored(rate, ("a", "b"), "V", (2,), "<f4", 8),
        offset=np.where(recording >= 0, recording * length + starts, -1),
        count=np.where(recording >= 0, 8, 0),
        recording=recording,
        recording_name=tuple(names or [f"f{i}.edf" for i in range(stored)]),
        recording_offset=np.arange(stored) * length,
        recording_count=np.full(stored, length),
        recording_digest=tuple(f"d{i}" for i in range(stored)),
        place=(Path("none"), 0, (stored * length, 2), "<f4"),
    )
    if values is None:
        values = np.random.default_rng(0).normal(3, 2, (stored * length, 2)).astype(np.float32)
    sensor.__dict__["values"] = values
    return Study(Path("none"), Records.of(rows, ["state"]), {"eeg": sensor}, "digest")


def random_features(count, steps, seed=0, shape=(3, 2, 2)):
    values = np.random.default_rng(seed).normal(5, 3, (count, *shape)).astype(np.float32)
    steps = np.array(steps)
    values[np.arange(shape[0]) >= steps[:, None]] = 0
    return CachedFeatures(values, steps, None)


def run(study, cached=None, modality=None, **options):
    if cached is None:
        cached = random_features(len(study.records), [0] * len(study.records), shape=(2, 2, 1))
    return statistics(NormaliseOptions(**options), cached, study, "eeg", modality or Waves(), Seconds())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["subject", "recording"]), chunk=st.sampled_from([1, 200, 2**25]))
def test_statistics_are_those_of_all_real_steps_of_the_group(data, kind, chunk):
    count = data.draw(st.integers(1, 9))
    subjects = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    recordings = [0, *data.draw(st.lists(st.integers(-1, 3), min_size=count - 1, max_size=count - 1))]
    study = make(subjects, recordings)
    steps = [
        0 if r < 0 else s for r, s in zip(recordings, data.draw(st.lists(st.integers(0, 3), min_size=9)), strict=False)
    ]
    cached = random_features(count, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalisation, "CHUNK_BYTES", chunk)
        made = run(study, cached, kind=kind)
    group = subjects if kind == "subject" else recordings
    for row in range(count):
        mates = [other for other in range(count) if group[other] == group[row] and recordings[other] >= 0]
        real = np.concatenate([cached.values[other, : steps[other]] for other in mates] or [np.zeros((0, 2, 2))])
        if not steps[row]:
            expected = (np.zeros((2, 2)), np.ones((2, 2)))
        else:
            deviation = real.astype(float).std(0)
            expected = (real.astype(float).mean(0), np.where(deviation > 0, deviation, 1))
        np.testing.assert_allclose(made.shift[row], expected[0], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(made.scale[row], expected[1], rtol=1e-6, atol=1e-6)
    assert made.shift.dtype == made.scale.dtype == np.float32 and made.shift.shape == (count, 2, 2)
    assert not made.calibration_records.any()
    assert "transductive" in made.note and kind in made.note


def test_normalised_features_have_mean_zero_and_spread_one_within_each_subject():
    study = make("aabb", [0, 1, 2, 3])
    cached = random_features(4, [3, 2, 3, 3])
    made = run(study, cached, kind="subject")
    values = (cached.values - made.shift[:, None]) / made.scale[:, None]
    mine = np.concatenate([values[0, :3], values[1, :2]])
    np.testing.assert_allclose(mine.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(mine.std(0), 1, atol=1e-6)


def test_a_small_spread_on_a_large_mean_is_not_lost():
    spread = np.array([[0.0, 1], [0.5, 0], [1, 0.5]])[:, :, None, None]
    values = (1e5 + spread * np.ones((1, 1, 2, 1))).astype(np.float32)
    made = run(make("aaa", [0, 1, 2]), CachedFeatures(values, np.full(3, 2), None), kind="subject")
    np.testing.assert_allclose(made.scale, spread.std(), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 3.7e-10, 1.0, 123456.789, -5e7])
def test_what_does_not_vary_does_not_explode(constant):
    values = np.full((3, 2, 2, 1), constant, np.float32)
    values[..., 1, :] = np.random.default_rng(0).normal(size=(3, 2, 1))
    cached = CachedFeatures(values, np.full(3, 2), None)
    made = run(make("aaa", [0, 1, 2]), cached, kind="subject")
    assert (made.scale[:, 0] == 1).all() and (made.scale[:, 1] != 1).all()
    assert np.abs((values - made.shift[:, None]) / made.scale[:, None]).max() < 5


def test_sums_over_many_steps_are_kept_in_float64():
    values = np.random.default_rng(0).normal(12345.678, 1, (3, 3000, 2, 1)).astype(np.float32)
    made = run(make("aaa", [0, 1, 2]), CachedFeatures(values, np.full(3, 3000), None), kind="subject")
    exact = values.astype(np.float64).reshape(-1, 2)
    np.testing.assert_allclose(made.shift[0, :, 0], exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(made.scale[0, :, 0], exact.std(0), rtol=1e-7)


def test_rounding_is_not_taken_for_variation():
    values = np.full((3, 2, 2, 1), 0.1, np.float32)
    values[1] = np.nextafter(np.float32(0.1), np.float32(1))
    made = run(make("aaa", [0, 1, 2]), CachedFeatures(values, np.full(3, 2), None), kind="subject")
    assert (made.scale == 1).all()


def test_kinds_that_are_done_elsewhere_have_no_statistics():
    assert run(make("ab", [0, 1]), kind="none") is None
    assert run(make("ab", [0, 1]), kind="training") is None


def test_calibration_takes_the_first_seconds_of_the_matching_recording():
    names = ["eeg/a_task.edf", "eeg/a_rest.edf", "eeg/b_rest.edf", "eeg/b_task.edf"]
    study = make("aaabbb", [0, 1, 1, 3, 2, -1], names=names, windows=[0, 0, 24, 0, 16, 0])
    made = run(study, kind="calibration", seconds=5, recording="*_rest")
    values = study.sensors["eeg"].values
    for subject, rows, recording in (("a", [0, 1, 2], 1), ("b", [3, 4], 2)):
        means = values[recording * 40 : recording * 40 + 20].reshape(5, 4, 2).mean(1)
        for row in rows:
            assert study.records.subject[row] == subject
            np.testing.assert_allclose(made.shift[row, :, 0], means.mean(0), rtol=1e-6)
            np.testing.assert_allclose(made.scale[row, :, 0], means.std(0), rtol=1e-5)
    assert not made.shift[5].any() and (made.scale[5] == 1).all()
    assert made.calibration_records.tolist() == [False, True, False, False, True, False]
    assert "first 5 s" in made.note and "2 records are not scored" in made.note and "transductive" not in made.note


def test_records_that_only_touch_the_calibration_segment_are_scored():
    study = make("aaa", [0, 0, 0], windows=[20, 19, 12])
    assert run(study, kind="calibration", seconds=5).calibration_records.tolist() == [False, True, True]


def test_a_pattern_may_name_the_recording_as_the_table_does():
    study = make("aa", [0, 1])
    records = Records.of(
        [{"id": "r0", "subject": "a", "recording": "task"}, {"id": "r1", "subject": "a", "recording": "rest"}]
    )
    named = Study(study.path, records, study.sensors, "")
    made = run(named, kind="calibration", seconds=5, recording="rest")
    assert made.calibration_records.tolist() == [False, True]


def test_without_a_pattern_the_first_recording_in_the_table_calibrates():
    made = run(make("aa", [1, 0]), kind="calibration", seconds=2)
    assert made.calibration_records.tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 5, "recording": "*_rest"}, r"subject 'a' must have a recording of eeg that matches '\*_rest' to "),
        ({"seconds": 11}, r"subject 'a' must have 11 s of eeg to calibrate on, but 'f0.edf' has 10 s"),
        ({"seconds": 1}, r"two steps of features or more, but 1 s of eeg of subject 'a' give 1"),
    ],
)
def test_a_subject_that_cannot_be_calibrated_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        run(make("ab", [0, 1]), kind="calibration", **options)


def test_a_sensor_without_time_cannot_be_calibrated():
    with pytest.raises(DataError, match="must have time to be calibrated by its first 5 s, but eeg has none"):
        run(make("ab", [0, 1], rate=None), kind="calibration", seconds=5)


def test_a_calibration_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="calibration of subject 'a' are not"):
        run(make("a", [0], values=np.full((40, 2), np.nan, np.float32)), kind="calibration", seconds=5)


def test_what_was_not_measured_is_not_counted():
    cached = random_features(4, [3, 2, 3, 3])
    cached.values[0, :, 1] = np.nan
    cached.values[2:, 1, 0] = np.nan
    cached.values[2:, :, 1, 1] = np.nan
    made = run(make("aabb", [0, 1, 2, 3]), cached, kind="subject")
    for row, mates in ((0, [0, 1]), (2, [2, 3])):
        real = np.concatenate([cached.values[mate, : cached.steps[mate]] for mate in mates]).astype(float)
        for at in np.ndindex(2, 2):
            seen = real[(slice(None), *at)]
            seen = seen[~np.isnan(seen)]
            expected = (seen.mean(), seen.std()) if len(seen) else (0, 1)
            assert (made.shift[(row, *at)], made.scale[(row, *at)]) == pytest.approx(expected, rel=1e-6)


class Lacking(Seconds):
    """A channel of zeros is not measured."""

    lacks = True

    def forward(self, values, length):
        made, mask = super().forward(values, length)
        return torch.where((values == 0).all(-1)[:, None, :, None], torch.nan, made), mask


def test_a_channel_that_the_calibration_lacks_keeps_its_scale():
    values = np.random.default_rng(0).normal(3, 2, (40, 2)).astype(np.float32)
    values[:, 1] = 0
    study = make("a", [0], values=values)
    cached = random_features(1, [0], shape=(2, 2, 1))
    made = statistics(NormaliseOptions(kind="calibration", seconds=5), cached, study, "eeg", Waves(), Lacking())
    assert made.shift[0, 1] == 0 and made.scale[0, 1] == 1 and made.scale[0, 0] != 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_running_statistics_are_those_of_all_steps_so_far(lengths, seed):
    generator = np.random.default_rng(seed)
    parts = [1e4 + generator.normal(size=(length, 2, 1)) for length in lengths]
    parts[0][:, 1] = np.nan
    running = RunningStatistics((2, 1))
    for count, part in enumerate(parts, start=1):
        running.update(part)
        seen = np.concatenate(parts[:count])
        for channel in range(2):
            real = seen[~np.isnan(seen[:, channel, 0]), channel, 0]
            assert running.shift[channel, 0] == pytest.approx(real.mean() if len(real) else 0, rel=1e-7)
            spread = real.std() if len(real) > 1 else 1
            assert running.scale[channel, 0] == pytest.approx(spread, rel=1e-6)


@pytest.mark.parametrize("over", ["subject", "recording"])
def test_online_statistics_are_those_of_the_calibration_and_every_record_before(over):
    subjects, recordings, starts = "abaaba", [0, 1, 2, 0, 1, 0], [28, 30, 8, 20, 12, 8]
    study = make(subjects, recordings, windows=starts)
    cached = random_features(6, [2, 2, 1, 2, 2, 2], shape=(2, 2, 1))
    made = run(study, cached, kind="calibration", seconds=4, over=over, update=True)
    values = study.sensors["eeg"].values
    calibration = {r: values[40 * r : 40 * r + 16].reshape(4, 4, 2).mean(1)[..., None] for r in range(3)}
    assert made.calibration_records.tolist() == [False, False, over == "recording", False, True, True]
    order = sorted(range(6), key=lambda row: (recordings.index(recordings[row]), starts[row]))
    for row in range(6):
        group = subjects if over == "subject" else recordings
        mates = [other for other in order if group[other] == group[row]]
        first = {"a": 0, "b": 1}[subjects[row]] if over == "subject" else recordings[row]
        seen = [calibration[first]]
        for mate in mates[: mates.index(row)]:  # strictly before it
            if not made.calibration_records[mate]:
                seen.append(cached.values[mate, : cached.steps[mate]])
        real = np.concatenate(seen).astype(float)
        np.testing.assert_allclose(made.shift[row], real.mean(0), rtol=1e-5)
        np.testing.assert_allclose(made.scale[row], real.std(0), rtol=1e-5)
    assert "and every record before" in made.note


def test_online_statistics_equal_those_of_a_stream():
    """One wearer: the segment first, then window by window; shift and scale are taken before the window is seen."""
    study = make("aaa", [0, 0, 0], windows=[16, 24, 32])
    cached = random_features(3, [2, 2, 2], shape=(2, 2, 1))
    made = run(study, cached, kind="calibration", seconds=4, update=True)
    stream = RunningStatistics((2, 1))
    stream.update(study.sensors["eeg"].values[:16].reshape(4, 4, 2).mean(1)[..., None])
    for row in range(3):
        np.testing.assert_allclose(made.shift[row], stream.shift, rtol=1e-6)
        np.testing.assert_allclose(made.scale[row], stream.scale, rtol=1e-6)
        stream.update(cached.values[row])


def test_each_recording_may_have_its_own_calibration():
    made = run(make("aab", [0, 1, 2], windows=[20, 20, 0]), kind="calibration", seconds=5, over="recording")
    values = make("aab", [0, 1, 2]).sensors["eeg"].values
    for row in range(3):
        means = values[40 * row : 40 * row + 20].reshape(5, 4, 2).mean(1)
        np.testing.assert_allclose(made.shift[row, :, 0], means.mean(0), rtol=1e-6)
    assert made.calibration_records.tolist() == [False, False, True] and "of each recording" in made.note


def test_a_calibration_segment_is_smoothed_as_the_features_are():
    study = make("a", [0])
    cached = random_features(1, [2], shape=(2, 2, 1))
    options = NormaliseOptions(kind="calibration", seconds=5)
    made = statistics(options, cached, study, "eeg", Waves(), Seconds(), smooth=lambda steps: 0 * steps + 3)
    assert (made.shift[0] == 3).all()


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"kind": "calibration"}, "calibration needs seconds"),
        ({"kind": "subject", "seconds": 3}, "only calibration takes seconds, but kind is subject"),
        ({"kind": "recording", "recording": "*"}, "only calibration takes recording, but kind is recording"),
        ({"kind": "calibration", "seconds": 0}, "greater than 0"),
        ({"kind": "subject", "update": True}, "only calibration takes update, but kind is subject"),
        ({"kind": "calibration", "seconds": 3, "over": "recording", "recording": "*"}, "but over is recording"),
        ({"kind": "week"}, "subject"),
        ({"kind": "none", "second": 1}, "second"),
    ],
)
def test_options_that_do_not_fit_are_refused(given_, message):
    with pytest.raises(ValidationError, match=message):
        NormaliseOptions(**given_)


def warn(study, kind):
    return warn_of_erased_labels(NormaliseOptions(kind=kind), study, "eeg", {"mood": "state"})


def test_one_class_per_recording_is_warned_of():
    study = make("aabb", [0, 0, 1, 1], labels="xxyy")
    assert warn(study, "recording") == [
        "eeg: normalisation per recording erases task 'mood', for each of its 2 recordings has one class"
    ]
    assert len(warn(study, "subject")) == 1
    assert not warn(study, "training")
    assert not warn(make("aabb", [0, 0, 1, 1], labels="xyyy"), "recording")
    assert not warn(make("aabb", [0, 0, 1, 1], labels="xxxx"), "recording")  # one class: another error says so
    assert not warn(make("abab", [0, 0, 1, 1], labels="xxyy"), "subject")


def test_missing_labels_and_absent_sensors_do_not_hide_the_warning():
    study = make("aabbcc", [0, 0, 1, 1, -1, -1], labels=["x", None, "y", "y", "x", "y"])
    assert warn(study, "recording") and warn(study, "subject")
