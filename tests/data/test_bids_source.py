"""The BIDS source: recordings, windows and events are where mne-bids finds them, with the labels of the tables."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.ingest import ingest
from fusionkit.data.sources.bids import Bids
from fusionkit.data.sources.source import SensorColumn

EEG = registry.modalities.build("eeg")
COLUMN = SensorColumn("eeg", EEG, "eeg")
RATE, SECONDS, CHANNELS = 100, 12, ("Fp1", "Cz", "O2")
EVENTS = (("1.0", "0", "T1"), ("3.25", "n/a", "T2"), ("5.5", "0", "rest"), ("6.0", "0", "T1"), ("11.5", "0", "T2"))
NAMES = (
    ("01", "a", "move", "1"),
    ("01", "a", "move", "2"),
    ("01", "b", "move", "1"),
    ("02", "a", "move", "1"),
    ("02", "a", "sleep", ""),
)


def tsv(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def write_brainvision(stem, values):
    """A recording by the format's definition: float32 microvolts, one sample after the other."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"Ch{i}={name},,1,µV" for i, name in enumerate(CHANNELS, start=1)]
    header = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={stem.name}.eeg",
        f"MarkerFile={stem.name}.vmrk",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={len(CHANNELS)}",
        f"SamplingInterval={1_000_000 // RATE}",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "[Channel Infos]",
        *lines,
    ]
    Path(f"{stem}.vhdr").write_text("\n".join(header) + "\n", encoding="utf-8")
    Path(f"{stem}.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0\n",
        encoding="utf-8",
    )
    (values.T * 1e6).astype("<f4").tofile(f"{stem}.eeg")


def stem_of(subject, session, task, run):
    return f"sub-{subject}_ses-{session}_task-{task}" + (f"_run-{run}" if run else "")


@pytest.fixture
def folder(tmp_path):
    """Two people; give the folder."""
    pytest.importorskip("mne_bids")
    root = tmp_path / "study"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.9.0"}')
    tsv(
        root / "participants.tsv",
        ("participant_id", "age", "group"),
        ("sub-02", "31", "n/a"),
        ("sub-01", "22", "control"),
    )
    generator = np.random.default_rng(0)
    for names in NAMES:
        place = root / f"sub-{names[0]}" / f"ses-{names[1]}" / "eeg" / stem_of(*names)
        write_brainvision(Path(f"{place}_eeg"), generator.standard_normal((len(CHANNELS), RATE * SECONDS)) * 1e-5)
        tsv(Path(f"{place}_events.tsv"), ("onset", "duration", "trial_type"), *EVENTS)
        tsv(Path(f"{place}_channels.tsv"), ("name", "type", "units"), *((name, "EEG", "uV") for name in CHANNELS))
    return root


def oracle(root, names):
    """The recording and its annotations as mne-bids reads them."""
    import mne_bids

    path = mne_bids.BIDSPath(
        subject=names[0], session=names[1], task=names[2], run=names[3] or None, datatype="eeg", root=root
    )
    return mne_bids.read_raw_bids(path, verbose="ERROR")


def stored(study, row):
    sensor = study.sensors["eeg"]
    first = int(sensor.offset[row])
    return np.asarray(sensor.values[first : first + int(sensor.count[row])])


def test_every_recording_is_a_record_with_the_names_of_its_file(folder, tmp_path):
    study = ingest(Bids(path=folder), {"eeg": COLUMN}, ["age", "group", "task", "run"], tmp_path / "study.h5")
    records = study.records
    assert records.id == tuple(stem_of(*names) for names in NAMES)
    assert records.subject == ("01", "01", "01", "02", "02")
    assert records.session == ("a", "a", "b", "a", "a")
    assert records.trial == ("1", "2", "1", "1", "2")
    assert records.recording == (
        "task-move_run-1",
        "task-move_run-2",
        "task-move_run-1",
        "task-move_run-1",
        "task-sleep",
    )
    assert records.labels["age"] == ("22", "22", "22", "31", "31")
    assert records.labels["group"] == ("control", "control", "control", None, None)
    assert records.labels["run"] == ("1", "2", "1", "1", None)
    assert (study.sensors["eeg"].stored.channels, study.sensors["eeg"].stored.unit) == (CHANNELS, "V")
    for row, names in enumerate(NAMES):
        raw = oracle(folder, names)
        assert tuple(raw.ch_names) == CHANNELS
        np.testing.assert_allclose(stored(study, row), raw.get_data().T, rtol=1e-6)


