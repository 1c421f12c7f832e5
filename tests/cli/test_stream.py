"""`fusionkit stream`: recordings and LSL in, decisions out, in every form of output."""

import hashlib
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from rich.console import Console

from fusionkit.cli import main
from fusionkit.cli.live import Live, decision_json, decision_line
from fusionkit.runtime import Session
from fusionkit.runtime.answers import Answers
from fusionkit.runtime.description import Channel, Description
from fusionkit.runtime.loop import run
from fusionkit.runtime.manifest import Task
from fusionkit.runtime.replay import replay_arrays, replay_xdf
from fusionkit.runtime.stream import Decision, Health, Stream
from fusionkit.runtime.xdf import XdfFile, XdfWriter
from tests.cli.conftest import write_edf
from tests.runtime import loopback
from tests.runtime.loopback import (
    AUDIO_RATE,
    EEG_CHANNELS,
    EEG_RATE,
    end,
    environment,
    start_outlet,
    write_bundle,
)

SECONDS = 4
DECISIONS = 36  # windows of 0.5 s every 0.1 s
PATIENCE = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, a file of either sensor, and an XDF file as LabRecorder writes it, with other streams in it."""
    folder = tmp_path_factory.mktemp("made")
    write_bundle(folder / "made.fusion")
    noise = np.random.default_rng(0)
    eeg = noise.normal(0, 2e-5, (SECONDS * int(EEG_RATE), 3))
    sound = noise.normal(0, 0.1, SECONDS * int(AUDIO_RATE)).astype("f4")
    write_edf(folder / "eeg.edf", eeg.T, int(EEG_RATE))
    write_edf(folder / "fast.edf", eeg.T, 2 * int(EEG_RATE))
    soundfile.write(folder / "sound.wav", sound, int(AUDIO_RATE), subtype="FLOAT")
    labels = ("Pz", "Fz", "Cz", "aux")
    amplifier = Description("amp", "EEG", tuple(Channel(one, "microvolts") for one in labels), EEG_RATE)
    with XdfWriter(folder / "lab.xdf") as file:
        marks = file.add(Description("marks", "Markers", (Channel("text"),), None, "string"))
        streams = file.add(amplifier), file.add(Description("mic", "Audio", (Channel("left"),), AUDIO_RATE))
        read = np.round(eeg * 1e7) / 10  # as the EDF file keeps it, in microvolts
        for k in range(SECONDS):  # whole seconds of one, then of the other, as recorders do
            for number, values, rate in zip(
                streams, (np.c_[read[:, [2, 0, 1, 0]]], sound[:, None]), (EEG_RATE, AUDIO_RATE), strict=True
            ):
                part = slice(k * int(rate), (k + 1) * int(rate))
                file.write(number, values[part], 50 + np.arange(part.start, part.stop) / rate)
            file.write(marks, [["begin"]], [50.0 + k])
    content = (folder / "lab.xdf").read_bytes()
    (folder / "lab.xdf").write_bytes(content.replace(b"<writer>fusionkit</writer>", b"<writer>labrecord</writer>"))
    return folder


@pytest.fixture
def here(made, monkeypatch, tmp_path):
    """The current folder is a new one, with links to the files."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(capsys, *words, code=0):
    assert main(["stream", "made.fusion", *map(str, words)]) == code
    return capsys.readouterr().out.splitlines()


def answers(capsys, *words):
    """Time since the first decision and probability of the first class, of every decision; and all that was said."""
    said = [json.loads(line) for line in lines(capsys, *words, "--json")]
    made = [one for one in said if "answers" in one]
    return [(one["time"] - made[0]["time"], one["answers"]["state"]["calm"]) for one in made], said


def test_files_of_sensors_are_decided_as_by_hand(here, capsys):
    found, said = answers(capsys, "--replay", "eeg=eeg.edf", "--replay", "audio=sound.wav", "--speed", "max")
    assert len(found) == DECISIONS
    np.testing.assert_allclose([time for time, _ in found], 0.1 * np.arange(DECISIONS), atol=1e-9)
    from scipy.signal import sosfilt, sosfilt_zi

    from fusionkit.data.recordings import read_recording
    from tests.runtime.loopback import SOS

    eeg = read_recording(here / "eeg.edf", list(EEG_CHANNELS)).values.astype("f8")
    eeg, _ = sosfilt(SOS, eeg, axis=0, zi=sosfilt_zi(SOS)[:, :, None] * eeg[0])
    sound, _ = soundfile.read(here / "sound.wav")
    for k, (_, calm) in enumerate(found):
        power = 1e10 * (eeg[10 * k : 10 * k + 50] ** 2).mean(), 10 * (sound[100 * k : 100 * k + 500] ** 2).mean()
        assert calm == pytest.approx(1 / (1 + np.exp(power[1] - power[0])), abs=1e-5)
    assert said[-1]["summary"]["decisions"] == DECISIONS
    assert all(one["present"] == {"eeg": True, "audio": True} for one in said if "answers" in one)


