"""LSL with real outlets in other processes: found, checked, mapped, lost, found again, heard in a third process."""

import json
import os
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fusionkit.runtime import BundleError, Session
from fusionkit.runtime.answers import Answers
from fusionkit.runtime.description import Channel, Description, write_description
from fusionkit.runtime.feed import Change
from fusionkit.runtime.log import Log
from fusionkit.runtime.loop import run
from fusionkit.runtime.replay import replay_xdf
from fusionkit.runtime.stream import Stream
from fusionkit.runtime.xdf import XdfFile, XdfWriter
from tests.runtime.loopback import (
    AUDIO_RATE,
    EEG_CHANNELS,
    EEG_RATE,
    end,
    environment,
    start_outlet,
    write_bundle,
)

pytest.importorskip("pylsl")

EEG = {"type": "EEG", "channels": 4, "rate": EEG_RATE, "labels": ["Pz", "cz", "Ref", "Fz"], "unit": "microvolts"}
AUDIO = {"type": "Audio", "channels": 1, "rate": AUDIO_RATE, "size": 0.1}
PATIENCE = 60.0
"""Seconds after which something that takes one or two on an idle machine has failed."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "made.fusion")


@pytest.fixture
def env():
    """Where this process and those it starts hear one another, and nobody else."""
    return environment()


@pytest.fixture
def on_air(env):
    """Start amplifiers that end with the test."""
    processes = []

    def start(**told):
        processes.append(start_outlet(env, **told))
        return processes[-1]

    yield start
    end(*processes)


@pytest.fixture
def feed_of(bundle, env):
    """Open sensors of the bundle; closed with the test."""
    from fusionkit.runtime.lsl import LslFeed

    opened = []

    def open_(**options):
        opened.append(LslFeed(Session.load(bundle).sensors, **{"wait": PATIENCE, **options}))
        return opened[-1]

    yield open_
    for feed in opened:
        feed.close()


def pull(feed, wanted, samples):
    """Samples of one sensor, and their times."""
    values, stamps, until = [], [], time.monotonic() + PATIENCE
    while sum(map(len, stamps)) < samples and time.monotonic() < until:
        piece = feed.next(0.5)
        if piece is not None and not isinstance(piece, Change) and piece.sensor == wanted:
            values.append(piece.values)
            stamps.append(piece.timestamps)
    return np.concatenate(values), np.concatenate(stamps)


def test_channels_are_taken_by_name_in_volts_on_our_clock(on_air, feed_of):
    """Of the amplifier's Pz, cz, Ref, Fz in microvolts, all but the first silent."""
    on_air(name="amp-order", **EEG, size=10.0, silent=[1, 2, 3])
    feed = feed_of(names={"eeg": "amp-order"}, without=["audio"])
    values, stamps = pull(feed, "eeg", 80)
    assert values.shape[1] == len(EEG_CHANNELS) and values.dtype == np.float32
    assert (values[:, :2] == 0).all()  # Fz and Cz
    assert values[:, 2].std() == pytest.approx(1e-5, rel=0.2)
    np.testing.assert_allclose(np.diff(stamps), 1 / EEG_RATE, atol=1e-3)
    assert -1 < feed.now() - stamps[-1] < 5


def test_sensors_are_found_by_name_and_by_type(on_air, feed_of):
    on_air(name="EEG", **EEG | {"type": "brain"})
    on_air(name="a microphone", **AUDIO)
    feed = feed_of()
    assert set(feed.sensors) == {"eeg", "audio"} and not feed.notes
    assert [one.label for one in feed.sensors["eeg"].channels] == list(EEG_CHANNELS)
    assert {one.unit for one in feed.sensors["eeg"].channels} == {"V"}