def test_events_become_records_where_mne_bids_has_them(folder, tmp_path):
    source = Bids(path=folder, tasks=["move"], events={"T1": "left", "T2": "right"}, window=2.0)
    study = ingest(source, {"eeg": COLUMN}, ["event", "trial_type", "age"], tmp_path / "study.h5")
    records, row = study.records, 0
    trials = {}
    for names in NAMES[:4]:
        raw = oracle(folder, names)
        values = raw.get_data()
        for annotation in raw.annotations:
            onset, kind = annotation["onset"], annotation["description"]
            if kind not in ("T1", "T2") or onset + 2.0 > SECONDS:
                continue
            trial = trials[names[:2]] = trials.get(names[:2], 0) + 1
            assert records.id[row] == f"{stem_of(*names)}_{trial}"
            assert (records.subject[row], records.session[row], records.trial[row]) == (*names[:2], str(trial))
            assert records.labels["trial_type"][row] == kind
            assert records.labels["event"][row] == {"T1": "left", "T2": "right"}[kind]
            first = round(onset * RATE)
            np.testing.assert_allclose(stored(study, row), values[:, first : first + 2 * RATE].T, rtol=1e-6)
            row += 1
    assert row == len(records) == 4 * 3  # the last T2 is half a second before the end
    assert len(study.sensors["eeg"].recording_name) == 4


def test_windows_refer_into_recordings(folder, tmp_path):
    source = Bids(path=folder, tasks=["sleep"], window=5.0, step=3.0)
    study = ingest(source, {"eeg": COLUMN}, [], tmp_path / "study.h5")
    assert study.records.id == tuple(f"sub-02_ses-a_task-sleep_{n}" for n in (1, 2, 3))
    assert study.records.trial == ("1", "1", "1")
    values = oracle(folder, NAMES[4]).get_data()
    for row, start in enumerate((0, 300, 600)):
        np.testing.assert_allclose(stored(study, row), values[:, start : start + 500].T, rtol=1e-6)


def test_columns_are_those_of_the_tables(folder):
    assert Bids(path=folder).columns() == ["id", "subject", "session", "trial", "task", "run", "eeg", "age", "group"]
    source = Bids(path=folder, events={"T1": "left"}, window=1)
    assert set(source.columns()) - set(Bids(path=folder).columns()) == {"event", "onset", "duration", "trial_type"}
    assert all(set(row.labels) == set(source.columns()) for row in source.rows())


def test_sessions_runs_and_participants_need_not_be(tmp_path):
    pytest.importorskip("mne_bids")
    write_brainvision(tmp_path / "sub-7" / "eeg" / "sub-7_task-x_eeg", np.ones((3, 200)) * 1e-5)
    (row,) = Bids(path=tmp_path).rows()
    assert (row.id, row.subject, row.session, row.recording) == ("sub-7_task-x", "7", "", "task-x")
    assert Bids(path=tmp_path).cell(0, COLUMN).load(EEG).values.shape == (200, 3)
    assert not Bids.recognises(tmp_path)
    (tmp_path / "dataset_description.json").write_text("{}")
    assert Bids.recognises(tmp_path)


def test_a_table_above_counts_for_all_below_and_the_nearer_one_first(folder):
    for path in folder.glob("sub-01/ses-*/eeg/*_events.tsv"):
        path.unlink()
    tsv(folder / "task-move_events.tsv", ("onset", "duration", "trial_type"), ("2", "0", "T1"))
    tsv(folder / "task-sleep_events.tsv", ("onset", "duration", "trial_type"), ("3", "0", "T1"))
    tsv(folder / "sub-01" / "sub-01_events.tsv", ("onset", "duration", "trial_type"), ("4", "0", "T1"))
    (folder / "sub-01" / "ses-a" / "eeg" / "sub-01_ses-a_task-move_run-2_events.tsv").write_text(
        "onset\tduration\ttrial_type\n5\t0\tT1\n"
    )
    starts = {}
    source = Bids(path=folder, events={"T1": "left"}, window=1)
    for index, row in enumerate(source.rows()):
        starts.setdefault((row.subject, row.session, row.recording), []).append(source.cell(index, COLUMN).start)
    assert starts["01", "a", "task-move_run-1"] == [4.0]
    assert starts["01", "a", "task-move_run-2"] == [5.0]
    assert starts["02", "a", "task-sleep"] == [1.0, 6.0]


def test_one_recording_in_two_files_is_refused(folder):
    place = next(folder.rglob("sub-01_ses-b_task-move_run-1_eeg.vhdr"))
    place.with_suffix(".edf").write_bytes(place.with_suffix(".eeg").read_bytes())
    with pytest.raises(DataError, match=r"a recording must be one file, but .*run-1_eeg\.edf and .*run-1_eeg\.vhdr"):
        Bids(path=folder).rows()


def test_derivatives_are_left_alone(folder):
    for name in ("derivatives/clean", "sourcedata"):
        write_brainvision(folder / name / "sub-01" / "eeg" / "sub-01_task-move_eeg", np.ones((3, 200)))
    assert len(Bids(path=folder).rows()) == len(NAMES)


def test_a_channel_that_the_tables_call_no_eeg_is_refused_in_an_eeg_sensor(folder):
    place = next(folder.rglob("sub-01_ses-a_task-move_run-1_channels.tsv"))
    tsv(place, ("name", "type", "status"), ("Fp1", "EOG", "good"), ("Cz", "EEG", "bad"), ("O2", "EEG", "good"))
    source = Bids(path=folder)
    with pytest.raises(DataError, match=r"run-1_eeg\.vhdr: .* channels\.tsv says that Fp1 is EOG"):
        source.cell(0, COLUMN).load(EEG)
    some = registry.modalities.build("eeg", {"channels": ["Cz", "O2"]})
    assert source.cell(0, SensorColumn("eeg", some, "eeg")).load(some).channels == ("Cz", "O2")
    eye = registry.modalities.build("signal", {"channels": ["Fp1"]})
    assert source.cell(0, SensorColumn("eye", eye, "eeg")).load(eye).channels == ("Fp1",)
    (note,) = source.notes({"eeg": COLUMN})
    assert "1 channels in 1 recordings bad (Cz of sub-01_ses-a_task-move_run-1" in note
    assert source.cell(0, COLUMN).stamp() != source.cell(0, COLUMN).stamp().replace("EOG", "EEG")


