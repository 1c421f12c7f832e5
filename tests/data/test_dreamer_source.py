"""The DREAMER source: values, ratings and names are those of the file, clip by clip, with and without its baselines."""

import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fusionkit.cli import main
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.ingest import ingest
from fusionkit.data.inspect import inspect_sources
from fusionkit.data.sources.dreamer import Dreamer
from fusionkit.data.sources.source import SensorColumn

ELECTRODES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
SENSORS = {
    "eeg": SensorColumn("eeg", registry.modalities.build("eeg"), "eeg"),
    "ecg": SensorColumn("ecg", registry.modalities.build("signal"), "ecg"),
}
LABELS = ["valence", "arousal", "dominance", "valence_high", "age", "gender"]


@pytest.fixture(scope="session")
def tree(tree_tool, tmp_path_factory):
    """DREAMER as the tool of this project's public trees writes it: two people, short clips."""
    folder = tmp_path_factory.mktemp("public")
    tree_tool.dreamer(str(folder), [1, 2], 0.05)
    return folder


def cell(values):
    found = np.empty((len(values), 1), object)
    found[:, 0] = values
    return found


def write(folder, *, people=2, clips=3, seconds=(4, 6, 5), baseline=2, change=lambda top: None):
    """A small DREAMER.mat: everyone has other ratings and samples."""
    generator = np.random.default_rng(0)
    data = np.empty((1, people), object)
    for person in range(people):
        scores = {
            f"Score{name}": generator.integers(1, 6, (clips, 1)).astype(np.uint8)
            for name in ("Valence", "Arousal", "Dominance")
        }
        scores["ScoreValence"][:2, 0] = (3, 4)[:clips]
        signals = {
            name: {
                part: cell([offset + 50 * generator.standard_normal((rate * n, channels)) for n in lengths])
                for part, lengths in (("baseline", [baseline] * clips), ("stimuli", seconds[:clips]))
            }
            for name, rate, channels, offset in (("EEG", 128, 14, 4000), ("ECG", 256, 2, 2000))
        }
        data[0, person] = {"Age": str(22 + person), "Gender": ("male", "female")[person % 2], **signals, **scores}
    electrodes = np.empty((1, 14), object)
    electrodes[0, :] = ELECTRODES
    top = {"Data": data, "EEG_SamplingRate": 128, "ECG_SamplingRate": 256, "EEG_Electrodes": electrodes}
    change(top)
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "DREAMER.mat", {"DREAMER": top}, do_compression=True)
    return folder / "DREAMER.mat"


def stored(study, sensor, row):
    known = study.sensors[sensor]
    first = int(known.offset[row])
    return np.asarray(known.values[first : first + int(known.count[row])])


