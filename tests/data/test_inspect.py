"""Looking at data: what lies there is said as it is."""

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.data.inspect import (
    ArchiveFacts,
    FileFacts,
    FolderFacts,
    StudyFacts,
    TableFacts,
    describe_column,
    inspect,
    inspect_recording,
)
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study


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
    class Box:
        kind = "box"

        def read(self, path):
            return Recording(np.ones((20, 2), np.float32), 10.0, ("Fz", "Cz"), "V")

    facts = inspect_recording(folder / "a.edf", Box())
    assert (facts.kind, facts.shape, facts.dtype, facts.seconds) == ("box", (20, 2), "float32", 2.0)


def test_what_is_not_there_or_damaged_is_refused_by_name(folder):
    (folder / "s.h5").write_bytes(b"x")
    (folder / "d.npz").write_bytes(b"x")
    for name in ("none", "s.h5", "d.npz"):
        with pytest.raises(DataError, match=name):
            inspect(folder / name)
