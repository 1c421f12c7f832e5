"""Ingestion: every recording once, every rule told with file and row, and a kill loses next to nothing."""

import csv
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, DataError, UnknownNameError
from fusionkit.core.modality import FrontEnd, Modality, Recording, Stored
from fusionkit.data.checks import window
from fusionkit.data.ingest import ingest, open_or_ingest
from fusionkit.data.parts import Parts
from fusionkit.data.sources.manifest import Manifest
from fusionkit.data.sources.npz import Npz
from fusionkit.data.sources.source import SensorColumn
from fusionkit.data.sources.study import StudySource
from fusionkit.data.study import Study

ROOT = Path(__file__).parents[2]


class Box(Modality):
    """Reads arrays with their rate, channels and unit, and remembers what it read."""

    kind = "box"

    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain
        self.seen: list[str] = []

    def read(self, path: Path) -> Recording:
        self.seen.append(path.name)
        with np.load(path, allow_pickle=False) as file:
            rate = float(file["rate"])
            values = (file["values"] * self.gain).astype(file["values"].dtype)
            return Recording(values, rate or None, tuple(file["channels"].tolist()), str(file["unit"]))

    def from_array(self, values, sample_rate=None, channels=()):
        return Recording(values.T.astype(np.float32), sample_rate, tuple(channels))

    def front_end(self, stored: Stored) -> FrontEnd:
        raise NotImplementedError


class Words(Box):
    """A sentence in a cell."""

    kind = "words"
    in_cells = True

    def from_cell(self, cell: str) -> Recording:
        return Recording(np.frombuffer(cell.encode(), np.uint8))


def record(path, values, rate=10.0, channels=("Fz", "Cz"), unit="V"):
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, values=values, rate=rate, channels=list(channels), unit=unit)


def signal(seed, count=50, channels=2):
    return np.random.default_rng(seed).normal(size=(count, channels)).astype(np.float32)


def table(folder, rows):
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Manifest(path=folder / "t.csv")


ROWS = [
    {"id": "a", "subject": "S1", "eeg": "one.dat", "eeg_start": "0", "eeg_stop": "2", "note": "hé", "state": "rest"},
    {"id": "b", "subject": "S1", "eeg": "one.dat", "eeg_start": "1", "eeg_stop": "3", "note": "", "state": ""},
    {"id": "c", "subject": "S2", "eeg": "two.dat", "eeg_start": "", "eeg_stop": "", "note": "hé", "state": "count"},
    {"id": "d", "subject": "S2", "eeg": "", "eeg_start": "", "eeg_stop": "", "note": "x", "state": "rest"},
]


@pytest.fixture
def lab(tmp_path):
    record(tmp_path / "one.dat", signal(1))
    record(tmp_path / "two.dat", signal(2, 30))
    return tmp_path


def sensors(**options):
    return {"eeg": SensorColumn("eeg", Box(**options), "eeg"), "text": SensorColumn("text", Words(), "note")}


def test_every_recording_is_read_and_stored_once(lab):
    asked = sensors()
    with ingest(table(lab, ROWS), asked, ["state"], lab / "s.h5") as study:
        assert asked["eeg"].modality.seen == ["one.dat", "two.dat"]
        assert study.records.id == ("a", "b", "c", "d")
        assert study.records.subject == ("S1", "S1", "S2", "S2")
        assert study.records.labels == {"state": ("rest", None, "count", "rest")}
        eeg, text = study.sensors["eeg"], study.sensors["text"]
        np.testing.assert_array_equal(eeg.values, np.concatenate([signal(1), signal(2, 30)]))
        np.testing.assert_array_equal(eeg.slice(0), signal(1)[:20])
        np.testing.assert_array_equal(eeg.slice(1), signal(1)[10:30])
        np.testing.assert_array_equal(eeg.slice(2), signal(2, 30))
        assert eeg.present.tolist() == [True, True, True, False]
        assert eeg.stored == Stored(10.0, ("Fz", "Cz"), "V", (2,), "<f4", 30)
        assert eeg.recording_name == ("one.dat", "two.dat")
        assert eeg.recording.tolist() == [0, 0, 1, -1]
        assert text.slice(0).tobytes().decode() == "hé"
        assert text.present.tolist() == [True, False, True, True]
        assert text.recording.tolist() == [0, -1, 1, 2]  # equal sentences are no shared signal
        study.verify()
    assert sorted(path.name for path in lab.iterdir()) == ["one.dat", "s.h5", "s.h5.lock", "t.csv", "two.dat"]


