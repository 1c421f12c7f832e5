"""The SEED-IV source: labels by the published table, eye movement beside EEG, sessions by folder."""

import pickle
from collections import Counter

import numpy as np
import pytest
import scipy.io

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import modalities
from fusionkit.data.ingest import ingest
from fusionkit.data.sources.seed_family import CHANNELS
from fusionkit.data.sources.seed_iv import EMOTIONS, EYE_ROWS, LABELS, SeedIV
from fusionkit.data.sources.source import SensorColumn

SENSORS = {
    "eeg": SensorColumn("eeg", modalities.build("eeg", {"features": {"kind": "ready"}}), "eeg"),
    "eye": SensorColumn("eye", modalities.build("signal", {"features": {"kind": "raw"}}), "eye"),
}


def write(folder, people=("1", "2"), sessions="123", eye=("1", "2"), windows=lambda trial: 1 + trial % 3, raw=False):
    """Features (or raw samples) and eye movement; gives what is in every file by session and person."""
    generator, held = np.random.default_rng(0), {}
    for session in sessions:
        for person in people:
            trials = range(1, 25)
            name = f"{session}/{person}_2016051{session}.mat"
            if raw:
                content = {f"zz_eeg{trial}": generator.standard_normal((62, 61)) for trial in trials}
            else:
                content = {
                    f"{kind}_{smoothing}{trial}": generator.standard_normal((62, windows(trial), 5))
                    for trial in trials
                    for kind in ("de", "psd")
                    for smoothing in ("movingAve", "LDS")
                }
            looks = {f"eye_{trial}": generator.standard_normal((31, windows(trial))) for trial in trials}
            for place, what in (
                ("eeg_raw_data" if raw else "eeg_feature_smooth", content),
                ("eye_feature_smooth", looks),
            ):
                if place != "eye_feature_smooth" or person in eye:
                    path = folder / place / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    scipy.io.savemat(path, what)
            held[session, person] = {**content, **looks}
    return held


def test_the_table_is_the_published_one(tree_tool):
    assert [list(labels) for labels in LABELS.values()] == tree_tool.IV_LABEL


def test_every_session_shows_every_emotion_six_times():
    assert all(Counter(labels) == dict.fromkeys(EMOTIONS, 6) for labels in LABELS.values())


def test_the_tree_is_read_as_it_was_written(seed_trees):
    for features, pattern in (("raw", "cz_eeg"), ("de", "de_LDS"), ("psd", "psd_LDS")):
        source = SeedIV(path=seed_trees, features=features, window="trial")
        rows = source.rows()
        assert Counter((row.subject, row.session) for row in rows) == {("1", session): 24 for session in "123"}
        assert Counter(row.labels["emotion"] for row in rows) == dict.fromkeys(EMOTIONS.values(), 18)
        for index in range(0, len(rows), 17):
            row = rows[index]
            date = ["20160518", "20161125", "20161126"][int(row.session) - 1]
            below = f"{row.session}/1_{date}.mat"
            place = "eeg_raw_data" if features == "raw" else "eeg_feature_smooth"
            written = scipy.io.loadmat(seed_trees / "SEED_IV" / place / below)[f"{pattern}{row.trial}"]
            eeg, eye = (source.cell(index, SensorColumn(name, None, name)) for name in ("eeg", "eye"))
            expected = written * 1e-6 if features == "raw" else written.transpose(0, 2, 1)
            np.testing.assert_allclose(eeg.values(), expected, rtol=1e-12)
            assert (eeg.rate, eeg.channels) == (200.0 if features == "raw" else 0.25, CHANNELS)
            looks = scipy.io.loadmat(seed_trees / "SEED_IV" / "eye_feature_smooth" / below)[f"eye_{row.trial}"]
            np.testing.assert_array_equal(eye.values(), looks)
            assert (eye.rate, eye.channels, len(looks)) == (0.25, EYE_ROWS, 31)