def test_a_recording_of_a_lab_is_decided_as_its_files(here, capsys):
    """Channels in another order, microvolts, and chunks of one stream after those of the other."""
    files, _ = answers(capsys, "--replay", "eeg=eeg.edf", "--replay", "audio=sound.wav", "--speed", "max")
    recorded, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "max")
    np.testing.assert_allclose(recorded, files, atol=1e-5)


def test_a_log_decides_alike_and_is_read_by_others(here, capsys):
    first, said = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--log", "log.xdf")
    again, resaid = answers(capsys, "--replay", "log.xdf", "--speed", "max")
    assert again == first
    assert [one for one in said if "back" in one] == [one for one in resaid if "back" in one] != []
    pyxdf = pytest.importorskip("pyxdf")
    streams = {one["info"]["name"][0]: one for one in pyxdf.load_xdf("log.xdf", dejitter_timestamps=False)[0]}
    assert set(streams) == {"eeg", "audio", "made", "fusionkit changes"}
    calm = streams["made"]["time_series"][:, 0]
    np.testing.assert_allclose(calm, [one for _, one in first], atol=1e-6)
    about = streams["made"]["info"]["desc"][0]
    assert about["bundle_sha256"] == [hashlib.sha256((here / "made.fusion").read_bytes()).hexdigest()]
    assert [one["label"][0] for one in streams["eeg"]["info"]["desc"][0]["channels"][0]["channel"]] == list(
        EEG_CHANNELS
    )


def test_a_line_a_decision_and_a_summary(here, capsys):
    said = lines(capsys, "--replay", "lab.xdf", "--speed", "max", "--log", "log.xdf")
    decided = [
        line for line in said if re.match(r" +\d+\.\d{3} s  state (calm|tense) 0\.\d{3}  \[eeg audio\]  lag", line)
    ]
    assert len(decided) == DECISIONS and decided[0].startswith("    0.500 s")
    assert said[-4].startswith(f"{DECISIONS} decisions, lag ")
    assert said[-3:] == [
        "  eeg: 400 samples, in 36 decisions",
        "  audio: 4,000 samples, in 36 decisions",
        "wrote log.xdf",
    ]


def test_options_reach_the_stream(here, capsys):
    plain, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "max")
    slow, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--step", "0.5")
    assert slow == plain[::5]
    smooth, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--smooth", "3")
    assert smooth[10][1] == pytest.approx(np.mean([one for _, one in plain[8:11]]), abs=1e-6)
    fading, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--smooth", "0.5")
    assert fading[1][1] == pytest.approx((plain[0][1] + plain[1][1]) / 2, abs=1e-6)
    short, said = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--duration", "2", "--debounce", "2,0.1,0.5")
    assert short == plain[: len(short)] and 12 <= len(short) <= 16
    _, said = answers(capsys, "--replay", "lab.xdf", "--speed", "max", "--without", "eeg")
    assert all(one["present"] == {"eeg": False, "audio": True} for one in said if "answers" in one)


def test_a_replay_keeps_time(here, capsys):
    began = time.monotonic()
    found, _ = answers(capsys, "--replay", "lab.xdf", "--speed", "4", "--duration", "3")
    assert time.monotonic() - began > 0.7 and len(found) > 20


