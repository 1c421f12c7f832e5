"""The DEAP source: values, ratings and names are those of the files, pickled or MATLAB's, whole or cut into windows."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fusionkit.cli import main
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import sources
from fusionkit.data.ingest import ingest
from fusionkit.data.inspect import inspect_sources
from fusionkit.data.sources import deap as source_module
from fusionkit.data.sources.deap import EEG, SIGNALS, Deap
from fusionkit.data.sources.source import SensorColumn

ROWS = {"eeg": range(32), "eog": (32, 33), "emg": (34, 35)} | {
    name: (36 + i,) for i, name in enumerate(("gsr", "respiration", "plethysmograph", "temperature"))
}
SENSORS = {
    name: SensorColumn(name, registry.modalities.build("eeg" if name == "eeg" else "signal"), name) for name in ROWS
}


@pytest.fixture(scope="session")
def tree(tree_tool, tmp_path_factory):
    """DEAP as the tool of this project's public trees writes it: two people, short trials."""
    folder = tmp_path_factory.mktemp("public")
    tree_tool.deap(str(folder), [1, 2], 0.05)
    return folder


def write(folder, *, people=2, trials=3, seconds=8, form="python", protocol=2):
    """A small DEAP; give the folder and what each file holds."""
    below = folder / "DEAP" / f"data_preprocessed_{form}"
    below.mkdir(parents=True, exist_ok=True)
    generator, held = np.random.default_rng(0), {}
    for person in range(1, people + 1):
        data = generator.standard_normal((trials, 40, 128 * seconds)) * 20
        labels = np.round(generator.uniform(1, 9, (trials, 4)), 2)
        labels[0, :2] = 5.0, 5.01
        held[f"s{person:02d}"] = {"labels": labels, "data": data}
        if form == "python":
            (below / f"s{person:02d}.dat").write_bytes(pickle.dumps(held[f"s{person:02d}"], protocol))
        else:
            scipy.io.savemat(below / f"s{person:02d}.mat", held[f"s{person:02d}"])
    return folder / "DEAP", held


def stored(study, sensor, row):
    known = study.sensors[sensor]
    first = int(known.offset[row])
    return np.asarray(known.values[first : first + int(known.count[row])])


def check(folder, held, tmp_path, **options):
    """Every record of every sensor holds what its file does, and every label is the file's."""
    study = ingest(Deap(path=folder, **options), SENSORS, ["valence", "liking", "arousal_high"], tmp_path / "deap.h5")
    records, row = study.records, 0
    for person, content in held.items():
        for trial, (values, ratings) in enumerate(zip(content["data"], content["labels"], strict=True), start=1):
            assert records.id[row] == f"{person}_1_{trial}"
            assert (records.subject[row], records.session[row]) == (person, "1")
            assert records.trial[row] == records.recording[row] == str(trial)
            assert float(records.labels["valence"][row]) == ratings[0]
            assert float(records.labels["liking"][row]) == ratings[3]
            assert records.labels["arousal_high"][row] == ("high" if ratings[1] > 5 else "low")
            for name, channels in ROWS.items():
                factor = 1e-6 if name in ("eeg", "eog", "emg") else 1.0
                expected = (values[list(channels), 3 * 128 :] * factor).T.astype(np.float32)
                np.testing.assert_array_equal(stored(study, name, row), expected)
            row += 1
    assert row == len(records)
    return study


@pytest.mark.parametrize("form", ["python", "matlab"])
def test_the_public_tree_comes_back(tree, tmp_path, form):
    suffix = {"python": "dat", "matlab": "mat"}[form]
    held = {}
    for path in sorted((tree / "DEAP" / f"data_preprocessed_{form}").glob(f"*.{suffix}")):
        held[path.stem] = pickle.loads(path.read_bytes()) if form == "python" else scipy.io.loadmat(path)
    assert list(held) == ["s01", "s02"]
    study = check(tree, held, tmp_path, form=form)
    assert len(study.records) == 80
    assert [len(sensor.recording_name) for sensor in study.sensors.values()] == [80] * 7


@pytest.mark.parametrize("form", ["python", "matlab"])
def test_values_labels_and_names_are_the_files(tmp_path, form):
    folder, held = write(tmp_path, form=form)
    study = check(folder, held, tmp_path)
    assert study.sensors["eeg"].stored.channels == EEG
    assert (EEG[0], EEG[15], EEG[16], EEG[31]) == ("Fp1", "Pz", "Fp2", "O2")
    assert len(set(EEG)) == 32
    units = {name: sensor.stored.unit for name, sensor in study.sensors.items()}
    assert units == {name: signals.unit for name, signals in SIGNALS.items()}
    assert [units[name] for name in ("eeg", "eog", "emg", "temperature")] == ["V", "V", "V", ""]
    assert study.sensors["emg"].stored.channels == ("zEMG", "tEMG")
    assert {sensor.stored.sample_rate for sensor in study.sensors.values()} == {128.0}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_of_any_protocol_is_read(tmp_path, protocol):
    folder, held = write(tmp_path, people=1, trials=1, seconds=4, protocol=protocol)
    check(folder, held, tmp_path)


