"""Looking at data: what lies there is said as it is."""

from pathlib import Path

import numpy as np
import pytest

from fusionkit.core import registry
from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.data.inspect import (
    ArchiveFacts,
    FileFacts,
    FolderFacts,
    StudyFacts,
    TableFacts,
    describe_column,
    describe_recording,
    inspect,
    read_as_sensors,
)
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.sources.source import ArrayCell, Row, Source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.edf").write_bytes(b"12")
    (tmp_path / "b.edf").write_bytes(b"123")
    (tmp_path / "t.csv").write_text("eeg,n,note,void\na.edf,1,hello,\nb.edf,2.5,you,\nc.edf,,hello,\n")
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3), np.float32), y=np.array(["a", "b"]))
    records = Records.of([{"id": "1", "subject": "S", "state": "rest"}, {"id": "2", "subject": "S"}], ["state"])
    eeg = NewSensor.of([Recording(np.ones((20, 2)), 10.0, ("Fz", "Cz"), "V"), None], "eeg")
    save_study(tmp_path / "s.h5", records, {"eeg": eeg})
    return tmp_path


def test_a_table_is_described_by_its_columns(folder):
    facts = inspect(folder / "t.csv")
    assert isinstance(facts, TableFacts)
    assert facts.rows == 3
    eeg, number, note, void = facts.columns
    assert (eeg.form, eeg.suffixes, eeg.missing, eeg.distinct) == ("file", (".edf",), 1, 3)
    assert (number.form, number.filled, number.examples) == ("number", 2, ("1", "2.5"))
    assert (note.form, note.filled, note.distinct) == ("text", 3, 2)
    assert (void.form, void.filled) == ("empty", 0)


def test_sentences_are_no_files(tmp_path):
    assert describe_column("text", ["x" * 5000, "a/b. c", "nul\0"], tmp_path).form == "text"


def test_a_study_is_described_without_its_samples(folder):
    facts = inspect(folder / "s.h5")
    assert isinstance(facts, StudyFacts)
    assert (facts.records, facts.subjects, facts.sessions) == (2, 1, 1)
    (eeg,) = facts.sensors
    assert (eeg.name, eeg.kind, eeg.sample_rate, eeg.channels, eeg.unit) == ("eeg", "eeg", 10.0, ("Fz", "Cz"), "V")
    assert (eeg.present, eeg.recordings, eeg.longest, eeg.seconds, eeg.item) == (1, 1, 20, 2.0, (2,))
    assert (facts.labels[0].name, facts.labels[0].filled) == ("state", 1)


def test_an_archive_is_described_by_its_headers(folder):
    facts = inspect(folder / "d.npz")
    assert isinstance(facts, ArchiveFacts)
    assert [(array.name, array.shape, array.dtype) for array in facts.arrays] == [
        ("x", (2, 3), "float32"),
        ("y", (2,), "<U1"),
    ]


def test_a_folder_is_counted_by_suffix(folder):
    facts = inspect(folder)
    assert isinstance(facts, FolderFacts)
    assert facts.suffixes[".edf"] == (2, 5)
    assert next(iter(facts.suffixes)) == ".edf"
    assert [path.name for path in facts.tables] == ["d.npz", "s.h5", "t.csv"]


def test_any_other_file_says_which_sensors_read_it(folder, monkeypatch):
    monkeypatch.setattr("fusionkit.data.inspect.readers_of", lambda suffix: ("eeg",) if suffix == ".edf" else ())
    facts = inspect(folder / "b.edf")
    assert isinstance(facts, FileFacts)
    assert (facts.bytes, facts.kinds) == (3, ("eeg",))


def test_a_recording_is_described_as_a_sensor_reads_it(folder):
    recording = Recording(np.ones((20, 2), np.float32), 10.0, ("Fz", "Cz"), "V")
    facts = describe_recording(folder / "a.edf", "box", recording)
    assert (facts.kind, facts.shape, facts.dtype, facts.seconds) == ("box", (20, 2), "float32", 2.0)


def test_what_is_not_there_or_damaged_is_refused_by_name(folder):
    (folder / "s.h5").write_bytes(b"x")
    (folder / "d.npz").write_bytes(b"x")
    for name in ("none", "s.h5", "d.npz"):
        with pytest.raises(DataError, match=name):
            inspect(folder / name)


