import numpy as np
import pytest

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Stored
from fusionkit.core.registry import modalities
from fusionkit.modalities.signal import Signal


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def write(path, rows, names=None, delimiter=","):
    lines = [delimiter.join(names)] if names else []
    path.write_text("\n".join([*lines, *(delimiter.join(f"{x:.9g}" for x in row) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("names", [None, ["x", "y", "pupil left"]])
def test_reads_text(tmp_path, table, suffix, delimiter, names):
    recording = Signal(sample_rate=60.0).read(write(tmp_path / f"a.{suffix}", table, names, delimiter))
    np.testing.assert_array_equal(recording.values, table)
    assert recording.channels == (tuple(names) if names else ("1", "2", "3"))
    assert (recording.sample_rate, recording.unit, recording.values.dtype) == (60.0, "", np.float32)


def test_reads_numpy_and_picks(tmp_path, table):
    np.save(tmp_path / "a.npy", table.astype(np.float64))
    recording = Signal(sample_rate=60.0, channels=["3", "1"]).read(tmp_path / "a.npy")
    np.testing.assert_array_equal(recording.values, table[:, [2, 0]])
    path = write(tmp_path / "a.csv", table, ["time", "gaze_x", "gaze_y"])
    assert Signal(sample_rate=60.0, channels=["gaze_*"]).read(path).channels == ("gaze_x", "gaze_y")
    with pytest.raises(DataError, match=r"a\.csv: there must be a channel 'gaze_z'.*did you mean 'gaze_"):
        Signal(sample_rate=60.0, channels=["gaze_z"]).read(path)


def test_a_row_without_rate_is_a_vector(tmp_path, table):
    recording = Signal().read(write(tmp_path / "a.csv", table[:1]))
    assert recording.sample_rate is None and recording.values.shape == (1, 3)
    np.save(tmp_path / "a.npy", table[0])
    np.testing.assert_array_equal(Signal().read(tmp_path / "a.npy").values, table[:1])
    with pytest.raises(DataError, match=r"b\.csv: a table of several rows must have a sample_rate"):
        Signal().read(write(tmp_path / "b.csv", table))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("x,y\n", "is empty"),
        ("x,y\n1,2\n3,oops\n", "row 3, column y: a sample must be a number, but got 'oops'"),
        ("1,2\n3,\n", "row 2, column 2: a sample must be a number, but got ''"),
        ("x,y\n1,2\n\n3\n", "row 4: a row must have 2 cells, but got 1"),
        ("x,y,z\n1,2\n", "row 2: a row must have 3 cells, but got 2"),
    ],
)
def test_a_bad_table_is_refused_by_row_and_column(tmp_path, content, message):
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        Signal(sample_rate=1.0).read(tmp_path / "bad.csv")
    assert str(caught.value).startswith(str(tmp_path / "bad.csv"))


def test_bad_files_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    (tmp_path / "short.npy").write_bytes((tmp_path / "cube.npy").read_bytes()[:-20])
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe\xfa,1\n")
    (tmp_path / "a.edf").write_bytes(b"")
    for name in ("object.npy", "text.npy", "cube.npy", "short.npy", "latin.csv", "none.csv", "a.edf"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")) as caught:
            Signal(sample_rate=1.0).read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_arrays(table):
    recording = Signal(channels=["2"]).from_array(table.T, 60.0)
    np.testing.assert_array_equal(recording.values, table[:, 1:2])
    np.testing.assert_array_equal(Signal().window(recording.values), table.T[1:2])
    vector = Signal().from_array(table[0], channels=("a", "b", "c"))
    assert vector.sample_rate is None and vector.values.shape == (1, 3) and vector.channels == ("a", "b", "c")
    assert Signal().window(vector.values).shape == (3, 1)
    assert Signal(sample_rate=120.0, resample=True).from_array(table.T, 60.0).values.shape == (12, 3)
    with pytest.raises(DataError, match="sample_rate must be 120 Hz"):
        Signal(sample_rate=120.0).from_array(table.T, 60.0)
    with pytest.raises(DataError, match="sampling rate"):
        Signal().from_array(table.T)
    for bad in (table[None], table[:0], np.array(1.0)):
        with pytest.raises(DataError, match="its shape is"):
            Signal().from_array(bad, 60.0)


def test_resampling_looks_ahead():
    stored = Stored(120.0, ("a",), "", (1,), "<f4", 10)
    assert Signal(sample_rate=120.0).ahead() == Signal(sample_rate=120.0).chain(stored) == []
    assert len(Signal(sample_rate=120.0, resample=True).ahead()) == 1
    assert Signal(sample_rate=120.0, resample=True).chain(stored) is None


def test_the_registry_builds_it():
    sensor = modalities.build("signal", {"features": {"kind": "statistics", "window": 0.5}, "sample_rate": 4})
    assert (sensor.kind, sensor.encoder, sensor.features.window) == ("signal", "transformer", 0.5)
    with pytest.raises(ConfigError, match="resample needs"):
        modalities.build("signal", {"resample": True})


def test_the_ecg_of_an_eeg_file_is_a_sensor_of_its_own(real_data):
    recording = Signal(channels=["ECG"]).read(real_data / "lab" / "eeg" / "S00_arithmetic.edf")
    assert (recording.channels, recording.sample_rate, recording.unit) == (("ECG",), 125.0, "V")
    assert recording.values.shape == (7500, 1)