def test_nothing_outside_of_the_folder_is_followed(folder, tmp_path):
    outside = tmp_path / "outside" / "sub-09_task-x_eeg"
    write_brainvision(outside, np.ones((3, 200)))
    eeg = folder / "sub-09" / "eeg"
    eeg.mkdir(parents=True)
    (eeg / "sub-09_task-x_eeg.vhdr").symlink_to(f"{outside}.vhdr")
    with pytest.raises(DataError, match=r"sub-09_task-x_eeg\.vhdr: a file must lie in the folder"):
        Bids(path=folder).rows()
    (eeg / "sub-09_task-x_eeg.vhdr").unlink()
    header = Path(f"{outside}.vhdr").read_text(encoding="utf-8")
    (eeg / "sub-09_task-x_eeg.vhdr").write_text(
        header.replace("DataFile=", "DataFile=../../../outside/"), encoding="utf-8"
    )
    with pytest.raises(DataError, match="a file must lie in the folder"):
        Bids(path=folder).rows()
    (eeg / "sub-09_task-x_eeg.vhdr").unlink()
    eeg.rmdir()
    eeg.symlink_to(outside.parent)
    with pytest.raises(DataError, match="a file must lie in the folder"):
        Bids(path=folder).rows()
    eeg.unlink()
    table = next(folder.rglob("sub-01_ses-a_task-move_run-1_events.tsv"))
    table.unlink()
    tsv(tmp_path / "events.tsv", ("onset", "duration", "trial_type"), *EVENTS)
    table.symlink_to(tmp_path / "events.tsv")
    with pytest.raises(DataError, match=r"events\.tsv: a file must lie in the folder"):
        Bids(path=folder).rows()


def test_a_link_inside_of_the_folder_is_followed(folder):
    """As git-annex keeps large files."""
    data = next(folder.rglob("sub-01_ses-a_task-move_run-1_eeg.eeg"))
    kept = folder / ".git" / "annex" / "objects" / "xyz.eeg"
    kept.parent.mkdir(parents=True)
    data.rename(kept)
    data.symlink_to(kept)
    assert Bids(path=folder).cell(0, COLUMN).load(EEG).values.shape == (RATE * SECONDS, 3)


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="events need a window"):
        Bids(path=folder, events={"T1": "left"})
    with pytest.raises(ConfigError, match="step is from window to window"):
        Bids(path=folder, step=1)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Bids(path=tmp_path / "nowhere").rows()
    with pytest.raises(DataError, match="there must be EEG of task run"):
        Bids(path=folder, tasks=["run"]).rows()
    with pytest.raises(DataError, match=r"no trial_type is 'T3'; known: \['T1', 'T2', 'rest'\]"):
        Bids(path=folder, events={"T3": "x"}, window=1).rows()
    with pytest.raises(DataError, match="there must be an event whose 60 s lie in its recording"):
        Bids(path=folder, events={"T1": "x"}, window=60).rows()
    with pytest.raises(DataError, match="'age' is a label"):
        Bids(path=folder).cell(0, SensorColumn("x", EEG, "age"))
    place = next(folder.rglob("sub-01_ses-a_task-move_run-1_events.tsv"))
    for rows, message in (
        ([("onset", "duration"), ("1", "0")], "there must be columns onset and trial_type"),
        ([("onset", "trial_type"), ("soon", "T1")], "onset must be seconds from 0 on, but that of event 1 is 'soon'"),
        ([("onset", "trial_type"), ("1", "T1", "2")], "row 1: must have 2 cells as the header has, but has 3"),
        ([], "a table must have a header"),
    ):
        tsv(place, *rows)
        with pytest.raises(DataError, match=message) as raised:
            Bids(path=folder, events={"T1": "x"}, window=1).rows()
        assert str(place) in str(raised.value)
    place.unlink()
    with pytest.raises(DataError, match=r"there must be an events\.tsv beside the recording"):
        Bids(path=folder, events={"T1": "x"}, window=1).rows()


def test_labels_and_windows_are_part_of_the_fingerprint(folder):
    before = Bids(path=folder).fingerprint()
    assert Bids(path=folder).fingerprint() == before
    assert Bids(path=folder, window=3).fingerprint() != before
    tsv(folder / "participants.tsv", ("participant_id", "age"), ("sub-01", "23"))
    assert Bids(path=folder).fingerprint() != before


def test_a_missing_extra_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne_bids", None)
    with pytest.raises(ConfigError, match=r"pip install 'fusionkit-torch\[eeg\]'"):
        Bids(path=tmp_path).rows()