@pytest.fixture
def known(monkeypatch):
    """A data set's own format: a folder with a file ``box.txt``, which says how its records are to be read."""

    class Box(Source):
        kind = "box"

        def __init__(self, *, path: Path, form: str = "plain") -> None:
            self.form = form
            if (path / "box.txt").read_text() == "broken":
                raise DataError(f"{path}/box.txt: must be whole")

        @classmethod
        def recognises(cls, path):
            return (path / "box.txt").is_file()

        @classmethod
        def readings(cls, path):
            return [{"path": path}, {"path": path, "form": "fine"}]

        def columns(self):
            return ["ecg", "state", "age"]

        def rows(self):
            labels = [{"state": state, "age": str(n), "ecg": None} for n, state in enumerate(("b", "a", "b", None))]
            return [Row(f"r{n}", f"s{10 - n // 2}", "1", str(n % 2), labels=cells) for n, cells in enumerate(labels)]

        def cell(self, row, sensor):
            if row == 0:
                return None
            values = np.ones((2, 20), np.float32)
            return ArrayCell(key=str(row // 2), where=f"r{row}", values=values, sample_rate=10.0, channels=("x", "y"))

        def fingerprint(self):
            return ""

        def sensors(self):
            return {"ecg": {"kind": "signal", "features": {"kind": "raw"}}}

        def notes(self, sensors):
            return [f"{self.form} {list(sensors)}"]

    monkeypatch.setattr(registry.sources, "_classes", {**registry.sources._classes, "box": Box})


def test_a_data_set_is_described_in_each_of_its_forms(tmp_path, known):
    (tmp_path / "box.txt").write_text("fine")
    facts = inspect(tmp_path)
    assert isinstance(facts, FolderFacts)
    (box,) = facts.sources
    assert (box.kind, box.problems) == ("box", ())
    plain, fine = box.readings
    assert fine.options == {"path": tmp_path, "form": "fine"} and fine.notes == ("fine ['ecg']",)
    assert (plain.records, plain.trials, plain.subjects, plain.sessions) == (4, 4, ("s9", "s10"), ("1",))
    (ecg,) = plain.sensors
    assert (ecg.name, ecg.present, ecg.recordings) == ("ecg", 3, 2)
    assert ecg.first is not None
    assert (ecg.first.sample_rate, ecg.first.channels, ecg.first.longest) == (10.0, ("x", "y"), 20)
    state, age = plain.labels
    assert (state.name, state.filled, dict(state.counts)) == ("state", 3, {"a": 1, "b": 2})
    assert (age.form, age.distinct) == ("number", 4)


def test_a_damaged_data_set_says_so_once(tmp_path, known):
    (tmp_path / "box.txt").write_text("broken")
    (box,) = inspect(tmp_path).sources
    assert box.readings == () and box.problems == (f"{tmp_path}/box.txt: must be whole",)


def test_values_are_counted_in_their_own_order():
    assert list(describe_column("x", ["10", "-1", "9", "-1"]).counts.items()) == [("-1", 2), ("9", 1), ("10", 1)]
    assert list(describe_column("x", ["s10", "s9"]).counts) == ["s9", "s10"]
    assert describe_column("x", [str(n) for n in range(21)]).counts == {}


def test_a_recording_without_eeg_is_read_as_a_signal(tmp_path):
    import mne

    info = mne.create_info(["ECG", "RESP"], 100.0, ["ecg", "resp"])
    raw = mne.io.RawArray(np.random.default_rng(0).normal(size=(2, 500)) * 1e-4, info, verbose="ERROR")
    raw.save(tmp_path / "heart_raw.fif", verbose="ERROR")
    facts = inspect(tmp_path / "heart_raw.fif")
    assert isinstance(facts, FileFacts)
    read, refused = read_as_sensors(facts)
    assert list(read) == ["signal"] and read["signal"].channels == ("ECG", "RESP")
    assert "a channel of type eeg" in refused["eeg"]
    (tmp_path / "heart_raw.fif").write_bytes((tmp_path / "heart_raw.fif").read_bytes()[:2000])
    with pytest.raises(DataError, match="heart_raw"):
        read_as_sensors(facts)
