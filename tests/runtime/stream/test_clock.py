"""Places of samples by their timestamps, whatever those do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.runtime import BundleError
from fusionkit.runtime.stream.clock import Clock


def places(clock, stamps, cuts=()):
    """Place of every sample, -1 of those that were dropped, pushed in pieces."""
    found = np.full(len(stamps), -1)
    for piece in np.split(np.arange(len(stamps)), sorted(cuts)):
        for run in clock.place(clock.stamps(len(piece), stamps[piece], 0.0)):
            found[piece[run.start : run.stop]] = np.arange(run.place, run.place + run.stop - run.start)
    return found


def test_even_timestamps_are_counted():
    clock = Clock(200.0)
    assert places(clock, 1e6 + np.arange(5000) / 200).tolist() == list(range(5000))
    assert clock.place_of(1e6 + 7.5) == pytest.approx(1500, abs=1e-4)
    assert (clock.gaps, clock.lost, clock.dropped, clock.jitter) == (0, 0, 0, pytest.approx(0, abs=1e-9))


@given(st.lists(st.integers(0, 900), max_size=9), st.integers(0, 3))
def test_chunks_change_nothing(cuts, seed):
    generator = np.random.default_rng(seed)
    keep = generator.random(900) > 0.05
    keep[400:460] = False
    stamps = (np.arange(900) / 50 * 1.0002 + generator.normal(0, 0.004, 900))[keep]
    stamps[generator.random(len(stamps)) < 0.02] = np.nan
    stamps[0] = 0.0
    stamps[200] = stamps[100]
    once, often = Clock(50.0), Clock(50.0)
    np.testing.assert_array_equal(
        places(once, stamps), places(often, stamps, [cut for cut in cuts if cut < len(stamps)])
    )
    for one, other in zip(once.lines, often.lines, strict=True):
        assert (one.first, one.time, one.period) == (
            other.first,
            pytest.approx(other.time),
            pytest.approx(other.period),
        )
    assert (once.lost, once.gaps, once.untimed) == (often.lost, often.gaps, often.untimed)


@pytest.mark.parametrize("jitter", [0.0, 0.0005, 0.002])
@pytest.mark.parametrize("drift", [-200e-6, 0.0, 50e-6, 500e-6])
def test_drift_is_followed_and_jitter_measured(drift, jitter):
    """Sample n is at n / rate / (1 + drift): after ten minutes its place is right to less than half a sample."""
    generator = np.random.default_rng(0)
    true = np.arange(200 * 600) / 200 / (1 + drift)
    clock = Clock(200.0)
    assert places(clock, true + generator.normal(0, jitter, len(true))).tolist() == list(range(len(true)))
    assert clock.gaps == clock.dropped == 0
    assert clock.drift == pytest.approx(1e6 * drift, abs=3 + 1e4 * jitter)
    assert clock.jitter == pytest.approx(jitter, rel=0.2, abs=1e-9)
    for time in (500.0, 571.3, 599.0):
        assert clock.place_of(time) == pytest.approx(time * 200 * (1 + drift), abs=0.25)


def test_gaps_are_left_empty_and_counted():
    clock = Clock(100.0)
    kept = np.r_[0:300, 301:500, 650:900]
    assert places(clock, kept / 100.0).tolist() == kept.tolist()
    assert (clock.gaps, clock.lost, clock.dropped) == (2, 151, 0)


def test_a_source_that_loses_samples_from_the_start_is_no_slow_clock():
    """One sample in fifty: what is lost before jitter is known is lost track of, but nothing after."""
    generator = np.random.default_rng(1)
    kept = np.flatnonzero(generator.random(60 * 50) > 0.02)
    clock = Clock(50.0)
    found = places(clock, kept / 50 + generator.normal(0, 0.002, len(kept)))
    early = np.searchsorted(kept, 150)
    assert (np.diff(found[early:]) == np.diff(kept[early:])).mean() > 0.98
    assert clock.place_of(59.0) == pytest.approx(found[np.searchsorted(kept, 59 * 50)], abs=1)
    assert abs(clock.drift) < 500 and clock.jitter == pytest.approx(0.002, rel=0.3)


def test_what_comes_again_or_too_early_is_dropped():
    clock = Clock(100.0)
    stamps = np.r_[0:400, 350:450, 10:20, 450:460] / 100.0
    found = places(clock, stamps)
    assert found.tolist() == [*range(400), *[-1] * 50, *range(400, 450), *[-1] * 10, *range(450, 460)]
    assert (clock.gaps, clock.dropped) == (0, 60)


def test_one_wild_timestamp_moves_nothing_but_three_in_a_row_do():
    clock = Clock(100.0)
    stamps = np.arange(400) / 100.0
    stamps[300] = 1e9
    assert places(clock, stamps)[[299, 300, 301]].tolist() == [299, -1, 301] and clock.lost == 1
    later = places(clock, 1000 + np.arange(10) / 100.0)
    assert later.tolist() == [-1, -1, *range(100002, 100010)]


@given(st.lists(st.integers(0, 700), max_size=9), st.booleans())
def test_a_clock_that_is_set_back_is_told_from_repetitions_in_any_chunks(cuts, last):
    """Twenty seconds back after 30: out until it has caught up, or for good; nine seconds again are a repetition."""
    clock = Clock(10.0)
    stamps = np.r_[0:300, 205:310, 110, 310:320, 120:400] / 10
    found = np.full(len(stamps), -1)
    for piece in np.split(np.arange(len(stamps)), sorted(cut for cut in cuts if cut < len(stamps))):
        for run in clock.place(stamps[piece], last=last):
            found[piece[run.start : run.stop]] = np.arange(run.place, run.place + run.stop - run.start)
    again = [-1] * 280 if last else [*[-1] * 200, *range(320, 400)]
    assert found.tolist() == [*range(300), *[-1] * 95, *range(300, 310), -1, *range(310, 320), *again]
    assert (clock.setbacks, clock.back, clock.gaps) == (1, last, 0)
    assert clock.over == ((pytest.approx(32), pytest.approx(12.2)) if last else None)


@pytest.mark.parametrize("wild", [1e9, -1e9])
def test_a_wild_first_timestamp_spoils_nothing(wild):
    clock = Clock(100.0)
    found = places(clock, np.r_[wild, 5 + np.arange(1, 500) / 100])
    assert (np.diff(found[3:]) == 1).all() and clock.dropped <= 2
    assert clock.place_of(9.0) == pytest.approx(found[400], abs=0.5)


def test_a_leap_beyond_what_is_possible_is_never_believed():
    clock = Clock(100.0)
    list(clock.place(np.arange(300) / 100))
    assert list(clock.place(1e6 + np.arange(300) / 100, latest=100.0)) == [] and clock.dropped == 300
    assert next(iter(clock.place(3.0 + np.arange(10) / 100))).place == 300


def test_timestamps_that_are_no_numbers_are_counted_on():
    clock = Clock(10.0)
    given = np.array([np.nan, 5.0, np.nan, np.inf, 5.3])
    np.testing.assert_allclose(clock.stamps(5, given, 0.0), [4.9, 5.0, 5.1, 5.2, 5.3])
    assert clock.untimed == 3
    list(clock.place(np.array([4.9, 5.0])))
    np.testing.assert_allclose(clock.stamps(2, np.array([np.nan, np.nan]), 0.0), [5.1, 5.2])
    np.testing.assert_allclose(clock.stamps(2, None, 0.0), [5.1, 5.2])
    np.testing.assert_allclose(clock.stamps(2, np.nan, 0.0), [5.1, 5.2])
    np.testing.assert_allclose(Clock(10.0).stamps(2, None, 3.0), [3.0, 3.1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(3), r"one for each of 2 samples, or the first one's, but got float64 \[3\]"),
        (["a", "b"], "but got <U1"),
        ([np.nan, np.nan], "the first timestamp must be a number"),
        (np.nan, "the first timestamp must be a number"),
    ],
)
def test_timestamps_that_cannot_be_are_refused(given, message):
    with pytest.raises(BundleError, match=message):
        Clock(10.0).stamps(2, given, 0.0)


def test_the_first_correction_by_hand():
    """The second second of 10 Hz samples is 20 ms late: all of it is put right, and 6/110 of it in the rate."""
    clock = Clock(10.0)
    list(clock.place(np.r_[np.arange(10), np.arange(10, 20) + 0.2] / 10))
    assert [round(line.time, 6) for line in clock.lines] == [0, 1, 2.02]
    assert clock.lines[-1].period == pytest.approx(0.1 + 6 / 110 * 0.02 / 10)


@pytest.mark.parametrize(("late", "found"), [(0.6, 4e-4), (0.4, 0.0)])
def test_of_many_samples_the_median_is_of_some_from_beginning_to_end(late, found):
    """16,000 samples a second: where the last 60 % of a second are 0.4 ms late, so is its median, whatever its begin."""
    clock = Clock(16000.0)
    stamps = np.arange(32000) / 16000
    stamps[32000 - round(late * 16000) :] += 4e-4
    assert [placed.stop for placed in clock.place(stamps)] == [16000, 32000]
    assert clock.time == pytest.approx(2 + found, abs=1e-9)