def test_both_forms_say_the_same_and_python_goes_first(tmp_path):
    folder, held = write(tmp_path)
    write(tmp_path, form="matlab")
    auto, python, matlab = (Deap(path=folder, form=form) for form in ("auto", "python", "matlab"))
    assert auto.files == python.files != matlab.files
    assert python.rows() == matlab.rows()
    check(folder, held, tmp_path, form="matlab")


def test_high_is_above_the_threshold(tmp_path):
    folder, _ = write(tmp_path)
    first = Deap(path=folder).rows()[0]
    assert (first.labels["valence"], first.labels["valence_high"]) == ("5.0", "low")
    assert (first.labels["arousal"], first.labels["arousal_high"]) == ("5.01", "high")
    assert Deap(path=folder, threshold=4.5).rows()[0].labels["valence_high"] == "high"


@pytest.mark.parametrize("baseline", ["drop", "keep"])
def test_windows_refer_into_the_trial_and_none_lies_in_the_baseline(tmp_path, baseline):
    folder, held = write(tmp_path)  # 3 s before 5 s of video
    source = Deap(path=folder, window=2.0, step=1.5, baseline=baseline)
    study = ingest(source, SENSORS, ["valence"], tmp_path / "deap.h5")
    sensor = study.sensors["eeg"]
    assert len(study.records) == 2 * 3 * 3  # 0-2, 1.5-3.5, 3-5 s
    assert study.records.id[:4] == ("s01_1_1_1", "s01_1_1_2", "s01_1_1_3", "s01_1_2_1")
    assert len(sensor.recording_name) == 6
    assert set(np.asarray(sensor.recording_count)) == {(5 if baseline == "drop" else 8) * 128}
    for row, start in enumerate((0.0, 1.5, 3.0)):
        first = round((3 + start) * 128)
        expected = (held["s01"]["data"][0, :32, first : first + 256] * 1e-6).T.astype(np.float32)
        np.testing.assert_array_equal(stored(study, "eeg", row), expected)


def test_a_whole_trial_is_the_same_whether_its_baseline_is_kept(tmp_path):
    folder, _ = write(tmp_path, people=1)
    drop, keep = (
        ingest(Deap(path=folder, baseline=baseline), SENSORS, [], tmp_path / f"{baseline}.h5")
        for baseline in ("drop", "keep")
    )
    assert drop.records.id == keep.records.id
    for row in range(3):
        np.testing.assert_array_equal(stored(drop, "gsr", row), stored(keep, "gsr", row))


def test_a_file_is_read_once_for_all_of_its_trials(tmp_path, monkeypatch):
    folder, _ = write(tmp_path)
    read = []
    real = source_module.unpickle_file
    monkeypatch.setattr(source_module, "unpickle_file", lambda path: read.append(path.name) or real(path))
    source_module._unpickled.cache_clear()
    source_module._trials.cache_clear()
    ingest(Deap(path=folder), {"eeg": SENSORS["eeg"]}, [], tmp_path / "deap.h5")
    assert read == ["s01.dat", "s02.dat"] * 2  # for the ratings, then for the signals
    assert source_module._unpickled.cache_info().currsize == 1


def test_another_process_may_read_a_cell(tmp_path):
    folder, _ = write(tmp_path, people=1, trials=2, seconds=4)
    sensor = SENSORS["eeg"]
    cell = Deap(path=folder).cell(1, sensor)
    assert cell.from_file
    sent = pickle.loads(pickle.dumps(cell))
    assert sent == cell
    np.testing.assert_array_equal(sent.load(sensor.modality).values, cell.load(sensor.modality).values)


def test_a_changed_file_is_another_study(tmp_path):
    folder, _ = write(tmp_path, people=1)
    before = Deap(path=folder)
    fingerprint, stamp = before.fingerprint(), before.cell(0, SENSORS["eeg"]).stamp()
    assert Deap(path=folder, threshold=4).fingerprint() != fingerprint
    assert before.cell(0, SENSORS["gsr"]).stamp() != stamp  # as many parts of a file as there are columns
    assert before.cell(1, SENSORS["eeg"]).stamp() != stamp
    (path,) = before.files
    path.write_bytes(pickle.dumps({"data": np.zeros((3, 40, 1000)), "labels": np.ones((3, 4))}))
    assert Deap(path=folder).fingerprint() != fingerprint
    assert Deap(path=folder).rows()[0].labels["valence"] == "1.0"