def test_what_was_ingested_before_is_opened(lab):
    first = ingest(table(lab, ROWS), sensors(), ["state"], lab / "s.h5")
    asked = sensors()
    assert ingest(table(lab, ROWS), asked, ["state"], lab / "s.h5").digest == first.digest
    assert asked["eeg"].modality.seen == []


@pytest.mark.parametrize("change", ["file", "option", "label", "table"])
def test_what_changed_is_ingested_again(lab, change):
    rows = [dict(row) for row in ROWS]
    first = ingest(table(lab, rows), sensors(), ["state"], lab / "s.h5")
    asked, labels = sensors(gain=2.0 if change == "option" else 1.0), ["state"]
    if change == "file":
        record(lab / "two.dat", signal(3, 31))
    if change == "label":
        labels = ["state", "note"]
    if change == "table":
        rows[0]["eeg_stop"] = "1.5"
    study = ingest(table(lab, rows), asked, labels, lab / "s.h5")
    assert study.digest != first.digest
    assert asked["eeg"].modality.seen == ["one.dat", "two.dat"]


def test_the_digest_is_the_same_at_another_place(lab, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("one.dat", "two.dat"):
        (other / name).write_bytes((lab / name).read_bytes())
    here = ingest(table(lab, ROWS), sensors(), ["state"], lab / "s.h5")
    there = ingest(table(other, ROWS), sensors(), ["state"], other / "elsewhere.h5")
    assert here.digest == there.digest


def test_progress_counts_recordings(lab):
    told = []
    ingest(table(lab, ROWS), sensors(), [], lab / "s.h5", progress=lambda *what: told.append(what))
    assert told == [(1, 5, "one.dat"), (2, 5, "row 1"), (3, 5, "two.dat"), (4, 5, "row 3"), (5, 5, "row 4")]


def test_two_sensors_may_share_a_column(lab):
    asked = {"eeg": SensorColumn("eeg", Box(), "eeg"), "ten": SensorColumn("ten", Box(gain=10.0), "eeg")}
    study = ingest(table(lab, ROWS), asked, [], lab / "s.h5")
    np.testing.assert_allclose(study.sensors["ten"].slice(1), study.sensors["eeg"].slice(1) * 10, rtol=1e-6)


# what breaks a rule


def refused(lab, rows, **more):
    asked = sensors()
    with pytest.raises(DataError) as caught:
        ingest(table(lab, rows), asked, [], lab / "s.h5", **more)
    assert not (lab / "s.h5").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eeg": "none.dat"}, "t.csv row 2, column eeg: no such file: 'none.dat'"),
        (
            {"eeg_stop": "5.2"},
            "t.csv row 2, column eeg: one.dat: stop must lie within the recording, but is 5.2 s of 5 s",
        ),
        (
            {"eeg_start": "9", "eeg_stop": ""},
            "column eeg: one.dat: start must lie within the recording, but is 9 s of 5 s",
        ),
        ({"eeg_start": "3"}, "t.csv row 2, column eeg: start must be before stop"),
        ({"eeg_start": "2.99", "eeg_stop": "3.02"}, "must hold a sample, but 2.99 to 3.02 s at 10 Hz has none"),
        ({"eeg": "../one.dat"}, "t.csv row 2, column eeg: a path must stay inside"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(lab, change, message):
    assert message in refused(lab, [ROWS[0], ROWS[1] | change, *ROWS[2:]])


@pytest.mark.parametrize(
    ("two", "message"),
    [
        ({"rate": 12.5}, "share their sampling rate, but one.dat has 10 Hz and two.dat 12.5 Hz"),
        ({"rate": 0}, "share their sampling rate, but one.dat has 10 Hz and two.dat none"),
        ({"channels": ("Cz", "Fz")}, "in one order, but one.dat has 'Fz' at channel 1 and two.dat 'Cz'"),
        ({"unit": "uV"}, "share their unit, but one.dat has 'V' and two.dat 'uV'"),
        (
            {"values": signal(2, 30, 3), "channels": ("Fz", "Cz", "ECG")},
            "share their channels, but one.dat has 2 channels and two.dat 3 (only in one of them: ECG)",
        ),
        ({"values": signal(2, 30).astype(np.float64)}, "type of number, but one.dat has float32 and two.dat float64"),
        ({"values": signal(2)[:0]}, "two.dat: a recording must hold samples, but has none"),
        ({"rate": -1.0}, "two.dat: a sampling rate must be above 0, but got -1 Hz"),
        ({"channels": ("Fz",)}, "two.dat: every channel must have a name, but 2 have 1"),
        ({"values": np.full((3, 2), "x")}, "two.dat: cannot be read as box: "),
        ({"values": np.ones((3, 2), complex)}, "two.dat: samples must be an array of numbers"),
    ],
)
def test_recordings_of_one_sensor_must_agree(lab, two, message):
    record(lab / "two.dat", **({"values": signal(2, 30)} | two))
    said = refused(lab, ROWS)
    assert said.startswith("t.csv row 3, column eeg: ")
    assert message in said


def test_items_of_different_shape_are_refused(lab):
    record(lab / "one.dat", np.ones((1, 3, 4, 4), np.uint8), rate=0, channels=())
    record(lab / "two.dat", np.ones((1, 3, 5, 4), np.uint8), rate=0, channels=())
    rows = [row | {"eeg_start": "", "eeg_stop": ""} for row in ROWS]
    assert "shape per sample, but one.dat has (3, 4, 4) and two.dat (3, 5, 4)" in refused(lab, rows)


def test_seconds_are_refused_where_there_is_no_rate(lab):
    record(lab / "one.dat", signal(1), rate=0)
    record(lab / "two.dat", signal(2), rate=0)
    assert "sensors with a sampling rate, but this one has none" in refused(lab, ROWS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused_where_a_record_uses_them(lab, value):
    values = signal(1)
    values[25, 1] = values[27, 0] = value
    record(lab / "one.dat", values)
    said = refused(lab, ROWS)
    assert (
        said
        == f"t.csv row 2, column eeg: one.dat: samples must be finite, but channel Cz is {value} at sample 25 (2.5 s)"
    )


def test_samples_outside_of_every_record_may_be_anything(lab):
    values = signal(1)
    values[35:] = np.nan
    record(lab / "one.dat", values)
    ingest(table(lab, ROWS), sensors(), [], lab / "s.h5")
    rows = [dict(row) for row in ROWS]
    rows[0]["eeg_stop"] = "4"  # the parts are gone by now; the rule still holds
    with pytest.raises(DataError, match=r"row 1, .* at sample 35 \(3\.5 s\)"):
        ingest(table(lab, rows), sensors(), [], lab / "s.h5")
    assert Study.open(lab / "s.h5").records.id == ("a", "b", "c", "d")


def test_errors_of_several_rows_are_told_together(lab):
    rows = [{"id": str(n), "eeg": "one.dat", "eeg_start": "0", "eeg_stop": str(4 + n), "note": "x"} for n in range(5)]
    lines = refused(lab, rows).split("\n")
    assert [line.split(",")[0] for line in lines] == ["t.csv row 3", "t.csv row 4", "t.csv row 5"]
    rows = [{"id": str(n), "eeg": f"{n}.dat", "note": "x"} for n in range(30)]
    lines = refused(lab, rows).split("\n")
    assert [line.split(",")[0] for line in lines] == [f"t.csv row {n}" for n in range(1, 11)]


def test_a_sensor_that_nobody_has_is_refused_unless_it_is_expected(lab):
    rows = [row | {"eeg": ""} for row in ROWS]
    assert "column 'eeg' is empty in all 4" in refused(lab, rows)
    expected = {"eeg": Stored(10.0, ("Fz", "Cz"), "V", (2,), "<f4", 30)}
    study = ingest(table(lab, rows), sensors(), [], lab / "s.h5", expected=expected)
    assert study.sensors["eeg"].stored.channels == ("Fz", "Cz")
    assert not study.sensors["eeg"].present.any()


def test_recordings_must_agree_with_what_is_expected(lab):
    expected = {"eeg": Stored(125.0, ("Fz", "Cz"), "V", (2,), "<f4", 30)}
    said = refused(lab, ROWS, expected=expected)
    assert "sampling rate, but the trained model has 125 Hz and one.dat 10 Hz" in said
    study = ingest(table(lab, ROWS), sensors(), [], lab / "s.h5")
    source = StudySource(path=study.path)
    with pytest.raises(DataError, match="125 Hz"):
        open_or_ingest(source, sensors(), [], lab, expected=expected)


def test_columns_and_names_are_checked_before_anything_is_read(lab):
    asked = {"eeg": SensorColumn("eeg", Box(), "egg", start="form")}
    with pytest.raises(DataError) as caught:
        ingest(table(lab, ROWS), asked, ["stat"], lab / "s.h5")
    one, two, three = str(caught.value).split("\n")
    assert "modalities.eeg.column: no column named 'egg'; did you mean 'eeg'?" in one
    assert "modalities.eeg.start: no column named 'form'" in two
    assert "column stat: no column named 'stat'; did you mean 'state'?" in three
    assert not list(lab.glob("s.h5*"))
    with pytest.raises(ConfigError, match="'a/b'"):
        ingest(table(lab, ROWS), {"a/b": SensorColumn("a/b", Box(), "eeg")}, [], lab / "s.h5")


def test_a_file_that_is_no_study_is_never_replaced(lab):
    (lab / "notes.h5").write_text("precious")
    with pytest.raises(DataError, match=r"notes\.h5"):
        ingest(table(lab, ROWS), sensors(), [], lab / "notes.h5")
    assert (lab / "notes.h5").read_text() == "precious"


# seconds to samples


def test_seconds_become_samples():
    assert window(8.0, 12.0, 7500, 125.0) == (1000, 500)
    assert window(None, None, 7, None) == (0, 7)
    assert window(56.0, 60.0, 7500, 125.0) == (7000, 500)
    assert window(None, 1.0, 100, 10.0) == (0, 10)
    assert window(1.0, None, 100, 10.0) == (10, 90)
    assert window(0.25, 1.0, 10, 10.0) == (2, 8)  # 2.5 and 7.5 would both be rounded up, and leave the recording
    assert window(0.0, 1.04, 10, 10.0) == (0, 10)  # less than half a sample beyond the end is rounding


@given(
    start=st.integers(0, 10**4),
    length=st.integers(1, 500),
    rate=st.sampled_from([1.0, 100.0, 125.0, 128.0, 160.0, 173.61, 256.0, 512.5, 44100.0]),
    scale=st.sampled_from([1.0, 0.1, 0.004]),
)
def test_stretches_of_equal_time_are_equally_long_and_lie_inside(start, length, rate, scale):
    seconds = length * scale
    first_second = start * scale
    count = int(np.ceil((first_second + seconds) * rate))
    if seconds * rate < 0.51:  # at half a sample rounding may go either way
        return
    first, many = window(first_second, first_second + seconds, count, rate)
    assert abs(many - seconds * rate) <= 0.5 + 1e-6
    assert abs(first - first_second * rate) <= 1
    assert first >= 0 and first + many <= count


# other sources


def test_arrays_are_taken_by_the_modality(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(24.0).reshape(3, 2, 4), y=[0, 1, 0])
    source = Npz(path=tmp_path / "d.npz", rates={"x": 4})
    study = ingest(source, {"eeg": SensorColumn("eeg", Box(), "x")}, ["y"], tmp_path / "s.h5")
    assert study.sensors["eeg"].stored == Stored(4.0, (), "", (2,), "<f4", 4)
    np.testing.assert_array_equal(study.sensors["eeg"].slice(2), np.arange(16.0, 24).reshape(2, 4).T)
    assert study.records.labels["y"] == ("0", "1", "0")


def test_a_study_is_its_own_source(lab):
    study = ingest(table(lab, ROWS), sensors(), ["state"], lab / "s.h5")
    source = StudySource(path=lab / "s.h5")
    same = open_or_ingest(source, sensors(), ["state"], lab / "cache")
    assert same.path == study.path and same.digest == study.digest
    assert not (lab / "cache").exists()
    renamed = open_or_ingest(source, {"brain": SensorColumn("brain", Box(), "eeg")}, [], lab / "cache")
    assert list(renamed.sensors) == ["brain"]
    assert renamed.digest != study.digest  # so that no cached features are taken for those of another sensor
    np.testing.assert_array_equal(renamed.sensors["brain"].slice(1), study.sensors["eeg"].slice(1))
    with pytest.raises(UnknownNameError, match=r"modalities\.eye: .*'eeg'"):
        open_or_ingest(source, {"eye": SensorColumn("eye", Box(), "eye")}, [], lab / "cache")
    with pytest.raises(DataError, match="did you mean 'state'"):
        open_or_ingest(source, sensors(), ["stat"], lab / "cache")


def test_a_study_read_cell_by_cell_is_the_same_study(lab):
    study = ingest(table(lab, ROWS), sensors(), ["state"], lab / "s.h5")
    asked = {"eeg": SensorColumn("eeg", Box(), "eeg"), "text": SensorColumn("text", Words(), "text")}
    copy = ingest(StudySource(path=lab / "s.h5"), asked, ["state"], lab / "copy.h5")
    assert copy.digest == study.digest


def test_a_cached_study_is_found_again(lab):
    one = open_or_ingest(table(lab, ROWS), sensors(), ["state"], lab / "cache")
    two = open_or_ingest(table(lab, ROWS), sensors(), ["state"], lab / "cache")
    other = open_or_ingest(table(lab, ROWS), sensors(gain=2.0), ["state"], lab / "cache")
    assert one.path == two.path != other.path
    assert one.path.parent == lab / "cache"


# kills, workers, damage


def two_parts(folder):
    parts = Parts(folder)
    parts.append("one", Recording(signal(1), 10.0, ("Fz", "Cz"), "V"))
    parts.append("two", Recording(np.arange(5, dtype=np.uint8)))
    parts.close()
    return folder / "journal.jsonl", folder / "samples.bin"


def cut(path, size):
    path.write_bytes(path.read_bytes()[:-size] if size > 0 else path.read_bytes() + b"x" * -size)


@pytest.mark.parametrize(
    ("journal_cut", "samples_cut", "left"),
    [
        (0, 0, ["one", "two"]),
        (1, 0, ["one"]),
        (-7, 0, ["one", "two"]),
        (0, -7, ["one", "two"]),
        (1, -7, ["one"]),
        (0, 1, ["one"]),
        (0, 6, []),
        (200, -7, []),
    ],
)
def test_parts_of_a_killed_run_are_taken_and_half_ones_are_not(tmp_path, journal_cut, samples_cut, left):
    journal, samples = two_parts(tmp_path / "p")
    cut(journal, journal_cut)
    cut(samples, samples_cut)
    for added in ("three", "four"):  # every run dies in its turn
        parts = Parts(tmp_path / "p")
        assert [id for id in ("one", "two", "three") if id in parts] == left
        if "one" in left:
            _, recording = parts.find("one")
            np.testing.assert_array_equal(recording.values, signal(1))
            assert (recording.sample_rate, recording.channels, recording.unit) == (10.0, ("Fz", "Cz"), "V")
        parts.append(added, Recording(signal(3)))
        np.testing.assert_array_equal(parts.find(added)[1].values, signal(3))
        left = [*left, added]
        parts.close()
    parts.remove()
    assert not (tmp_path / "p").exists()


def test_samples_that_did_not_reach_the_disk_are_read_again(lab):
    record(lab / "two.dat", signal(2), rate=99)  # the first run is refused, and keeps what it has read
    refused(lab, ROWS)
    samples = lab / "s.h5.parts" / "samples.bin"
    samples.write_bytes(bytes(samples.stat().st_size))
    record(lab / "two.dat", signal(2, 30))
    asked = sensors()
    study = ingest(table(lab, ROWS), asked, [], lab / "s.h5")
    assert asked["eeg"].modality.seen == ["one.dat", "two.dat"]
    np.testing.assert_array_equal(study.sensors["eeg"].slice(0), signal(1)[:20])


def test_after_an_error_only_the_mended_file_is_read_again(lab):
    record(lab / "two.dat", signal(2), rate=-5)
    refused(lab, ROWS)
    record(lab / "two.dat", signal(2, 30))
    asked = sensors()
    ingest(table(lab, ROWS), asked, [], lab / "s.h5")
    assert asked["eeg"].modality.seen == ["two.dat"]
    assert not (lab / "s.h5.parts").exists()


SCRIPT = """
import os, signal, sys, random
from pathlib import Path
import numpy as np
from fusionkit.core.recording import Recording
from fusionkit.data import ingest as module
from fusionkit.data.sources.manifest import Manifest
from fusionkit.data.sources.source import SensorColumn
from fusionkit.data.study import Study

folder = Path(sys.argv[1])


class Plain:
    kind, in_cells = "plain", False

    def read(self, path):
        with open(folder / "seen.txt", "a") as seen:
            seen.write(path.name + " ")
        return Recording(np.fromfile(path, np.float32).reshape(-1, 2), 10.0, ("x", "y"), "V")


def run(path, workers=0):
    source = Manifest(path=folder / "t.csv")
    return module.ingest(source, {"eeg": SensorColumn("eeg", Plain(), "eeg")}, ["id"], path, workers=workers)
"""


@pytest.fixture
def plain(tmp_path):
    for name in range(6):
        signal(name, 2000).tofile(tmp_path / f"{name}.dat")
    table(tmp_path, [{"id": str(row), "eeg": f"{row % 6}.dat"} for row in range(9)])
    (tmp_path / "plain.py").write_text(SCRIPT)
    return tmp_path


def script(folder, code):
    (folder / "main.py").write_text("from plain import *\n" + textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, folder / "main.py", folder],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_kill_at_any_line_loses_at_most_the_recording_in_flight(plain):
    """A child process kills itself at the n-th line it runs of our code; the next one goes on."""
    code = """
    def child(path, kill_at):
        pid = os.fork()
        if pid == 0:
            lines = 0
            def trace(frame, event, arg):
                nonlocal lines
                if "fusionkit/data" not in frame.f_code.co_filename:
                    return None
                lines += event == "line"
                if lines == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace
            sys.settrace(trace)
            run(path)
            sys.settrace(None)
            (folder / "lines.txt").write_text(str(lines))
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    def seen():
        file = folder / "seen.txt"
        text = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
        return text.split()

    reference = run(folder / "reference.h5").digest
    assert len(seen()) == 6
    assert child(folder / "counted.h5", -1) == 0
    total = int((folder / "lines.txt").read_text())
    seen()
    generator = random.Random(0)
    kills = 0
    for kill_at in sorted(generator.sample(range(1, total), 25)):
        path = folder / f"s{kill_at}.h5"
        assert child(path, kill_at) == signal.SIGKILL
        kills += 1
        before = seen()
        if path.exists():
            with Study.open(path) as study:  # whole, or not there
                study.verify()
                assert study.digest == reference
        assert child(path, -1) == 0
        again = seen()
        assert set(before) | set(again) == {f"{n}.dat" for n in range(6)}
        assert len(before) + len(again) <= 7, (kill_at, before, again)
        with Study.open(path) as study:
            study.verify()
            assert study.digest == reference
        assert not list(folder.glob("*.parts"))
    print(kills)
    """
    assert script(plain, code) == ["25"]


def test_workers_make_the_same_study(plain):
    code = """
    if __name__ == "__main__":
        print(run(folder / "one.h5").digest, run(folder / "two.h5", workers=2).digest)
    """
    one, two = script(plain, code)
    assert one == two


def test_two_processes_at_once_read_everything_once(plain):
    code = """
    print(run(folder / "s.h5").digest)
    """
    outputs = []
    threads = [threading.Thread(target=lambda: outputs.append(script(plain, code))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 2 and outputs[0] == outputs[1]
    assert len((plain / "seen.txt").read_text().split()) == 6