def test_records_hold_both_sensors_of_one_window(tmp_path):
    held = write(tmp_path)
    source = SeedIV(path=tmp_path, features="psd", smoothing="movingAve")
    study = ingest(source, SENSORS, ["emotion", "label"], tmp_path / "s.h5")
    row = 0
    for person in "12":
        for session in "123":
            for trial in range(1, 25):
                content = held[session, person]
                for window in range(content[f"eye_{trial}"].shape[1]):
                    assert study.records.id[row] == f"{person}_{session}_{trial}_{window + 1}"
                    assert study.records.labels["emotion"][row] == EMOTIONS[LABELS[session][trial - 1]]
                    expected = content[f"psd_movingAve{trial}"][:, window].astype(np.float32)
                    np.testing.assert_array_equal(study.sensors["eeg"].slice(row), expected[None])
                    looks = content[f"eye_{trial}"][:, window].astype(np.float32)
                    np.testing.assert_array_equal(study.sensors["eye"].slice(row), looks[None])
                    row += 1
    assert row == len(study.records)
    assert study.sensors["eeg"].stored.unit == ""


def test_a_person_without_eye_movement_lacks_the_sensor(tmp_path):
    write(tmp_path, eye=("2",))
    source = SeedIV(path=tmp_path, features="de")
    study = ingest(source, SENSORS, ["emotion"], tmp_path / "s.h5")
    assert study.sensors["eeg"].present.all()
    np.testing.assert_array_equal(study.sensors["eye"].present, np.array(study.records.subject) == "2")
    assert "eye" in source.columns()


def test_eye_movement_that_nobody_has_is_no_column(tmp_path):
    write(tmp_path, eye=())
    assert "eye" not in SeedIV(path=tmp_path, features="de").columns()


def test_raw_trials_are_whole_unless_a_window_is_given(tmp_path):
    write(tmp_path, people=["1"], sessions="1", raw=True)
    assert len(SeedIV(path=tmp_path).rows()) == 24
    assert len(SeedIV(path=tmp_path, window=0.1).rows()) == 24 * 3  # 61 samples are 0.305 s
    with pytest.raises(ConfigError, match="smoothing is for ready-made features"):
        SeedIV(path=tmp_path, smoothing="LDS")


def test_a_shorter_sensor_bounds_the_windows(tmp_path):
    write(tmp_path, people=["1"], sessions="1", windows=lambda trial: 5)
    path = tmp_path / "eye_feature_smooth" / "1" / "1_20160511.mat"
    scipy.io.savemat(path, {f"eye_{trial}": np.ones((31, 3 if trial == 2 else 5)) for trial in range(1, 25)})
    counts = Counter(row.trial for row in SeedIV(path=tmp_path, features="de").rows())
    assert counts["2"] == 3
    assert counts["1"] == 5


def test_damage_is_named(tmp_path):
    with pytest.raises(DataError, match="there must be a folder eeg_raw_data here or below"):
        SeedIV(path=tmp_path).rows()
    (tmp_path / "eeg_feature_smooth").mkdir()
    with pytest.raises(DataError, match="there must be folders 1, 2 and 3, one a session, but there is none"):
        SeedIV(path=tmp_path, features="de").rows()
    write(tmp_path, sessions="2")
    path = tmp_path / "eye_feature_smooth" / "2" / "1_20160512.mat"
    scipy.io.savemat(path, {f"eye_{trial}": np.ones((33, 2)) for trial in range(1, 25)})
    with pytest.raises(DataError, match=r"eye_1: must be \(31, time\), but is \(33, 2\)"):
        SeedIV(path=tmp_path, features="de").rows()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"1_20160512\.mat: .* it is truncated"):
        SeedIV(path=tmp_path, features="de").rows()


def test_it_is_recognised_by_its_folders(tmp_path):
    assert not SeedIV.recognises(tmp_path)
    write(tmp_path / "SEED_IV", people=["1"], sessions="1")
    assert SeedIV.recognises(tmp_path)
    assert SeedIV.recognises(tmp_path / "SEED_IV" / "eeg_feature_smooth")


def test_other_processes_may_read_the_cells(tmp_path):
    held = write(tmp_path, people=["1"], sessions="1", eye=["1"])
    source = SeedIV(path=tmp_path, features="de", window="trial")
    for row, column in ((0, "eeg"), (23, "eye")):
        cell = source.cell(row, SENSORS[column])
        again = pickle.loads(pickle.dumps(cell))
        assert cell.from_file
        assert again == cell
        assert again.stamp() == cell.stamp()
        np.testing.assert_array_equal(again.values(), cell.values())
    assert again.values().shape == held["1", "1"]["eye_24"].shape