def test_a_wearer_is_calibrated_once(here, capsys):
    """The first second aligns the EEG, without decisions; next time there are decisions from the first window on."""
    write_bundle(here / "aligned.fusion", align=1.0)

    def decide(*more):
        words = ["--replay", "lab.xdf", "--speed", "max", "--wearer", "me.npz", "--json", *more]
        assert main(["stream", "aligned.fusion", *words]) == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {one["number"]: one["answers"]["state"]["calm"] for one in said if "answers" in one}, said[-1]["summary"]

    first, health = decide("--log", "log.xdf")
    assert health["calibrating"] == min(first) > 0
    content = (here / "me.npz").read_bytes()
    again, health = decide()
    assert health["calibrating"] == 0 and min(again) == 0 and (here / "me.npz").read_bytes() == content
    assert {number: again[number] for number in first} == pytest.approx(first, abs=1e-6)
    assert np.load(here / "me.npz")["eeg.matrix"].shape == (3, 3)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "sensors must come from --lsl or from --replay, one of both"),
        (["--lsl", "--replay", "lab.xdf"], "sensors must come from --lsl or from --replay, one of both"),
        (["--replay", "lab.xdf", "--outlet", "x"], "--outlet must stand beside --lsl, but got 'x' with --replay"),
        (
            ["--replay", "none.xdf"],
            "none.xdf: a recording must be a file that can be read, but No such file or directory",
        ),
        (["--replay", "eeg.edf"], "eeg.edf: a recording must be an XDF file, but does not begin as one"),
        (["--replay", "eeg=none.edf"], "none.edf: there must be a file here, but there is none"),
        (["--replay", "eeg=fast.edf"], "fast.edf: sample_rate must be 100 Hz .*, but got 200 Hz"),
        (["--replay", "eeg=sound.wav"], "sound.wav: eeg must be a file that MNE reads .*"),
        (
            ["--replay", "lab.xdf", "--replay", "sonar=x.edf"],
            r"--replay must be one XDF file or SENSOR=FILE with a sensor of \['audio', 'eeg'\], but got 'lab.xdf'",
        ),
        (["--replay", "lab.xdf", "--speed", "0"], "--speed must be a number above 0 or max, but got '0'"),
        (["--replay", "lab.xdf", "--speed", "fast"], "--speed must be a number above 0 or max, but got 'fast'"),
        (["--replay", "lab.xdf", "--smooth", "2.5"], "--smooth must be a whole number of decisions or .* got 2.5"),
        (["--replay", "lab.xdf", "--debounce", "a"], "--debounce must be COUNT, COUNT,MARGIN or .*, but got 'a'"),
        (["--replay", "lab.xdf", "--debounce", "2,3"], "--debounce must be .* a margin from 0 to below 1 .*"),
        (["--replay", "lab.xdf", "--step", "-1"], "--step must be a time in seconds above 0, but got -1"),
        (
            ["--replay", "lab.xdf", "--source", "sonar=x"],
            r"--source must name a sensor of \['audio', 'eeg'\], but .*'sonar'",
        ),
        (["--replay", "lab.xdf", "--source", "eeg"], "--source must be SENSOR=... once a sensor, but got 'eeg'"),
        (["--replay", "lab.xdf", "--source", "eeg=x"], "lab.xdf: eeg must have the stream 'x', but there is none"),
        (["--replay", "lab.xdf", "--source", "eeg=mic"], "eeg: stream 'mic' must have a rate of 100 Hz, but has 1000"),
        (["--replay", "lab.xdf", "--source", "eeg=marks"], "eeg: stream 'marks' must be of numbers, but its .* text"),
        (["--replay", "lab.xdf", "--unit", "eeg=ohm"], "eeg: a unit must be volts, .*, but got 'ohm'"),
        (["--replay", "lab.xdf", "--without", "sonar"], r"--without must name a sensor of .*, but got 'sonar'"),
        (
            ["--replay", "lab.xdf", "--without", "eeg", "--without", "audio"],
            r"a stream needs a sensor with time, but none is left without \['audio', 'eeg'\]",
        ),
        (
            ["--replay", "lab.xdf", "--log", "eeg.edf"],
            "eeg.edf: a log must be a new file, but there is one of that name",
        ),
        (["--replay", "lab.xdf", "--step", "nan"], "--step must be a time in seconds above 0, but got nan"),
        (["--replay", "lab.xdf", "--duration", "0"], "--duration must be a time in seconds above 0, but got 0"),
        (["--replay", "lab.xdf", "--smooth", "inf"], "--smooth must be a whole number of decisions or .* got inf"),
        (["--replay", "lab.xdf", "--calibrated"], "state: calibrated answers need a temperature, but .*"),
        (["--replay", "lab.xdf", "--wearer", "eeg.edf"], "eeg.edf: .*"),
        (["--replay", "lab.xdf", "--log", "."], r"--log must name a file that can be written, but \.: is a folder"),
    ],
)
def test_a_mistake_is_one_line(here, refusal, words, line):
    before = sorted(here.iterdir())
    (said,) = refusal("stream", "made.fusion", *words)
    assert re.fullmatch(line, said), said
    assert sorted(here.iterdir()) == before


