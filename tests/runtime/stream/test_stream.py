"""What decisions see, against windows cut by plain loops over samples with timestamps."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fusionkit.runtime import BundleError
from fusionkit.runtime.filters import Chain
from fusionkit.runtime.stream import Debounce, MovingAverage, Stream


def feed(stream, recording, generator, most=300, start=0.0):
    """Push recordings (values and rate by sensor) in pieces of random size and order; all decisions."""
    place = dict.fromkeys(recording, 0)
    decisions = []
    while any(place[name] < len(values) for name, (values, _) in recording.items()):
        name = generator.choice([name for name, (values, _) in recording.items() if place[name] < len(values)])
        values, rate = recording[name]
        count = int(generator.integers(0, most + 1))
        at = place[name]
        chunk = values[at : at + count]
        decisions += stream.push(name, chunk, start + np.arange(at, at + len(chunk)) / rate)
        place[name] += len(chunk)
    return decisions


def test_windows_are_those_of_the_filtered_recording(echo, made):
    chain = [
        {"step": "sos", "sos": [[0.2, 0.2, 0.0, 1.0, -0.6, 0.0]]},
        {"step": "resample", "up": 128, "down": 125},
    ]
    sensors = {"eeg": made(128.0, 128, chain=chain), "audio": made(1600.0, 1600, 1, layout="time", lacks=False)}
    generator = np.random.default_rng(0)
    eeg, audio = generator.normal(size=(125 * 6, 2)), generator.normal(size=(1600 * 6, 1)).astype(np.float32)
    filtered = Chain(chain).push(eeg)
    for trial in range(30):
        session = echo(0.25, **sensors)
        stream = Stream(session, late=None)
        start = float(trial % 3) * 1e6 + trial / 7
        decisions = feed(stream, {"eeg": (eeg, 125.0), "audio": (audio, 1600.0)}, generator, 1 + 40 * trial, start)
        assert [round(d.time - start, 6) for d in decisions] == [1 + 0.25 * k for k in range(21)]
        for k, seen in enumerate(session.seen):
            np.testing.assert_array_equal(seen["eeg"], filtered[32 * k : 32 * k + 128].T)
            np.testing.assert_array_equal(seen["audio"], audio[400 * k : 400 * k + 1600, 0])
        health = stream.health
        assert health.decisions == 21 and health.skipped == health.empty == 0
        assert {(s.gaps, s.lost, s.dropped, s.absent) for s in health.sensors.values()} == {(0, 0, 0, 0)}


def cut(stamps, values, start, count, rate):
    """A window by plain loops: the sample nearest to each of its places, NaN where none is near; then straight lines."""
    window = np.full((count, values.shape[1]), np.nan)
    for place in range(count):
        for stamp, sample in zip(stamps, values, strict=True):
            if abs(stamp - (start + place / rate)) < 0.4 / rate:
                window[place] = sample
    for channel in range(values.shape[1]):
        column = window[:, channel]
        known = [place for place in range(count) if not np.isnan(column[place])]
        if 2 * len(known) < count:
            column[:] = np.nan
            continue
        for place in range(count):
            if place not in known:
                before, after = [k for k in known if k < place], [k for k in known if k > place]
                left, right = (before or after)[-1 if before else 0], (after or before)[0 if after else -1]
                share = 0 if left == right else (place - left) / (right - left)
                window[place, channel] = column[left] + share * (column[right] - column[left])
    return window


@pytest.mark.parametrize("seed", range(4))
def test_what_gaps_leave_against_plain_loops(seed, echo, made):
    """Samples that are lost or NaN, a channel that comes off, a gap of 3 s: windows and who is present."""
    generator = np.random.default_rng(seed)
    sensors = {"eeg": made(50.0, 50, 3), "ecg": made(20.0, 20, 2, lacks=False)}
    recording = {}
    for name, rate, channels in (("eeg", 50, 3), ("ecg", 20, 2)):
        stamps, values = np.arange(12 * rate) / rate, generator.normal(size=(12 * rate, channels)).astype(np.float32)
        keep = generator.random(len(stamps)) > 0.05
        keep[: 3 * rate] = True  # jitter is measured first
        values[generator.random(values.shape) < 0.03] = np.nan
        if name == "eeg":
            values[4 * rate : 6 * rate, 1] = np.nan
        else:
            keep[int(6.2 * rate) : int(9.1 * rate)] = False
        keep[-1] = True
        recording[name] = stamps[keep], values[keep], rate
    session = echo(0.5, **sensors)
    stream = Stream(session, late=None)
    place = dict.fromkeys(recording, 0)
    decisions = []
    while any(place[name] < len(stamps) for name, (stamps, _, _) in recording.items()):
        name = str(generator.choice(list(recording)))
        at, count = place[name], int(generator.integers(0, 90))
        stamps, values, _ = recording[name]
        decisions += stream.push(name, values[at : at + count], stamps[at : at + count])
        place[name] += count
    assert [decision.time for decision in decisions] == [1 + 0.5 * k for k in range(23)]
    for decision, seen in zip(decisions, session.seen, strict=True):
        for name, (stamps, values, rate) in recording.items():
            wanted = cut(stamps, values, decision.time - 1, rate, rate)
            off = np.isnan(wanted).any(0)
            assert decision.present[name] == (not off.all() if name == "eeg" else not off.any())
            if decision.present[name]:
                np.testing.assert_allclose(seen[name], wanted.T, atol=1e-6)
    health = stream.health.sensors
    for name, (stamps, _, rate) in recording.items():
        assert health[name].lost == 12 * rate - len(stamps) and health[name].samples == len(stamps)
        assert health[name].absent == sum(not decision.present[name] for decision in decisions)
    assert health["ecg"].resets == 1 and health["eeg"].resets == 0 and health["ecg"].absent >= 4


@pytest.mark.parametrize("drift", [-300e-6, 300e-6])
def test_a_clock_that_drifts_and_jitters_is_cut_by_time(drift, echo, made):
    """After five minutes it is 90 ms, nine samples, off: windows are those of the true time."""
    generator = np.random.default_rng(0)
    sensors = {"eeg": made(100.0, 100, 1), "even": made(100.0, 100, 1)}
    count = 100 * 300
    true = np.arange(count) / 100 / (1 + drift)
    number = np.arange(count, dtype=np.float32)[:, None]
    session = echo(0.37, **sensors)
    stream = Stream(session, late=None)
    for at in range(0, count, 700):
        some = slice(at, at + 700)
        stream.push("even", number[some], np.arange(count)[some] / 100)
        stream.push("eeg", number[some], true[some] + generator.normal(0, 0.001, len(true[some])) * (at > 0))
    assert len(session.seen) > 800
    for k, seen in enumerate(session.seen):
        place = 0.37 * k * 100 * (1 + drift)
        assert seen["eeg"][0, 0] in (np.floor(place + 0.5 - 0.2), np.floor(place + 0.5 + 0.2))
        assert (np.diff(seen["eeg"][0]) == 1).all()
    health = stream.health.sensors["eeg"]
    assert health.drift == pytest.approx(1e6 * drift, abs=15) and health.jitter == pytest.approx(0.001, rel=0.3)
    assert health.gaps == health.dropped == 0


def test_filters_start_anew_after_a_long_gap(echo, made):
    """Not in the middle of what was a second and more ago, but in the steady state of the first sample."""
    chain = [{"step": "sos", "sos": [[0.05, 0.0, 0.0, 1.0, -0.95, 0.0]]}]
    session = echo(1.0, eeg=made(10.0, 10, 1, chain=chain))
    stream = Stream(session)
    stream.push("eeg", np.zeros((30, 1)), 0.0)
    stream.push("eeg", np.full((30, 1), 5.0), 6.0)
    np.testing.assert_allclose(session.seen[-1]["eeg"], 5.0)
    short = echo(1.0, eeg=made(10.0, 10, 1, chain=chain))
    stream = Stream(short)
    stream.push("eeg", np.zeros((30, 1)), 0.0)
    stream.push("eeg", np.full((30, 1), 5.0), 3.5)
    assert 0 < short.seen[-1]["eeg"][0, 0] < short.seen[-1]["eeg"][0, -1] < 5
    assert stream.health.sensors["eeg"].lost == 5 and stream.health.sensors["eeg"].resets == 0


def test_a_sensor_that_stops_is_absent_and_returns(echo, made):
    session = echo(0.5, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream = Stream(session, late=0.25)
    made_ = []
    for tenth in range(120):
        made_ += stream.push("eeg", np.ones((1, 2)), tenth / 10)
        if not 30 <= tenth < 70:
            made_ += stream.push("ecg", np.ones((1, 2)), tenth / 10)
    there = {decision.time: decision.present["ecg"] for decision in made_}
    assert [decision.time for decision in made_] == [1 + 0.5 * k for k in range(23)]
    assert all(decision.present["eeg"] for decision in made_)
    assert all(there[time] for time in (1.0, 2.0, 2.5, 3.0, 9.0, 11.0)) and not any(
        there[t] for t in (4.0, 5.0, 6.0, 7.0)
    )
    health = stream.health.sensors["ecg"]
    assert health.gaps == 1 and health.lost == 40 and health.late >= 7 and health.living
    assert health.windows + health.absent == 23


def test_a_decision_waits_as_long_as_it_may(echo, made):
    session = echo(1.0, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream = Stream(session, late=0.5)
    assert stream.push("ecg", np.ones((9, 2)), 0.0) == []
    assert stream.push("eeg", np.ones((14, 2)), 0.0) == []
    (decision,) = stream.push("eeg", np.ones((1, 2)), 1.4)
    assert decision.time == 1.0 and decision.present == {"eeg": True, "ecg": False}
    assert stream.health.sensors["ecg"].late == 1 and not stream.health.sensors["ecg"].living
    assert stream.push("ecg", np.ones((6, 2)), 0.9) == []  # caught up: waited for again
    assert stream.push("eeg", np.ones((9, 2)), 1.5) == []
    (decision,) = stream.push("ecg", np.ones((5, 2)), 1.5)
    assert decision.time == 2.0 and all(decision.present.values())


def test_nothing_is_late_for_being_taken_second(echo, made):
    """A pause of the program: both sensors bring three seconds at once."""
    session = echo(1.0, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream = Stream(session, late=0.1)
    decisions = stream.push_all({"eeg": (np.ones((30, 2)), 0.0), "ecg": (np.ones((30, 2)), 0.0)})
    assert len(decisions) == 3 and all(all(decision.present.values()) for decision in decisions)


def test_flush_and_absent_end_the_wait(echo, made):
    session = echo(1.0, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream = Stream(session, late=None)
    assert stream.push("eeg", np.ones((35, 2)), 0.0) == []
    stream.absent("ecg")
    assert [decision.present["ecg"] for decision in stream.push_all({})] == [False] * 3
    again = Stream(session, late=None)
    again.push("eeg", np.ones((35, 2)), 0.0)
    assert [decision.time for decision in again.flush()] == [1.0, 2.0, 3.0] and again.flush() == []


def test_what_has_no_time_holds_for_a_while(echo, made):
    session = echo(1.0, eeg=made(10.0, 10), text=made(None, 4, layout="token"), face=made(None, 1, 3, lacks=False))
    stream = Stream(session, hold=1.5)
    stream.push("text", ["early", "later"], [0.0, 2.0])
    stream.push("face", np.arange(3.0), 1.0)
    seen = []
    for second in range(6):
        stream.push("eeg", np.ones((10, 2)), float(second))
        seen.append((session.seen[-1].get("text"), "face" in session.seen[-1]))
    assert seen == [("early", False), (None, True), ("later", False), (None, False), (None, False), (None, False)]
    stream.push("text", "now")
    assert stream.push("eeg", np.ones((10, 2)))[0].present == {"eeg": True, "text": True, "face": False}


def test_a_slow_machine_skips_the_oldest(echo, made):
    session = echo(1.0, eeg=made(10.0, 10))
    stream = Stream(session, max_queue=2)
    decisions = stream.push("eeg", np.ones((75, 2)), 0.0)
    assert [decision.number for decision in decisions] == [5, 6]
    health = stream.health
    assert (health.decisions, health.skipped, health.queue) == (2, 5, 7)


def test_lag_is_that_of_the_last_sample_that_was_needed(echo, made, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("fusionkit.runtime.stream.stream.clocks.monotonic", lambda: clock[0])
    session = echo(1.0, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream = Stream(session, late=None)
    for time, name, count in ((10.0, "eeg", 10), (20.0, "ecg", 5), (30.0, "ecg", 5), (40.0, "eeg", 10)):
        clock[0] = time
        decisions = stream.push(name, np.ones((count, 2)))
        assert [decision.lag for decision in decisions] == ([0.0] if time == 30 else [])
    clock[0] = 45.0
    (decision,) = stream.flush()
    assert decision.lag == 5.0 and stream.health.lag_p50 == 2.5 and stream.health.lag_p99 == pytest.approx(4.95)


def test_a_leap_of_hours_makes_no_empty_decisions_one_by_one(echo, made):
    session = echo(0.1, eeg=made(10.0, 10))
    stream = Stream(session)
    stream.push("eeg", np.ones((20, 2)), 0.0)
    decisions = stream.push("eeg", np.ones((40, 2)), 1e7)
    before = [decision.time for decision in decisions if decision.time < 1e7]
    assert before == pytest.approx([2.1, 2.2, 2.3, 2.4, 2.5])  # at least half of whose windows came
    assert 30 <= len(decisions) - len(before) <= 36 and stream.health.empty > 9e7


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_all_clocks_set_back_end_the_stream_and_that_is_said(most, echo, made):
    session = echo(1.0, eeg=made(10.0, 10))
    stream, decisions, problem = Stream(session), [], ""
    stamps = np.r_[0:300, 0:500] / 10
    for start in range(0, len(stamps), most):
        some = stamps[start : start + most]
        try:
            decisions += stream.push("eeg", np.ones((len(some), 2)), some)
        except BundleError as error:
            problem = str(error)
            break
    assert [decision.time for decision in decisions] == pytest.approx(np.arange(1, 31))
    assert stream.health.sensors["eeg"].setbacks == 1
    if most < 1000:
        assert problem.startswith(
            "eeg: timestamps must go on at 30 s, but the clocks of all sensors were set back, to 0.2"
        )
    with pytest.raises(BundleError, match="begin a new stream"):
        stream.push("eeg", np.ones((1, 2)), 31.0)


def test_one_clock_set_back_leaves_the_others_and_nothing_waits_for_it(echo, made):
    """Nor where decisions wait for ever; it is there again once it has caught up."""
    session = echo(1.0, eeg=made(10.0, 10), ecg=made(10.0, 10))
    stream, decisions = Stream(session, late=None), []
    for number in range(60):
        decisions += stream.push("eeg", np.ones((10, 2)), float(number))
        decisions += stream.push("ecg", np.ones((10, 2)), float(number - 20 if number >= 30 else number))
    assert [decision.time for decision in decisions] == pytest.approx(np.arange(1, 61))
    there = [decision.time for decision in decisions if decision.present["ecg"]]
    assert there == pytest.approx([*range(1, 31), *range(51, 61)][: len(there)]) and len(there) >= 30
    health = stream.health.sensors
    assert health["ecg"].setbacks == 1 and health["ecg"].dropped == 200 and health["eeg"].setbacks == 0


def test_sensors_are_pushed_by_threads(echo, made):
    """Every decision is made once, in order, with all sensors."""
    session = echo(0.1, **{name: made(100.0, 100) for name in "abcd"})
    stream = Stream(session, late=None)

    def source(name):
        generator = np.random.default_rng(ord(name))
        decisions, at = [], 0
        while at < 1000:
            count = min(int(generator.integers(1, 20)), 1000 - at)
            decisions += stream.push(name, np.full((count, 2), float(at)), (at + np.arange(count)) / 100)
            at += count
        return decisions

    with ThreadPoolExecutor(4) as threads:
        decisions = [decision for found in threads.map(source, "abcd") for decision in found]
    assert sorted(decision.number for decision in decisions) == list(range(91))
    assert all(all(decision.present.values()) for decision in decisions)


@pytest.mark.parametrize(
    ("name", "values", "stamps", "message"),
    [
        ("sonar", np.ones((3, 2)), None, r"no sensor named 'sonar'; known: \['eeg', 'text'\]"),
        ("eeg", np.ones((3, 5)), None, r"eeg: a chunk must be numbers \(samples, 2\), but got float64 \[3, 5\]"),
        ("eeg", [["a", "b"]], None, "eeg: a chunk must be numbers"),
        ("eeg", np.ones((3, 2)), np.zeros(2), "eeg: timestamps must be one for each of 3 samples"),
        ("eeg", np.ones((3, 2)), np.full(3, np.nan), "eeg: the first timestamp must be a number, but is none"),
        ("text", ["a", "b"], [0.0], "text: timestamps must be seconds, one for each of 2 values"),
        ("text", "a", np.nan, "text: timestamps must be seconds, one for each of 1 values"),
        ("text", np.ones((3, 2)), 0.0, "text: a window must hold token ids"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line(name, values, stamps, message, echo, made):
    stream = Stream(echo(eeg=made(10.0, 10), text=made(None, 4, layout="token")))
    with pytest.raises(BundleError, match=message) as error:
        stream.push_all({"eeg": (np.ones((5, 2)), 0.0), name: (values, stamps)})
    assert "\n" not in str(error.value) and stream.health.sensors["eeg"].samples == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "step must be a time in seconds above 0, but got 0.0"),
        ({"late": -1.0}, "late must be"),
        ({"hold": np.nan}, "hold must be"),
        ({"max_queue": 0}, "max_queue must be 1 or more, but got 0"),
    ],
)
def test_impossible_options_are_refused(options, message, echo, made):
    with pytest.raises(BundleError, match=message):
        Stream(echo(eeg=made(10.0, 10)), **options)


def test_a_bundle_without_time_is_refused(echo, made):
    with pytest.raises(BundleError, match="a stream needs a sensor with time, but this bundle has none"):
        Stream(echo(text=made(None, 4, layout="token")))


def test_windows_of_a_stream_are_views_of_its_ring(echo, made, monkeypatch):
    session = echo(0.5, eeg=made(100.0, 100), audio=made(1000.0, 1000, 1, layout="time"))
    stream = Stream(session)
    answer, shared = session.predict, []

    def predict(windows, **options):
        for name, window in windows.items():
            ring = stream.tracks[name]._rings[-1]._buffer
            shared.append(np.shares_memory(window, ring) and window.T.flags.c_contiguous)
        return answer(windows, **options)

    monkeypatch.setattr(session, "predict", predict)
    for at in range(0, 5000, 10):
        stream.push("eeg", np.ones((10, 2)), at / 100)
        stream.push("audio", np.ones(100), at / 100)
    assert len(shared) == 2 * 99 and all(shared)
    assert len(stream.tracks["audio"]._rings[-1]._buffer) == 3000  # no more is kept than windows need


@pytest.mark.parametrize("seed", range(3))
def test_messy_sources_are_decided_alike_in_any_chunks(seed, echo, made):
    """Drift, jitter, lost and repeated samples, timestamps that are no numbers, long gaps, behind a resampling filter."""
    generator = np.random.default_rng(seed)
    sensors = {
        "eeg": made(64.0, 64, chain=[{"step": "resample", "up": 64, "down": 50}]),
        "ecg": made(40.0, 30, 1, lacks=False),
    }
    recording = {}
    for name, rate, channels in (("eeg", 50, 2), ("ecg", 40, 1)):
        keep = np.flatnonzero(generator.random(20 * rate) > 0.02)
        keep = keep[(keep < 8 * rate) | (keep > 11 * rate)]
        keep = np.sort(np.r_[keep, generator.choice(keep[3:], 5)])
        stamps = keep / rate * 1.0003 + generator.normal(0, 0.002, len(keep))
        stamps[generator.choice(np.arange(3, len(stamps)), 4)] = np.nan
        recording[name] = stamps, generator.normal(size=(len(keep), channels))

    def replay(most):
        session = echo(0.3, **sensors)
        stream = Stream(session, late=None)
        place, decisions = dict.fromkeys(recording, 0), []
        while any(place[name] < len(stamps) for name, (stamps, _) in recording.items()):
            name, count = str(generator.choice(list(recording))), int(generator.integers(0, most))
            some = slice(place[name], place[name] + count)
            decisions += stream.push(name, recording[name][1][some], recording[name][0][some])
            place[name] += count
        return decisions, session.seen, stream.health

    wanted, windows, health = replay(3000)
    assert len(wanted) > 50 and health.sensors["eeg"].gaps > 5 and health.sensors["ecg"].dropped >= 1
    for most in (4, 30, 200):
        decisions, seen, told = replay(most)
        assert [(d.time, d.present) for d in decisions] == [(pytest.approx(d.time), d.present) for d in wanted]
        for one, other in zip(seen, windows, strict=True):
            for name, window in one.items():
                np.testing.assert_allclose(window, other[name], rtol=1e-5, atol=1e-6)
        assert [(s.gaps, s.lost, s.dropped, s.untimed, s.resets) for s in told.sensors.values()] == [
            (s.gaps, s.lost, s.dropped, s.untimed, s.resets) for s in health.sensors.values()
        ]


def test_answers_are_smoothed_and_labels_debounced(echo, made):
    session = echo(1.0, eeg=made(10.0, 10))
    session.says = [0.1, 0.3, 0.9, 0.9, 0.9]
    stream = Stream(session, smoothing=MovingAverage(2), debounce=Debounce(count=2))
    decisions = stream.push("eeg", np.ones((50, 2)))
    assert [float(d.answers["state"][1]) for d in decisions] == pytest.approx([0.1, 0.2, 0.6, 0.9, 0.9])
    assert [float(d.raw["state"][1]) for d in decisions] == [0.1, 0.3, 0.9, 0.9, 0.9]
    assert [d.label["state"] for d in decisions] == ["calm", "calm", "calm", "tense", "tense"]
    assert [d.confidence["state"] for d in decisions] == pytest.approx([0.9, 0.8, 0.4, 0.9, 0.9])


@pytest.mark.parametrize("rate", [100, 196, 205, 250, 256])
@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("jitter", [0.0, 0.001])
def test_another_rate_is_noticed_within_seconds(echo, made, rate, each, jitter):
    stream, generator = Stream(echo(eeg=made(200.0, 200))), np.random.default_rng(rate)
    with pytest.raises(BundleError, match=r"^eeg: samples must come at 200 Hz, but their timestamps say (\d|\.)+ Hz$"):
        for k in range(100):
            stamps = (20 * k + np.arange(20)) / rate + generator.normal(0, jitter, 20)
            stream.push("eeg", np.zeros((20, 2)), stamps if each else stamps[0])
    assert 3 <= stream.tracks["eeg"].taken / 200 <= 4.2
    with pytest.raises(BundleError, match="samples must come at 200 Hz"):  # and it stays refused
        stream.push("eeg", np.zeros((20, 2)), 100.0)


@pytest.mark.parametrize("each", [True, False, None])
def test_gaps_repetitions_jitter_and_bursts_are_no_other_rate(echo, made, each):
    for seed in range(40):
        stream, generator = Stream(echo(eeg=made(200.0, 200))), np.random.default_rng(seed)
        at = 0.0
        for _ in range(100):
            at += 0.1 * (generator.random() < 0.1)  # one packet in ten is lost
            stamps = at + np.arange(20) / 200 + generator.normal(0, 0.02 * (seed % 3))
            each_ = generator.integers(2) if each is None else each
            stream.push("eeg", np.zeros((20, 2)), stamps if each_ else stamps[0])
            at += 0.1 * (generator.random() > 0.05)  # some come twice


@pytest.mark.parametrize("at", [1.7e12, 1e200, 1e308])
def test_a_time_of_no_clock_is_refused_before_it_is_taken(echo, made, at):
    stream = Stream(echo(eeg=made(100.0, 100)))
    stream.push("eeg", np.zeros((50, 2)), 0.0)
    with pytest.raises(BundleError, match=r"^eeg: timestamps must be seconds, at most 1e.11 from 0, but got 1"):
        stream.push("eeg", np.zeros((50, 2)), at + np.arange(50) / 100)
    assert len(stream.push("eeg", np.zeros((100, 2)), 0.5)) == 1


def test_a_sentence_of_tomorrow_does_not_make_a_gap_of_a_day_slow(echo, made):
    words = made(None, 4, 0, layout="token")
    stream = Stream(echo(eeg=made(100.0, 100), words=words))
    stream.push("eeg", np.zeros((200, 2)), 0.0)
    day = 1e9
    stream.push("words", "good morning", day + 2.5)
    found = []
    for k in range(5):
        found += stream.push("eeg", np.zeros((100, 2)), day + k + np.arange(100) / 100)
    assert [d.time - day for d in found] == [1, 2, 3, 4, 5]
    assert [d.present["words"] for d in found] == [False, False, True, False, False]
    assert stream.health.empty == day - 2


def test_a_sensor_that_is_left_out_need_not_stream(echo, made):
    eeg, looked_ahead = made(100.0, 100), replace(made(50.0, 50), chain=None, stream=None)
    session = echo(eeg=eeg, gaze=looked_ahead, words=made(None, 4, 0, layout="token"))
    session.chain = lambda name, bank=True: Chain([]) if name == "eeg" else pytest.fail("a chain that is not there")
    stream = Stream(session, without=["gaze", "words"])
    (decision,) = stream.push("eeg", np.ones((100, 2)))
    assert dict(decision.present) == {"eeg": True, "gaze": False, "words": False}
    assert stream.health.sensors["gaze"].absent == 1 and not stream.health.sensors["gaze"].living
    stream.absent("gaze")
    for name, value in (("gaze", np.ones((1, 2))), ("words", "hello")):
        with pytest.raises(BundleError, match=rf"^{name}: a sensor must not be left out \(without\) to be pushed"):
            stream.push(name, value)
    with pytest.raises(BundleError, match="no sensor named 'nose'"):
        Stream(session, without=["nose"])
    with pytest.raises(
        BundleError, match=r"a stream needs a sensor with time, but none is left without \['eeg', 'gaze'\]"
    ):
        Stream(session, without=["eeg", "gaze"])


def test_calibrated_answers_without_a_temperature_are_refused_at_once(echo, made):
    with pytest.raises(BundleError, match=r"^state: calibrated answers need a temperature"):
        Stream(echo(eeg=made(100.0, 100)), calibrated=True)


def test_a_chain_that_does_not_make_the_windows_is_refused_at_once(echo, made):
    mixed = made(100.0, 100, chain=[{"step": "mix", "matrix": [[1.0, 1.0]]}])
    with pytest.raises(BundleError, match=r"^eeg: the chain must give samples of \[2\], but gives \[1\]"):
        Stream(echo(eeg=mixed))
    halved = made(100.0, 100, chain=[{"step": "resample", "up": 1, "down": 2}])
    told = replace(halved, stream=replace(halved.stream, sample_rate=100.0))
    with pytest.raises(BundleError, match=r"^eeg: the chain must take the stream's 100 Hz, but takes 200 Hz"):
        Stream(echo(eeg=told))


def test_what_a_converter_counts_is_not_volts(echo, made):
    stream = Stream(echo(eeg=made(100.0, 100), audio=made(1000.0, 1000, 1, layout="time")))
    with pytest.raises(BundleError, match=r"^eeg: a chunk must be floating-point numbers in V, but got int16: scale"):
        stream.push("eeg", np.ones((10, 2), np.int16))
    with pytest.raises(BundleError, match=r"^audio: a chunk must be signed or floating-point, but got uint8"):
        stream.push("audio", np.full(10, 128, np.uint8))


def test_chunks_that_bring_nothing_take_no_memory(echo, made):
    stream = Stream(echo(eeg=made(100.0, 100), ecg=made(100.0, 100)))
    stream.push_all({name: (np.zeros((50, 2)), 1000.0) for name in ("eeg", "ecg")})
    for k in range(1000):
        stream.push("eeg", np.zeros((0, 2)))
        stream.push("eeg", np.zeros((1, 2)), k / 100)  # a clock that was set back
    tracemalloc.start()
    for k in range(1000):
        stream.push("eeg", np.zeros((0, 2)))
        stream.push("eeg", np.zeros((1, 2)), k / 100)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000 and stream.health.sensors["eeg"].dropped == 2000