def test_bands_beyond_its_filter_are_named():
    def note(**features):
        modality = registry.modalities.build("eeg", {"features": {"kind": "dft", **features}})
        return Deap(path=Path("DEAP")).notes({"brain": SensorColumn("brain", modality, "eeg")})

    (line,) = note(bands="classic")
    assert line.startswith("brain: DEAP's preprocessed EEG is band-passed from 4 to 45 Hz")
    assert "delta (1-4 Hz)" in line and "theta" not in line and "gamma" not in line
    assert "gamma (31-50 Hz)" in note(bands="seed")[0]
    assert note(bands={"alpha": (8, 13)}) == []
    assert Deap(path=Path("DEAP")).notes({"gsr": SENSORS["gsr"]}) == []


def test_what_it_says_of_its_sensors_reads_them(tmp_path):
    write(tmp_path, people=1, trials=1, seconds=4)
    (facts,) = inspect_sources(tmp_path)
    (reading,) = facts.readings
    assert (facts.kind, facts.problems) == ("deap", ())
    assert (reading.records, reading.subjects, reading.trials) == (1, ("s01",), 1)
    assert {sensor.name: sensor.first.item[0] for sensor in reading.sensors} == {
        name: len(rows) for name, rows in ROWS.items()
    }


def test_it_is_found_from_any_folder_above_and_known_by_its_folders(tmp_path):
    folder, _ = write(tmp_path, people=1, trials=1, seconds=4)
    for path in (tmp_path, folder, folder / "data_preprocessed_python"):
        assert Deap.recognises(path)
        assert len(Deap(path=path).rows()) == 1
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "s01.dat").write_bytes(b"anything")
    assert not Deap.recognises(tmp_path / "else")
    assert not Deap.recognises(tmp_path / "nowhere")
    assert not Deap.recognises(folder / "data_preprocessed_python" / "s01.dat")


def test_what_is_wrong_is_named(tmp_path):
    folder, _ = write(tmp_path, people=1, trials=1, seconds=4)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Deap(path=tmp_path / "nowhere").rows()
    with pytest.raises(DataError, match="there must be a folder data_preprocessed_matlab"):
        Deap(path=folder, form="matlab").rows()
    with pytest.raises(ConfigError, match="step is from window to window"):
        Deap(path=folder, step=1.0)
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        sources.build("deap", {"path": str(folder), "basline": "keep"})
    with pytest.raises(DataError, match="a trial must be as long as window, 2 s, but none is"):
        Deap(path=folder, window=2.0).rows()
    with pytest.raises(DataError, match="'valence' is a label"):
        Deap(path=folder).cell(0, SensorColumn("x", SENSORS["gsr"].modality, "valence"))
    for name in "ab":
        write(tmp_path / "two" / name, people=1)
    with pytest.raises(DataError, match="there must be one folder data_preprocessed_python"):
        Deap(path=tmp_path / "two").rows()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((2, 40, 500))}, "must hold an array 'labels', but holds ['data']"),
        ({"data": np.zeros((2, 39, 500)), "labels": np.zeros((2, 4))}, "but its shape is (2, 39, 500)"),
        ({"data": np.zeros((2, 40, 384)), "labels": np.zeros((2, 4))}, "more than 384"),
        ({"data": np.zeros((2, 40, 500)), "labels": np.zeros((3, 4))}, "4 ratings of each of 2 trials"),
        ({"data": np.zeros((2, 40)), "labels": np.zeros((2, 4))}, "data must be numbers of 3 axes"),
        ([1, 2], "but holds list"),
        (print, "asks for"),
    ],
)
def test_a_pickle_of_something_else_is_told_in_a_line(tmp_path, content, message):
    folder = tmp_path / "data_preprocessed_python"
    folder.mkdir()
    (folder / "s07.dat").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError) as raised:
        Deap(path=tmp_path).rows()
    assert str(raised.value).startswith(str(folder / "s07.dat"))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_the_recipe_trains_on_it(tmp_path):
    folder, _ = write(tmp_path, people=3, trials=12)
    assert main(["train", "deap", f"data.path={folder}", "train.epochs=1", f"run.dir={tmp_path / 'runs'}"]) == 0
    (run,) = (tmp_path / "runs" / "deap").iterdir()
    assert (run / "report.html").is_file() and (run / "model.fusion").is_file()
    assert set(json.loads((run / "metrics.json").read_text())["tasks"]) == {"valence_high", "arousal_high"}
