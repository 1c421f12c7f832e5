"""Euclidean alignment: the mean covariance becomes the identity, a plain loop agrees, and a stream gets the same matrix."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Recording
from fusionkit.data.alignment import AlignOptions, describe_alignment, fit_alignment
from fusionkit.data.features import Windows
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.runtime.alignment import MeanCovariance, align, alignment_matrix, calibrate_alignment

RATE = 50.0


def draw(windows, channels, samples=60, seed=0):
    """Mixed, offset windows, as electrodes give them."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(channels, channels))
    return [
        mixing @ generator.normal(size=(channels, samples)) + generator.normal(size=(channels, 1))
        for _ in range(windows)
    ]


def plain_covariance(windows):
    """One product at a time."""
    channels = len(windows[0])
    mean = np.zeros((channels, channels))
    for window in windows:
        for i in range(channels):
            for j in range(channels):
                a, b = window[i] - window[i].mean(), window[j] - window[j].mean()
                mean[i, j] += sum(x * y for x, y in zip(a, b, strict=True)) / len(a) / len(windows)
    return mean


def covariance_of(windows):
    made = MeanCovariance(len(windows[0]))
    for window in windows:
        made.update(window)
    return made.value


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 99))
def test_the_mean_covariance_of_aligned_windows_is_the_identity(channels, count, seed):
    windows = draw(count, channels, seed=seed)
    matrix = alignment_matrix(covariance_of(windows))
    aligned = [align(matrix, window) for window in windows]
    np.testing.assert_allclose(covariance_of(aligned), np.eye(channels), atol=1e-5)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9 * np.abs(matrix).max())