def test_without_pylsl_the_command_that_installs_it_is_said(here, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "pylsl", None)
    assert refusal("stream", "made.fusion", "--lsl") == [
        "LSL needs pylsl, but it is not installed: pip install 'fusionkit-torch[lsl]'"
    ]


def test_a_replay_imports_no_torch(here):
    code = (
        "import sys; from fusionkit.cli import main\n"
        "assert main(['stream', 'made.fusion', '--replay', 'lab.xdf', '--speed', 'max']) == 0\n"
        "heavy = {'torch', 'mne', 'pylsl'} & set(sys.modules); sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    env = environment()
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_with_a_summary_and_a_kill_leaves_the_log(here):
    words = [sys.executable, "-m", "fusionkit", "stream", "made.fusion", "--replay", "lab.xdf", "--log"]
    for number, file, code in ((signal.SIGINT, "a.xdf", 130), (signal.SIGKILL, "b.xdf", -9)):
        process = subprocess.Popen(
            [*words, file], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code and "Traceback" not in err
        assert all("state" in line for line in first)
        assert (f"wrote {file}" in out) == (code == 130)
        found = XdfFile(here / file)
        assert sum(len(stamps) for _, stamps in found.streams[3].chunks()) >= 3  # the decisions


def test_the_live_view_is_drawn_on_a_terminal(here):
    """In a real terminal, by a process of its own."""
    terminal, inside = pty.openpty()
    env = {**environment(), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    words = [sys.executable, "-m", "fusionkit", "stream", "made.fusion", "--replay", "lab.xdf", "--speed", "8"]
    child = subprocess.Popen(words, env=env, stdin=inside, stdout=inside, stderr=inside, close_fds=True)
    os.close(inside)
    shown, until = b"", time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if select.select([terminal], [], [], 1.0)[0]:
                part = os.read(terminal, 65536)
                shown += part
                if not part:
                    break
        except OSError:  # it has ended
            break
    os.close(terminal)
    assert child.wait(timeout=PATIENCE) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    for part in ("made: lab.xdf", "● present", "calm", "tense", "decisions", "36 decisions, lag", "samples"):
        assert part in text, text[-3000:]


def draw(view):
    console = Console(file=io.StringIO(), width=100, record=True, color_system=None)
    console.print(view)
    return console.export_text()


def test_the_live_view_says_what_every_sensor_does(here):
    noise = np.random.default_rng(0)
    session = Session.load("made.fusion")
    stream = Stream(session)
    eeg = Description("eeg", "eeg", tuple(Channel(one) for one in EEG_CHANNELS), EEG_RATE)
    recordings = {
        "eeg": (eeg, noise.normal(0, 2e-5, (100, 3))),
        "audio": (Description("audio", "audio", (Channel("audio"),), AUDIO_RATE), noise.normal(0, 0.1, (3000, 1))),
    }
    feed = replay_arrays(recordings, speed=np.inf)
    view = Live("made: test", stream, feed)
    assert "no decision yet" in draw(view) and draw(view).count("● waiting") == 2
    seen = []
    for one in run(stream, feed, Answers(session, "made", stream.step)):
        view.show(one)
        seen.append(draw(view))
    assert any(text.count("● present") == 2 for text in seen)
    assert any("● gone" in text and "● present" in text for text in seen)
    assert "00:00  eeg: its recording ended" in seen[-1] and "00:02  audio: its recording ended" in seen[-1]
    assert seen[-1].count("● ended") == 2
    assert all(max(map(len, text.splitlines())) <= 100 for text in seen)
    calm = stream.health.decisions
    assert f"{calm} decisions" in seen[-1]


def test_the_live_view_says_what_is_calibrating(here):
    write_bundle(here / "aligned.fusion", align=1.0)
    session = Session.load("aligned.fusion")
    stream, feed = Stream(session), replay_xdf(here / "lab.xdf", session.sensors, speed=np.inf)
    view, seen = Live("made", stream, feed), []
    for one in run(stream, feed, Answers(session, "made", stream.step)):
        view.show(one)
        seen.append(draw(view))
    assert any("● calibrating" in text and "no decision yet" in text for text in seen)
    assert "● calibrating" not in seen[-1]


def test_every_kind_of_answer_is_drawn_printed_and_published():
    tasks = {
        "mood": Task("classification", ("calm", "tense"), "probabilities", {}),
        "signs": Task("multi_label", ("blink", "frown"), "probabilities", {}),
        "load": Task("regression", (), "value", {}),
    }
    answers = {"mood": np.array([0.25, 0.75]), "signs": np.array([0.9, 0.2]), "load": np.array([3.5])}
    label = {"mood": "calm", "signs": ("blink",), "load": 3.5}  # calm: held by debouncing
    sure = {"mood": 0.25, "signs": 0.8, "load": float("nan")}
    made = Decision(12.5, 3, answers, answers, label, sure, {"eeg": True, "ecg": False}, 0.0123)
    assert decision_line(made, 10.0) == (
        "    2.500 s  mood calm 0.250  signs blink 0.800  load 3.5  [eeg]  lag 12.3 ms"
    )
    assert "\x1b" not in decision_line(replace(made, label=label | {"mood": "\x1b[2J"}), 10.0)
    plain = decision_json(made, {name: task.classes for name, task in tasks.items()})
    assert plain["answers"] == {
        "mood": {"calm": 0.25, "tense": 0.75},
        "signs": {"blink": 0.9, "frown": 0.2},
        "load": 3.5,
    }
    manifest = SimpleNamespace(name="m")
    session = SimpleNamespace(tasks=tasks, sensors={"eeg": None, "ecg": None}, manifest=manifest)
    published = Answers(session, "answers", 0.25)
    named = dict(zip([one.label for one in published.description.channels], published.sample(made), strict=True))
    assert named == {
        "mood/calm": 0.25, "mood/tense": 0.75, "mood/label": 0, "mood/confidence": 0.25,
        "signs/blink": 0.9, "signs/frown": 0.2, "signs/confidence": 0.8,
        "load": 3.5, "present/eeg": 1, "present/ecg": 0,
    }  # fmt: skip
    assert published.description.sample_rate == 4 and published.description.type == "Decision"
    health = Health({}, 1, 0, 0, 0, 1, 0.001, 0.002)
    stream = SimpleNamespace(session=session, health=health, tracks={}, start=10.0)
    view = Live("m", stream, SimpleNamespace(notes=[], waiting=lambda: 99))

    class Meanwhile(dict):
        """What another thread does while the view is drawn: a decision is made."""

        def __getitem__(self, key):
            view.show(made)
            return super().__getitem__(key)

    view.show(replace(made, label=Meanwhile(label), answers=Meanwhile(answers)))
    view.show(made)
    text = draw(view)
    for part in (
        "mood  calm",
        "signs  blink",
        "load  3.5",
        "0.75",
        "0.90",
        "99 chunks waiting",
        "lag 1.0 ms (p99 2.0 ms)",
    ):
        assert part in text, text


def test_lsl_from_the_command_line(here, capsys, refusal):
    pytest.importorskip("pylsl")
    env = environment()
    name = f"amp-{os.getpid()}"
    eeg = {"name": name, "type": "EEG", "channels": 3, "rate": EEG_RATE, "labels": list(EEG_CHANNELS)}
    amplifier = start_outlet(env, **eeg, size=1e-5)
    try:
        words = ["--lsl", "--source", f"eeg={name}", "--without", "audio", "--wait", "60", "--duration", "1.5"]
        assert refusal("stream", "made.fusion", *words) == [
            f"eeg: stream '{name}' must say a unit that becomes V for Fz, but does not say: give one"
        ]
        found, said = answers(capsys, *words, "--unit", "eeg=volts", "--log", "log.xdf")
    finally:
        end(amplifier)
    assert len(found) >= 5 and all(one["present"] == {"eeg": True, "audio": False} for one in said if "answers" in one)
    assert answers(capsys, "--replay", "log.xdf", "--speed", "max")[0] == found
    assert refusal("stream", "made.fusion", "--lsl", "--source", "eeg=nobody", "--wait", "0.2")[0].startswith(
        "eeg: there must be a stream named 'nobody', but after 1 s there is "
    )


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("plugins: [planted]\n" + loopback.RECIPE, "sound.wav: audio must be read by a recipe without plugins: .*"),
        (loopback.RECIPE.replace("audio: {", "sound: {"), "sound.wav: audio must be a sensor of the bundle's recipe.*"),
    ],
)
def test_a_bundle_that_is_streamed_imports_nothing(here, refusal, monkeypatch, recipe, line):
    (here / "planted.py").write_text("import pathlib; pathlib.Path('planted.txt').touch()")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(loopback, "RECIPE", recipe)
    (here / "made.fusion").unlink()
    write_bundle(here / "made.fusion")
    (said,) = refusal("stream", "made.fusion", "--replay", "audio=sound.wav", "--without", "eeg", "--speed", "max")
    assert re.fullmatch(line, said), said
    assert not (here / "planted.txt").exists() and "planted" not in sys.modules
