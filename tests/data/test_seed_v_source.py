"""The SEED-V source: the order of the 310 columns by the data or by the recipe, trials by their keys."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import modalities
from fusionkit.data.ingest import ingest
from fusionkit.data.sources.seed_family import CHANNELS, EYE
from fusionkit.data.sources.seed_v import EMOTIONS, LABELS, SeedV, guess_layout, unfold
from fusionkit.data.sources.source import SensorColumn

SENSORS = {
    "eeg": SensorColumn("eeg", modalities.build("eeg", {"features": {"kind": "ready"}}), "eeg"),
    "eye": SensorColumn("eye", modalities.build("signal", {"features": {"kind": "raw"}}), "eye"),
}


class Harm:
    """A pickle that leaves a file behind."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


def make(seed=0, bands=(22, 19.5, 17, 14.5, 12), windows=lambda trial: 2 + trial % 3):
    """Trials as ``(window, channel, band)``, their labels, and eye movement."""
    generator = np.random.default_rng(seed)
    trials = range(45)
    de = {k: np.array(bands) + generator.standard_normal((windows(k), 62, 5)) for k in trials}
    label = {k: np.full(windows(k), float(LABELS[k // 15][k % 15])) for k in trials}
    eye = {k: generator.standard_normal((windows(k), 33)) for k in trials}
    return de, label, eye


def write(folder, made, person="1", layout="channel_major", eye=True):
    de, label, looks = made
    order = (0, 1, 2) if layout == "channel_major" else (0, 2, 1)
    data = {k: rows.transpose(order).reshape(len(rows), 310).copy() for k, rows in de.items()}
    for place, content in (("EEG_DE_features", data), ("Eye_movement_features", looks)):
        if eye or place == "EEG_DE_features":
            (folder / place).mkdir(parents=True, exist_ok=True)
            path = folder / place / f"{person}_123.npz"
            np.savez(path, data=pickle.dumps(content), label=pickle.dumps(label))
    return made


def test_the_table_is_the_published_one(tree_tool):
    assert [list(labels) for labels in LABELS] == tree_tool.V_LABEL


def test_every_session_shows_every_emotion_three_times():
    assert all(Counter(labels) == dict.fromkeys(EMOTIONS, 3) for labels in LABELS)
    assert len(EYE) == len(set(EYE)) == 33


def test_the_tree_is_read_as_it_was_written(seed_trees):
    source = SeedV(path=seed_trees, window="trial")
    rows = source.rows()
    assert Counter((row.subject, row.session) for row in rows) == {(s, t): 15 for s in "12" for t in "123"}
    assert Counter(row.labels["emotion"] for row in rows) == dict.fromkeys(EMOTIONS.values(), 18)
    for index, row in enumerate(rows):
        key = (int(row.session) - 1) * 15 + int(row.trial) - 1
        files = {
            name: pickle.loads(np.load(seed_trees / "SEED-V" / place / f"{row.subject}_123.npz")["data"])
            for name, place in (("eeg", "EEG_DE_features"), ("eye", "Eye_movement_features"))
        }
        eeg, eye = (source.cell(index, SENSORS[name]) for name in ("eeg", "eye"))
        written = files["eeg"][key]
        assert eeg.values().shape == (62, 5, len(written))
        for channel, band in ((0, 0), (0, 4), (17, 2), (61, 4)):
            np.testing.assert_array_equal(eeg.values()[channel, band], written[:, 5 * channel + band])
        np.testing.assert_array_equal(eye.values(), files["eye"][key].T)
        assert (eeg.rate, eeg.channels, eye.rate, eye.channels) == (0.25, CHANNELS, 0.25, EYE)
    assert any("found to be channel_major" in note for note in source.notes(SENSORS))


@pytest.mark.parametrize("asked", ["auto", "right"])
@pytest.mark.parametrize("layout", ["channel_major", "band_major"])
def test_either_layout_gives_the_same_records(tmp_path, layout, asked):
    de, _, eye = write(tmp_path, make(), layout=layout)
    source = SeedV(path=tmp_path, layout="auto" if asked == "auto" else layout)
    study = ingest(source, SENSORS, ["label"], tmp_path / "s.h5")
    row = 0
    for key in range(45):
        for window in range(len(de[key])):
            assert study.records.id[row] == f"1_{key // 15 + 1}_{key % 15 + 1}_{window + 1}"
            assert study.records.labels["label"][row] == str(LABELS[key // 15][key % 15])
            np.testing.assert_array_equal(study.sensors["eeg"].slice(row), de[key][window][None].astype(np.float32))
            np.testing.assert_array_equal(study.sensors["eye"].slice(row), eye[key][window][None].astype(np.float32))
            row += 1
    assert row == len(study.records)
    notes = source.notes(SENSORS)
    assert "looks ahead" in notes[0]
    assert len(notes) == (2 if asked == "auto" else 1)
    assert asked != "auto" or f"found to be {layout} by their band means" in notes[1]


@given(
    st.integers(0, 2**16),
    st.lists(st.floats(0.5, 10), min_size=4, max_size=4),
    st.floats(0.0, 1.0),
    st.sampled_from(["channel_major", "band_major"]),
)
def test_falling_bands_tell_the_layout(seed, falls, spread, layout):
    """Whatever the drops between bands are, and electrodes differing by up to a third of the whole drop."""
    bands = 30 - np.cumsum([0, *falls])
    generator = np.random.default_rng(seed)
    electrodes = spread * (bands[0] - bands[-1]) / 3 * generator.uniform(-1, 1, (62, 1))
    means = bands + electrodes
    columns = (means if layout == "channel_major" else means.T).reshape(310)
    assert guess_layout(columns) == layout
    np.testing.assert_allclose(unfold(columns[None], layout)[0], means)


@pytest.mark.parametrize("bands", [(5, 5, 5, 5, 5), (12, 14.5, 17, 19.5, 22)])
def test_data_that_do_not_tell_the_layout_are_noted(tmp_path, bands):
    """Equal bands say nothing, and rising ones are no differential entropy."""
    de, _, _ = write(tmp_path, make(bands=bands), layout="channel_major")
    source = SeedV(path=tmp_path)
    np.testing.assert_array_equal(source.cell(0, SENSORS["eeg"]).values(), de[0].transpose(1, 2, 0))
    assert "taken to be channel_major: the data do not tell; set layout to decide" in source.notes({})[0]


def test_a_layout_at_odds_with_the_data_is_noted_and_kept(tmp_path):
    de, _, _ = write(tmp_path, make())
    source = SeedV(path=tmp_path, layout="band_major")
    wrong = de[0].reshape(-1, 5, 62).transpose(2, 1, 0)
    np.testing.assert_array_equal(source.cell(0, SENSORS["eeg"]).values(), wrong)
    assert "layout is band_major, but the band means say channel_major" in source.notes({})[0]
    assert source.fingerprint() == SeedV(path=tmp_path, layout="band_major").fingerprint()
    stamps = {SeedV(path=tmp_path, layout=x).cell(0, SENSORS["eeg"]).stamp() for x in ("auto", "band_major")}
    assert len(stamps) == 2


def test_labels_are_the_file_s(tmp_path):
    de, label, eye = make()
    label[44] = np.full(len(label[44]), 3.0)
    write(tmp_path, (de, label, eye))
    source = SeedV(path=tmp_path)
    assert source.rows()[-1].labels["emotion"] == "neutral"
    assert any("the labels of trials 44 (of 0 to 44) are not the published ones" in note for note in source.notes({}))


def test_a_person_without_eye_movement_lacks_the_sensor(tmp_path):
    write(tmp_path, make(0), "1", eye=False)
    write(tmp_path, make(1), "2")
    study = ingest(SeedV(path=tmp_path), SENSORS, ["emotion"], tmp_path / "s.h5")
    np.testing.assert_array_equal(study.sensors["eye"].present, np.array(study.records.subject) == "2")


def test_longer_records_are_several_steps(tmp_path):
    write(tmp_path, make(windows=lambda trial: 6))
    source = SeedV(path=tmp_path, window=20.0, sessions=[3])
    assert [row.id for row in source.rows()][:2] == ["1_3_1_1", "1_3_2_1"]
    cell = source.cell(0, SENSORS["eeg"])
    assert (cell.start, cell.stop) == (0.0, 20.0)
    with pytest.raises(ConfigError, match="window must be a multiple of the features' 4 s, but is 10 s"):
        SeedV(path=tmp_path, window=10.0).rows()


def test_raw_recordings_alone_are_refused_by_name(tmp_path):
    (tmp_path / "EEG_raw").mkdir()
    with pytest.raises(
        DataError, match="there must be a folder EEG_DE_features; the raw recordings in EEG_raw are not"
    ):
        SeedV(path=tmp_path).rows()


def test_damage_is_named(tmp_path):
    de, label, _ = make()
    data = {key: rows.reshape(len(rows), 310) for key, rows in de.items()}
    folder = tmp_path / "EEG_DE_features"
    folder.mkdir()
    path = folder / "1_123.npz"
    lacking = {key: data[key] for key in range(44)}
    mixed = {**label, 3: np.array([0.0, 1.0])}
    cases = [
        ({"data": pickle.dumps(lacking), "label": pickle.dumps(label)}, r"trials 0 to 44, but is 44 keys"),
        ({"data": pickle.dumps({**data, 7: de[7]}), "label": pickle.dumps(label)}, "trial 7 must be an array of numbers"),
        ({"data": pickle.dumps({**data, 7: data[7][:, :62]}), "label": pickle.dumps(label)}, r"trial 7 must be \(windows, 310"),
        ({"data": pickle.dumps(data), "label": pickle.dumps(mixed)}, "label of trial 3: must be one of"),
        ({"data": pickle.dumps(data)}, "there must be an array 'label', but there is none"),
        ({"data": pickle.dumps(data)[:-50], "label": pickle.dumps(label)}, "array data: must be a whole pickle"),
        ({"data": np.ones(3), "label": pickle.dumps(label)}, "array data must be the bytes of a pickle, but is float64"),
        ({"data": pickle.dumps(Harm(tmp_path / "harm")), "label": pickle.dumps(label)}, "it asks for io.open|builtins.open"),
        ({"data": np.array(data, dtype=object), "label": pickle.dumps(label)}, "array data: cannot be read: Object arrays"),
    ]  # fmt: skip
    for content, message in cases:
        np.savez(path, **content)
        with pytest.raises(DataError, match=message) as caught:
            SeedV(path=tmp_path).rows()
        assert "1_123.npz" in str(caught.value)
    assert not (tmp_path / "harm").exists()
    np.savez(path, data=pickle.dumps(data), label=pickle.dumps(label))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"1_123\.npz: array data: cannot be read: File is not a zip file"):
        SeedV(path=tmp_path).rows()
    path.rename(folder / "1.npz")
    with pytest.raises(DataError, match=r"must look like 1_123\.npz, but is 1\.npz"):
        SeedV(path=tmp_path).rows()


def test_it_is_recognised_by_its_folder(tmp_path):
    assert not SeedV.recognises(tmp_path)
    write(tmp_path / "SEED-V", make())
    assert SeedV.recognises(tmp_path)