def test_matches_the_plain_loop():
    windows = draw(4, 3)
    np.testing.assert_allclose(covariance_of(windows), plain_covariance(windows), rtol=1e-10)
    matrix = alignment_matrix(covariance_of(windows))
    expected = np.linalg.inv(scipy.linalg.sqrtm(plain_covariance(windows)))
    np.testing.assert_allclose(matrix, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(align(matrix, windows[0]), expected @ windows[0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("gain", [1e-6, 250.0])
def test_a_gain_changes_nothing(gain):
    windows = draw(4, 3)
    for scaled, window in zip([gain * w for w in windows], windows, strict=True):
        one = align(alignment_matrix(covariance_of([gain * w for w in windows])), scaled)
        np.testing.assert_allclose(one, align(alignment_matrix(covariance_of(windows)), window), rtol=1e-9, atol=1e-9)


def test_what_an_average_reference_took_away_is_not_blown_up():
    windows = [(w - w.mean(0)).astype(np.float32) for w in draw(5, 4)]
    matrix = alignment_matrix(covariance_of(windows))
    value = np.linalg.eigvalsh(covariance_of([align(matrix, w.astype(np.float64)) for w in windows]))
    np.testing.assert_allclose(value, [0, 1, 1, 1], atol=1e-5)
    assert np.abs(matrix @ np.ones(4)).max() < 1e-5


def test_a_loose_electrode_does_not_silence_the_others():
    generator = np.random.default_rng(0)
    window = 1e-5 * generator.normal(size=(4, 4)) @ generator.normal(size=(4, 500))
    window[1] *= 1e5  # a volt
    aligned = align(alignment_matrix(covariance_of([window]), 1e-5), window)
    np.testing.assert_allclose(covariance_of([aligned]), 1e-10 * np.eye(4), atol=1e-13)


def test_signals_by_band_are_aligned_band_by_band():
    matrix = alignment_matrix(covariance_of(draw(3, 4)))
    bands = np.stack(draw(2, 4), axis=1)
    bands[2] = 0
    made = align(matrix, bands)
    for band in range(2):
        np.testing.assert_array_equal(made[:, band], align(matrix, bands[:, band]))
    assert made.shape == bands.shape and (made[2] == 0).all()


@pytest.mark.parametrize("dead", [0.0, np.nan])
def test_a_channel_that_was_not_measured_adds_nothing_and_stays_zero(dead):
    windows = draw(6, 3)
    for window in windows[:2]:
        window[1] = dead
    both = covariance_of(windows)
    np.testing.assert_allclose(both[1, 1], plain_covariance(windows[2:])[1, 1], rtol=1e-9)
    np.testing.assert_allclose(both[0, 2], plain_covariance([np.nan_to_num(w) for w in windows])[0, 2], rtol=1e-9)
    aligned = align(alignment_matrix(both), windows[0])
    assert not aligned[1].any() and np.isfinite(aligned).all() and aligned[0].any()


def test_nothing_measured_gives_zeros():
    assert not alignment_matrix(covariance_of([np.zeros((3, 9))])).any()


class Waves(Modality):
    kind = "waves"

    def read(self, path):
        raise NotImplementedError

    def from_array(self, values, sample_rate=None, channels=()):
        raise NotImplementedError

    def front_end(self, stored):
        raise NotImplementedError

    def window(self, stored):
        return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


class Summed(Waves):
    """Windows are cut of the running sum of a recording, in two bands."""

    def whole(self, stored):
        return lambda values: np.stack([values.cumsum(0), -values.cumsum(0)], -1)


def make(tmp_path, subjects, recordings, starts, *, unit="V", length=200, window=50, seed=0):
    rows = [{"id": f"r{i}", "subject": s} for i, s in enumerate(subjects)]
    signals = draw(1 + max(recordings), 3, length, seed)
    made = NewSensor.of([Recording((1e-5 * s.T).astype(np.float32), RATE, ("a", "b", "c"), unit) for s in signals])
    sensor = replace(
        made,
        recording=np.array(recordings),
        start=np.array(starts),
        count=np.where(np.array(recordings) < 0, 0, window),
        stored=replace(made.stored, longest=window),
    )
    return save_study(tmp_path / "study.h5", Records.of(rows), {"eeg": sensor})


SUBJECTS, RECORDINGS, STARTS = "aabbba", [0, 0, 1, 2, 2, -1], [0, 100, 20, 0, 150, 0]


@pytest.mark.parametrize(("over", "groups"), [("subject", [[0, 1], [2, 3, 4]]), ("recording", [[0, 1], [2], [3, 4]])])
def test_all_records_of_a_group_together_become_white(over, groups, tmp_path):
    study = make(tmp_path, SUBJECTS, RECORDINGS, STARTS)
    made = fit_alignment(AlignOptions(kind="euclidean", over=over), study, "eeg")
    windows, _ = Windows("eeg", study.sensors["eeg"], Waves(), made).read(np.arange(6))
    for rows in groups:
        covariance = covariance_of([1e5 * windows[row].astype(np.float64) for row in rows])
        np.testing.assert_allclose(covariance, np.eye(3), atol=1e-5)  # in units of 10 microvolts
    assert not windows[5].any() and not made.calibration_records.any()
    assert f"all records of each {over}" in made.note and "transductive" in made.note


def test_without_volts_the_spread_is_one(tmp_path):
    study = make(tmp_path, SUBJECTS, RECORDINGS, STARTS, unit="")
    windows, _ = Windows(
        "eeg", study.sensors["eeg"], Waves(), fit_alignment(AlignOptions(kind="euclidean"), study, "eeg")
    ).read(np.arange(2))
    np.testing.assert_allclose(covariance_of(list(windows.astype(np.float64))), np.eye(3), atol=1e-5)


@pytest.mark.parametrize("over", ["subject", "recording"])
def test_the_calibration_is_what_a_stream_computes_of_its_first_seconds(over, tmp_path):
    study = make(tmp_path, SUBJECTS, RECORDINGS, STARTS)
    options = AlignOptions(kind="euclidean", over=over, seconds=2.4)
    made = fit_alignment(options, study, "eeg")
    sensor = study.sensors["eeg"]
    told = describe_alignment(options, sensor.stored)
    first = {"subject": [0, 0, 1, 1, 1], "recording": [0, 0, 1, 2, 2]}[over]
    for row, recording in enumerate(first):
        segment = sensor.values[recording * 200 : recording * 200 + 120].T  # 2.4 s: two windows of 50, 20 left
        matrix = calibrate_alignment(segment, told["samples"], told["scale"])
        np.testing.assert_allclose(made.matrix[made.group[row]], matrix, rtol=1e-6)
        expected = alignment_matrix(
            plain_covariance([segment[:, :50].astype(float), segment[:, 50:100].astype(float)]), 1e-5
        )
        np.testing.assert_allclose(matrix, expected, rtol=1e-5, atol=1e-7)
    used = {"subject": [1, 1, 1, 0, 0, 0], "recording": [1, 1, 1, 1, 0, 0]}[over]
    assert made.calibration_records.tolist() == [bool(x) for x in used]
    assert "first 2.4 s" in made.note and "transductive" not in made.note


def test_alignment_comes_before_what_sees_the_whole_recording(tmp_path):
    study = make(tmp_path, SUBJECTS, RECORDINGS, STARTS)
    made = fit_alignment(AlignOptions(kind="euclidean"), study, "eeg")
    windows, length = Windows("eeg", study.sensors["eeg"], Summed(), made).read(np.array([4]))
    assert windows.shape == (1, 3, 2, 50) and length.tolist() == [50]
    whole = made.matrix[1].astype(np.float64) @ study.sensors["eeg"].values[400:600].T
    np.testing.assert_allclose(windows[0, :, 0], whole.cumsum(1)[:, 150:], rtol=1e-3, atol=1e-9)


def test_a_segment_of_fewer_samples_than_channels_is_refused(tmp_path):
    """Its covariance has no inverse: what it has not seen would be lost, all of it where it holds no sample."""
    study = make(tmp_path, SUBJECTS, RECORDINGS, STARTS)
    for seconds in (0.001, 0.06):
        with pytest.raises(DataError, match="must hold more samples than eeg has channels, 3, but"):
            fit_alignment(AlignOptions(kind="euclidean", seconds=seconds), study, "eeg")


def test_what_has_no_channels_in_time_is_refused(tmp_path):
    picture = Recording(np.zeros((1, 3, 4, 4), np.uint8))
    study = save_study(tmp_path / "s.h5", Records.of([{"id": "a"}]), {"image": NewSensor.of([picture])})
    with pytest.raises(DataError, match="only channels that vary in time can be aligned, but image is stored as"):
        fit_alignment(AlignOptions(kind="euclidean"), study, "image")
    assert fit_alignment(AlignOptions(), study, "image") is None


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"seconds": 3}, "only euclidean takes seconds, but kind is none"),
        ({"kind": "euclidean", "recording": "*"}, "recording says where the seconds"),
        (
            {"kind": "euclidean", "seconds": 3, "over": "recording", "recording": "*"},
            "recording says where the seconds",
        ),
        ({"kind": "riemannian"}, "euclidean"),
        ({"kind": "euclidean", "seconds": float("inf")}, "finite"),
    ],
)
def test_options_that_do_not_fit_are_refused(given_, message):
    with pytest.raises(ValidationError, match=message):
        AlignOptions(**given_)