@pytest.mark.parametrize(
    ("told", "options", "message"),
    [
        ({"rate": 250.0}, {}, "eeg: stream 'amp-0' must have a rate of 100 Hz, but has 250"),
        ({"labels": ["Pz", "Cz", "X", "Y"]}, {}, "eeg: stream 'amp-1' must have the channels Fz, but has Pz, Cz, X, Y"),
        ({"labels": []}, {}, "eeg: stream 'amp-2' must say the names of its 4 channels, but gives none"),
        ({"unit": ""}, {}, "eeg: stream 'amp-3' must say a unit that becomes V for Fz, but does not say: give one"),
        ({"unit": "ohms"}, {}, "eeg: stream 'amp-4' must say a unit that becomes V for Fz, but is in 'ohms': give one"),
    ],
)
def test_a_stream_that_does_not_fit_is_refused_in_one_line(on_air, feed_of, request, told, options, message):
    name = f"amp-{request.node.callspec.indices['told']}"
    on_air(name=name, **EEG | told)
    with pytest.raises(BundleError) as raised:
        feed_of(names={"eeg": name}, without=["audio"], **options)
    assert str(raised.value) == message


def test_a_unit_that_is_not_said_can_be_given(on_air, feed_of):
    on_air(name="amp-unit", **EEG | {"unit": ""}, size=10.0)
    feed = feed_of(names={"eeg": "amp-unit"}, units={"eeg": "millivolts"}, without=["audio"])
    assert pull(feed, "eeg", 80)[0].std() == pytest.approx(1e-2, rel=0.2)


def test_a_stream_that_is_not_there_is_refused_after_the_wait(feed_of):
    with pytest.raises(BundleError, match=r"^eeg: there must be a stream named 'nobody', but after 1 s there is "):
        feed_of(names={"eeg": "nobody"}, without=["audio"], wait=0.3)
    with pytest.raises(
        BundleError, match=r"a source must be given for a sensor, but got 'sonar'; known: \['audio', 'eeg"
    ):
        feed_of(names={"sonar": "x"})
    with pytest.raises(
        BundleError, match="eeg: a unit must be volts, millivolts, microvolts or nanovolts, but got 'mm'"
    ):
        feed_of(units={"eeg": "mm"})
    with pytest.raises(BundleError, match="at least one sensor must come as a stream, but none does"):
        feed_of(without=["eeg", "audio"], wait=0.3)


def test_two_streams_of_one_type_must_be_told_apart(on_air, feed_of):
    for number in (1, 2):
        on_air(name=f"twin-{number}", **EEG, source_id=f"serial-{number}")
    with pytest.raises(
        BundleError, match=r"eeg: there must be one stream for it, but there are 'twin-.', 'twin-.': choose"
    ):
        feed_of(without=["audio"])
    feed = feed_of(names={"eeg": "serial-2"}, without=["audio"])
    assert feed.sensors["eeg"].source_id == "serial-2"


LISTEN = """
    import json, sys
    import pylsl
    found = pylsl.resolve_byprop("name", sys.argv[1], 1, timeout=60)
    inlet = pylsl.StreamInlet(found[0], recover=False)
    inlet.open_stream(timeout=60)
    print(json.dumps(inlet.info().as_xml()), flush=True)
    try:
        while True:
            sample, stamp = inlet.pull_sample(timeout=60)
            print(json.dumps([pylsl.local_clock(), stamp, sample]), flush=True)
    except Exception:
        pass
"""


