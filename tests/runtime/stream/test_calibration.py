"""What a stream takes of its first seconds."""

import numpy as np
import pytest

from fusionkit.runtime import BundleError
from fusionkit.runtime.alignment import align, calibrate_alignment
from fusionkit.runtime.filters import Chain
from fusionkit.runtime.manifest import Align
from fusionkit.runtime.stream import Stream
from fusionkit.runtime.wearer import Wearer

BANK = [
    {"step": "sos", "sos": [[0.5, 0.2, 0.0, 1.0, -0.3, 0.0]]},
    {"step": "bank", "sos": [[[0.3, 0.0, 0.0, 1.0, -0.7, 0.0]], [[0.3, 0.0, 0.0, 1.0, 0.7, 0.0]]]},
]


def aligned(seconds=3.0):
    return Align("euclidean", None, seconds, None, 20, 1.0)


def push(stream, name, values, rate=20, start=0.0, size=7):
    decisions = []
    for at in range(0, len(values), size):
        decisions += stream.push(name, values[at : at + size], start + at / rate)
    return decisions


def test_windows_of_bands_are_aligned_by_what_no_band_filtered(echo, made):
    values = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]])
    session = echo(
        1.0, eeg=made(20.0, 20, chain=BANK, shape=(2, 2, None), layout="channel, band, time", align=aligned())
    )
    stream = Stream(session)
    decisions = push(stream, "eeg", values)
    assert [decision.time for decision in decisions] == [3, 4, 5, 6, 7, 8, 9, 10] and stream.health.calibrating == 2
    matrix = calibrate_alignment(Chain(BANK[:1]).push(values)[:60].T, 20, 1.0)
    whole = np.moveaxis(Chain(BANK).push(values), 0, -1)
    for number, seen in zip(range(2, 10), session.seen, strict=True):
        wanted = align(matrix, whole[..., 20 * number : 20 * number + 20])
        np.testing.assert_allclose(seen["eeg"], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stream.wearer.matrix["eeg"], matrix, rtol=1e-5)


def test_a_wearer_who_is_known_is_decided_about_at_once(echo, made, tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 2))
    session = echo(1.0, eeg=made(20.0, 20, align=aligned()))
    first = Stream(session)
    push(first, "eeg", values)
    first.wearer.save(tmp_path / "wearer.npz")
    again = Stream(session, wearer=Wearer.load(session, tmp_path / "wearer.npz"))
    assert len(push(again, "eeg", values)) == 10 and again.health.calibrating == 0


def test_the_segment_begins_again_after_a_long_gap(echo, made):
    values = np.random.default_rng(0).normal(size=(120, 2)) * [1.0, 3.0]
    session = echo(1.0, eeg=made(20.0, 20, align=aligned()))
    stream = Stream(session)
    assert push(stream, "eeg", 100 * values[:40]) == []
    decisions = push(stream, "eeg", values, start=6.0)
    assert [decision.time for decision in decisions] == [9, 10, 11, 12]
    matrix = calibrate_alignment(values[:60].T.astype(np.float32), 20, 1.0)
    np.testing.assert_allclose(stream.wearer.matrix["eeg"], matrix, rtol=1e-5)


def test_a_segment_that_was_mostly_lost_is_not_taken(echo, made):
    values = np.random.default_rng(0).normal(size=(200, 2))
    values[:60] = np.nan
    session = echo(1.0, eeg=made(20.0, 20, align=aligned()))
    stream = Stream(session)
    assert [decision.time for decision in push(stream, "eeg", values)] == [6, 7, 8, 9, 10]
    assert np.isfinite(stream.wearer.matrix["eeg"]).all()


def test_a_sensor_that_begins_late_is_absent_until_its_segment_is_whole(echo, made):
    generator = np.random.default_rng(0)
    session = echo(1.0, eeg=made(20.0, 20, align=aligned()), ecg=made(20.0, 20, align=aligned(2.0)))
    stream = Stream(session)
    decisions = []
    for at in range(0, 300, 4):
        decisions += stream.push("eeg", generator.normal(size=(4, 2)), at / 20)
        if at >= 160:
            decisions += stream.push("ecg", generator.normal(size=(4, 2)), at / 20)
    there = {round(decision.time): decision.present["ecg"] for decision in decisions}
    assert list(there) == list(range(3, 16))
    assert [time for time, present in there.items() if present] == [10, 11, 12, 13, 14, 15]


def test_what_no_stream_can_know_is_refused(echo, made):
    with pytest.raises(
        BundleError, match="eeg: a stream is aligned by first seconds, but the bundle wants all records"
    ):
        Stream(echo(eeg=made(20.0, 20, align=aligned(None))))