def close(found, expected):
    """Equal to float32's precision; and no value is off by an electrode or a sample, since all of them differ."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def check(path, tmp_path, *, seconds=60.0):
    """Every record of both sensors holds what the file does by an independent reading of it."""
    top = scipy.io.loadmat(path)["DREAMER"][0, 0]
    study = ingest(Dreamer(path=path, seconds=seconds), SENSORS, LABELS, tmp_path / "dreamer.h5")
    records, row = study.records, 0
    for number, person in enumerate(top["Data"][0], start=1):
        person = person[0, 0]
        for clip in range(len(person["ScoreValence"])):
            assert records.id[row] == f"{number}_1_{clip + 1}"
            assert (records.subject[row], records.session[row]) == (str(number), "1")
            assert records.trial[row] == records.recording[row] == str(clip + 1)
            for name in ("valence", "arousal", "dominance"):
                assert float(records.labels[name][row]) == person[f"Score{name.capitalize()}"][clip, 0]
            assert records.labels["valence_high"][row] == ("high" if person["ScoreValence"][clip, 0] > 3 else "low")
            assert records.labels["age"][row] == person["Age"][0]
            assert records.labels["gender"][row] == person["Gender"][0]
            for name, rate, factor in (("eeg", 128, 1e-6), ("ecg", 256, 1.0)):
                values = person[name.upper()][0, 0]["stimuli"][clip, 0]
                last = len(values) if seconds is None else int(seconds * rate)
                close(stored(study, name, row), values[-last:] * factor)
            row += 1
    assert row == len(records)
    return study


def test_the_public_tree_comes_back(tree, tmp_path):
    study = check(tree / "DREAMER" / "DREAMER.mat", tmp_path)
    assert len(study.records) == 2 * 18
    assert set(study.records.subject) == {"1", "2"}


@pytest.mark.parametrize("seconds", [60.0, 3.0, None])
def test_values_labels_and_names_are_the_file_s(tmp_path, seconds):
    study = check(write(tmp_path), tmp_path, seconds=seconds)
    eeg, ecg = study.sensors["eeg"].stored, study.sensors["ecg"].stored
    assert (eeg.channels, eeg.sample_rate, eeg.unit) == (ELECTRODES, 128.0, "V")
    assert (ecg.channels, ecg.sample_rate, ecg.unit) == (("ECG1", "ECG2"), 256.0, "")
    assert study.records.labels["valence_high"][:2] == ("low", "high")  # rated 3 and 4


@pytest.mark.parametrize(("people", "clips"), [(1, 2), (2, 1), (1, 1)])
def test_one_person_or_one_clip_is_read_too(tmp_path, people, clips):
    study = check(write(tmp_path, people=people, clips=clips), tmp_path)
    assert len(study.records) == people * clips


def test_electrodes_and_rates_are_the_file_s(tmp_path):
    def change(top):
        top["EEG_Electrodes"][0, :2] = "F7", "AF3"
        top["EEG_SamplingRate"] = 64

    source = Dreamer(path=write(tmp_path, change=change), seconds=2.0)
    recording = source.cell(0, SENSORS["eeg"]).load(SENSORS["eeg"].modality)
    assert recording.channels[:3] == ("F7", "AF3", "F3")
    assert (recording.sample_rate, recording.values.shape) == (64.0, (128, 14))


def test_baselines_are_recordings_of_their_own_without_ratings(tmp_path):
    path = write(tmp_path)
    study = ingest(Dreamer(path=path, baseline="keep"), SENSORS, LABELS, tmp_path / "dreamer.h5")
    records = study.records
    assert records.id[:4] == ("1_1_1_baseline", "1_1_1", "1_1_2_baseline", "1_1_2")
    assert records.trial[:2] == ("1", "1")
    assert records.recording[:2] == ("1_baseline", "1")
    assert records.labels["valence"][0] is records.labels["valence_high"][0] is None
    assert records.labels["age"][0] == "22"
    person = scipy.io.loadmat(path)["DREAMER"][0, 0]["Data"][0, 0][0, 0]
    for clip in range(3):
        close(stored(study, "eeg", 2 * clip), person["EEG"][0, 0]["baseline"][clip, 0] * 1e-6)
        close(stored(study, "ecg", 2 * clip), person["ECG"][0, 0]["baseline"][clip, 0])


def test_windows_refer_into_the_trial(tmp_path):
    path = write(tmp_path)
    study = ingest(Dreamer(path=path, seconds=None, window=2.0, step=1.0), SENSORS, [], tmp_path / "dreamer.h5")
    assert study.records.id[:4] == ("1_1_1_1", "1_1_1_2", "1_1_1_3", "1_1_2_1")
    assert len(study.records) == 2 * (3 + 5 + 4)
    assert len(study.sensors["eeg"].recording_name) == 6
    eeg = scipy.io.loadmat(path)["DREAMER"][0, 0]["Data"][0, 0][0, 0]["EEG"][0, 0]["stimuli"][0, 0]
    for row, start in enumerate((0, 1, 2)):
        close(stored(study, "eeg", row), eeg[start * 128 : (start + 2) * 128] * 1e-6)
        assert stored(study, "ecg", row).shape == (512, 2)


def test_what_it_says_of_its_sensors_reads_them(tmp_path):
    write(tmp_path)
    (facts,) = inspect_sources(tmp_path)
    (reading,) = facts.readings
    assert (facts.kind, facts.problems) == ("dreamer", ())
    assert (reading.records, reading.subjects, reading.trials) == (6, ("1", "2"), 6)
    assert {sensor.name: sensor.first.item[0] for sensor in reading.sensors} == {"eeg": 14, "ecg": 2}


def test_it_is_found_from_any_folder_above_and_known_by_its_header(tmp_path):
    path = write(tmp_path / "a" / "DREAMER")
    for place in (tmp_path, tmp_path / "a", tmp_path / "a" / "DREAMER", path):
        assert Dreamer.recognises(place)
        assert Dreamer(path=place).file == path
    other = tmp_path / "b" / "DREAMER.mat"
    other.parent.mkdir()
    other.write_bytes(b"anything at all")
    assert not Dreamer.recognises(other)
    assert not Dreamer.recognises(tmp_path / "nowhere")
    assert not Dreamer.recognises(Path(__file__))


def test_cells_travel_to_other_processes_and_one_is_held_at_a_time(tmp_path):
    path = write(tmp_path, clips=6, seconds=(30,) * 6)
    source = Dreamer(path=path, seconds=None)
    found = source.cell(7, SENSORS["eeg"])
    assert found.from_file and len(pickle.dumps(found)) < 2000
    expected = scipy.io.loadmat(path)["DREAMER"][0, 0]["Data"][0, 1][0, 0]["EEG"][0, 0]["stimuli"][1, 0]
    close(pickle.loads(pickle.dumps(found)).load(SENSORS["eeg"].modality).values, expected * 1e-6)
    tracemalloc.start()
    for row in range(12):
        Dreamer(path=path).cell(row, SENSORS["eeg"]).load(SENSORS["eeg"].modality)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * expected.nbytes  # of twelve, and as many of ECG


def test_raw_samples_are_told_of_the_offset(tmp_path):
    source = Dreamer(path=write(tmp_path))
    raw = SensorColumn("eeg", registry.modalities.build("eeg", {"features": {"kind": "raw"}}), "eeg")
    assert "offset of thousands of microvolts" in source.notes({"eeg": raw})[0]
    assert source.notes(SENSORS) == []


def test_a_changed_file_or_option_is_another_study(tmp_path):
    path = write(tmp_path)
    before = Dreamer(path=path).fingerprint()
    assert Dreamer(path=path, seconds=30).fingerprint() != before
    write(tmp_path, seconds=(5, 5, 5))
    assert Dreamer(path=path).fingerprint() != before
    assert len(Dreamer(path=path).cell(0, SENSORS["eeg"]).load(SENSORS["eeg"].modality).values) == 5 * 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda top: top.pop("Data"), "there must be a field Data"),
        (lambda top: top["Data"][0, 1].pop("ScoreArousal"), "there must be a field Data{2}.ScoreArousal"),
        (lambda top: top["Data"][0, 0]["EEG"].pop("stimuli"), "there must be a field Data{1}.EEG.stimuli"),
        (
            lambda top: top["Data"][0, 0]["ECG"].update(stimuli=cell([np.ones((9, 3))] * 3)),
            "Data{1}.ECG.stimuli must hold numbers (time, 2), but has float64 of shape (9, 3)",
        ),
        (
            lambda top: top["Data"][0, 1].update(ScoreArousal=np.ones((2, 1))),
            "Data{2}.ScoreArousal must be ratings of 3 clips, but is float64 of shape (2, 1)",
        ),
        (lambda top: top.update(EEG_Electrodes="F7"), "EEG_Electrodes must be a cell of names, but is text"),
        (lambda top: top.update(ECG_SamplingRate=0), "ECG_SamplingRate must be a number above 0, but is int64 of"),
        (
            lambda top: top["Data"][0, 0]["EEG"].update(stimuli=cell([np.ones((9, 14))] * 2)),
            "Data{1}.EEG.stimuli must have a cell for each of 3 ratings, but has 2",
        ),
    ],
)
def test_a_damaged_file_is_told_in_a_line(tmp_path, change, message):
    path = write(tmp_path, change=change)
    with pytest.raises(DataError) as raised:
        Dreamer(path=path).rows()
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there must be a file DREAMER\.mat here or below"):
        Dreamer(path=tmp_path).rows()
    path = write(tmp_path)
    with pytest.raises(DataError, match="a trial must be as long as window, 30 s, but none is"):
        Dreamer(path=path, window=30).rows()
    with pytest.raises(ConfigError, match="step is from window to window"):
        Dreamer(path=path, step=1)
    with pytest.raises(DataError, match="'age' is a label"):
        Dreamer(path=path).cell(0, SensorColumn("x", SENSORS["ecg"].modality, "age"))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="truncated"):
        Dreamer(path=path).rows()


@pytest.mark.slow
def test_the_recipe_trains_on_it(tmp_path):
    path = write(tmp_path, people=3, clips=12, seconds=(4,) * 12)
    assert main(["train", "dreamer", f"data.path={path}", "train.epochs=1", f"run.dir={tmp_path / 'runs'}"]) == 0
    (run,) = (tmp_path / "runs" / "dreamer").iterdir()
    assert (run / "report.html").is_file() and (run / "model.fusion").is_file()
    assert set(json.loads((run / "metrics.json").read_text())["tasks"]) == {"valence_high", "arousal_high"}