def listen(env, name):
    """A third process that writes down all it hears of a stream, and when."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LISTEN), name], env=env, stdout=subprocess.PIPE, text=True
    )


class OtherMachine:
    """What pylsl gives of a machine whose clock is 100 s behind, then, after a restart, 7 s ahead."""

    LostError = type("LostError", (RuntimeError,), {})

    def __init__(self):
        self.offsets = iter([100.0, -7.0])
        self.util = SimpleNamespace(LostError=self.LostError, InternalError=type("InternalError", (RuntimeError,), {}))
        self.boots = 0

    def local_clock(self):
        return 1000.0

    def ContinuousResolver(self, **options):
        return SimpleNamespace(results=lambda: [self.describe()])

    def describe(self):
        channels = tuple(Channel(one, "volts") for one in EEG_CHANNELS)
        described = Description("far", "EEG", channels, EEG_RATE, uid=str(self.boots))
        return SimpleNamespace(as_xml=lambda: write_description(described).decode())

    def StreamInlet(self, info, **options):
        self.boots += 1
        offset = next(self.offsets, 0.0)
        left = [5, 5]

        def pull_chunk(**options):
            time.sleep(0.005)
            if not left:
                raise self.LostError("gone")
            return np.zeros((left.pop(), 3), np.float32), 1000.0 - offset + np.arange(5) / EEG_RATE

        return SimpleNamespace(
            info=lambda timeout: info,
            open_stream=lambda timeout: None,
            time_correction=lambda timeout: offset,
            flush=lambda: 0,
            pull_chunk=pull_chunk,
        )


def test_times_of_another_machine_are_brought_to_our_clock(monkeypatch, feed_of):
    monkeypatch.setitem(sys.modules, "pylsl", OtherMachine())
    feed = feed_of(names={"eeg": "far"}, without=["audio"])
    heard = [feed.next(5.0) for _ in range(6)]
    feed.close()
    assert [one.present for one in heard if isinstance(one, Change)] == [False, True]
    chunks = [one for one in heard if not isinstance(one, Change)]
    assert len(chunks) == 4
    for chunk in chunks:
        np.testing.assert_allclose(chunk.timestamps, 1000 + np.arange(5) / EEG_RATE)


def test_a_sensor_that_is_killed_is_absent_and_returns_and_the_log_decides_alike(
    on_air, feed_of, bundle, env, tmp_path, capsys
):
    """Two amplifiers, our loop, and a listener: four processes. One amplifier is killed and started again."""
    from fusionkit.runtime.lsl import LslOutlet

    pyxdf = pytest.importorskip("pyxdf")
    amplifier = on_air(name="amp-kill", **EEG, size=10.0, source_id="k")
    on_air(name="mic-kill", **AUDIO)
    session = Session.load(bundle)
    stream = Stream(session)
    feed = feed_of(names={"eeg": "amp-kill", "audio": "mic-kill"})
    answers = Answers(session, f"answers-{os.getpid()}", stream.step, "ab" * 32)
    outlet = LslOutlet(answers.description)
    listener = listen(env, answers.description.name)
    until = time.monotonic() + PATIENCE
    while not outlet.heard() and time.monotonic() < until:
        time.sleep(0.05)
    decisions, changes, phase, since, fresh = [], [], 0, 0, None
    with Log(XdfWriter(tmp_path / "log.xdf"), feed, answers.description) as log:
        for one in run(stream, feed, answers, outlet=outlet, log=log, duration=PATIENCE):
            if isinstance(one, Change):
                changes.append(one)
            elif one is not None:
                decisions.append(one)
                since += 1
                both = all(one.present.values())
                if phase == 0 and both and since >= 15:
                    end(amplifier)
                    phase, since = 1, 0
                elif phase == 1 and not one.present["eeg"] and changes and since >= 10:
                    fresh = on_air(name="amp-kill", **EEG, size=10.0, source_id="k", seed=1)
                    phase, since = 2, 0
                elif phase == 2 and both:
                    phase, since = 3, 0
                elif phase == 3 and since >= 10:
                    break
    feed.close()
    assert phase == 3 and fresh is not None
    assert [(c.sensor, c.present) for c in changes] == [("eeg", False), ("eeg", True)]
    seen = [one.present["eeg"] for one in decisions]
    assert all(one.present["audio"] for one in decisions) and {True, False} == set(seen)
    np.testing.assert_allclose(np.diff([one.time for one in decisions]), stream.step, atol=1e-9)  # none is lost

    del outlet
    xml, *heard = [json.loads(line) for line in listener.communicate(timeout=PATIENCE)[0].splitlines()]
    labels = [f"state/{one}" for one in ("calm", "tense", "label", "confidence")] + ["present/eeg", "present/audio"]
    assert [xml.index(f"<label>{label}</label>") for label in labels] == sorted(
        xml.index(f"<label>{label}</label>") for label in labels
    )
    for part in (
        "<type>Decision</type>",
        "<manufacturer>fusionkit</manufacturer>",
        "<unit>probability</unit>",
        "ab" * 32,
    ):
        assert part in xml
    sent = {round(one.time, 6): answers.sample(one) for one in decisions}
    assert len(heard) == len(decisions)
    for _, stamp, sample in heard:
        np.testing.assert_allclose(sample, sent[round(stamp, 6)], rtol=1e-6)

    late = 1e3 * np.array([now - stamp for now, stamp, _ in heard])
    with capsys.disabled():
        p50, p99 = np.percentile(late, [50, 99])
        print(f"\n  LSL, last sample to decision in a third process: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(late)}")

    streams, _ = pyxdf.load_xdf(tmp_path / "log.xdf", dejitter_timestamps=False)
    logged = {one["info"]["name"][0]: one for one in streams}
    np.testing.assert_array_equal(logged[answers.description.name]["time_stamps"], [one.time for one in decisions])
    assert [row[0] for row in logged["fusionkit changes"]["time_series"]] == ["-eeg", "+eeg"]
    assert logged["eeg"]["time_series"].shape[1] == 3 and XdfFile(tmp_path / "log.xdf").whole

    again = Stream(session)
    replay = replay_xdf(tmp_path / "log.xdf", session.sensors, speed=np.inf)
    replayed = [one for one in run(again, replay, answers) if one is not None and not isinstance(one, Change)]
    assert [(one.time, one.present) for one in replayed] == [(one.time, one.present) for one in decisions]
    for one, other in zip(replayed, decisions, strict=True):
        np.testing.assert_allclose(one.answers["state"], other.answers["state"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_latency_from_the_last_sample_to_a_decision_in_a_third_process(on_air, env, tmp_path, capsys):
    """62 channels of EEG at 200 Hz and sound at 16 kHz, in chunks of 10 ms, from two processes; ours; and a listener."""
    names = tuple(f"E{number}" for number in range(62))
    rates = {"eeg": 200.0, "audio": 16000.0}
    path = write_bundle(tmp_path / "m.fusion", 0.1, 1.0, names, rates["eeg"], rates["audio"])
    traces = {name: tmp_path / f"{name}.txt" for name in rates}
    eeg = {"type": "EEG", "channels": 62, "labels": names, "unit": "microvolts", "size": 10.0}
    on_air(name="amp-fast", **eeg, rate=rates["eeg"], chunk=0.01, trace=str(traces["eeg"]))
    on_air(name="mic-fast", **AUDIO | {"rate": rates["audio"]}, chunk=0.01, trace=str(traces["audio"]))
    name = f"fast-{os.getpid()}"
    words = ["stream", path, "--lsl", "--source", "eeg=amp-fast", "--source", "audio=mic-fast", "--outlet", name]
    loop = subprocess.Popen(
        [sys.executable, "-m", "fusionkit", *words, "--wait", "60", "--duration", "22", "--quiet"],
        env=env,
        stdout=subprocess.DEVNULL,
    )
    listener = listen(env, name)
    try:
        assert loop.wait(timeout=PATIENCE) == 0
        _, *heard = [json.loads(line) for line in listener.communicate(timeout=PATIENCE)[0].splitlines()]
    finally:
        end(loop, listener)
    pushed = {sensor: np.loadtxt(trace) for sensor, trace in traces.items()}
    late = []
    for now, stamp, sample in heard:
        assert sample[-2:] == [1, 1]
        # a window begins at the sample nearest to its time, so its last one is at most 1.5 periods before the decision
        chunks = [np.searchsorted(pushed[one][:, 1], stamp - 1.5 / rates[one] + 1e-6) for one in rates]
        late.append(now - max(pushed[one][place, 0] for one, place in zip(rates, chunks, strict=True)))
    p50, p99 = 1e3 * np.percentile(late, [50, 99])
    with capsys.disabled():
        print(
            f"\n  LSL, push of the last sample to decision in a third process: p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(late)}"
        )
    assert len(late) > 150 and min(late) > 0 and p50 < 100
