"""The SEED source: trials by number, sessions by date, labels of the folder, windows that refer into trials."""

from collections import Counter

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import modalities, sources
from fusionkit.data.ingest import ingest
from fusionkit.data.sources.seed import EMOTIONS, LABELS, ROWS, Seed
from fusionkit.data.sources.seed_family import CHANNELS, FRONT_BACK, LEFT_RIGHT
from fusionkit.data.sources.source import SensorColumn
from fusionkit.modalities.eeg.asymmetry import find_pairs

READY = {"features": {"kind": "ready"}}
KINDS = {"de": 62, "psd": 62, "dasm": 27, "rasm": 27, "asm": 54, "dcau": 23}


def eeg(**options):
    return SensorColumn("eeg", modalities.build("eeg", options), "eeg")


def raw_trials(seed, samples=lambda trial: 40 + trial):
    generator = np.random.default_rng(seed)
    return {trial: generator.standard_normal((62, samples(trial))) for trial in range(1, 16)}


def write_raw(folder, files, labels=LABELS, keys=lambda trial: f"djc_eeg{trial}", order=range(1, 16), **options):
    """A folder Preprocessed_EEG; gives what is in every file."""
    below = folder / "Preprocessed_EEG"
    below.mkdir(parents=True, exist_ok=True)
    held = {}
    for number, name in enumerate(files):
        held[name] = raw_trials(number, **options)
        scipy.io.savemat(below / f"{name}.mat", {keys(trial): held[name][trial] for trial in order})
    if labels is not None:
        scipy.io.savemat(below / "label.mat", {"label": np.array([labels], np.int16)})
    return held


def write_features(folder, files, release="ExtractedFeatures", windows=lambda trial: 3 + trial % 4):
    below = folder / release
    below.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(below / "label.mat", {"label": np.array([LABELS], np.int16)})
    generator, held = np.random.default_rng(0), {}
    for name in files:
        held[name] = {
            f"{kind}_{smoothing}{trial}": generator.standard_normal((rows, windows(trial), 5))
            for trial in range(1, 16)
            for kind, rows in KINDS.items()
            for smoothing in ("movingAve", "LDS")
        }
        scipy.io.savemat(below / f"{name}.mat", held[name])
    return held


def values(source, row, column="eeg"):
    return source.cell(row, SensorColumn(column, None, column)).values()


def test_the_tables_are_the_published_ones(tree_tool):
    assert list(LABELS) == tree_tool.SEED_LABEL
    assert len(CHANNELS) == len(set(CHANNELS)) == 62
    assert {kind: len(names) for kind, names in ROWS.items()} == KINDS
    assert all(len(set(names)) == len(names) for names in ROWS.values())


def test_pairs_join_electrodes_across_the_midline_and_along_it():
    assert Counter(LABELS) == {-1: 5, 0: 5, 1: 5}
    off_midline = {name for name in CHANNELS if not name.endswith("Z")}
    assert {name for pair in LEFT_RIGHT for name in pair} == off_midline
    assert all(left.rstrip("12345678") == right.rstrip("12345678") for left, right in LEFT_RIGHT)
    assert LEFT_RIGHT[0] == ("FP1", "FP2")
    assert {name for pair in FRONT_BACK for name in pair} < set(CHANNELS)
    for kind, pairs in (("dasm", LEFT_RIGHT), ("dcau", FRONT_BACK)):  # as the front end of EEG pairs them
        assert tuple((CHANNELS[one], CHANNELS[two]) for one, two in find_pairs(kind, CHANNELS)) == pairs
    assert ROWS["asm"] == ROWS["dasm"] + ROWS["rasm"]
    assert ROWS["dasm"][0] == "FP1-FP2"


def test_the_raw_tree_is_read_as_it_was_written(seed_trees):
    source = Seed(path=seed_trees)
    rows = source.rows()
    assert {row.subject for row in rows} == {"1", "2"}
    assert Counter((row.subject, row.session) for row in rows) == {(s, t): 15 for s in "12" for t in "123"}
    assert Counter(row.labels["emotion"] for row in rows) == {"negative": 30, "neutral": 30, "positive": 30}
    assert source.notes({"eeg": eeg()}) == []
    for index, row in enumerate(rows):
        if index % 7 == 0:  # every trial at least once
            date = ["20131027", "20131030", "20131107"][int(row.session) - 1]
            path = seed_trees / "SEED_EEG" / "Preprocessed_EEG" / f"{row.subject}_{date}.mat"
            name = f"djc_eeg{row.trial}"
            written = scipy.io.loadmat(path, variable_names=[name])[name]
            assert written.shape[1] % 200 == 1
            np.testing.assert_allclose(values(source, index), written * 1e-6, rtol=1e-12)
        cell = source.cell(index, eeg())
        assert (cell.rate, cell.channels, cell.start, cell.stop) == (200.0, CHANNELS, None, None)
        assert row.labels["label"] == str(LABELS[int(row.trial) - 1])
        assert row.id == f"{row.subject}_{row.session}_{row.trial}"
        assert row.recording == row.trial


@pytest.mark.parametrize("smoothing", ["movingAve", "LDS"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_of_the_tree_are_read_as_they_were_written(seed_trees, kind, smoothing):
    source = Seed(path=seed_trees, features=kind, smoothing=smoothing, window="trial", subjects=["2"])
    rows = source.rows()
    assert len(rows) == 45
    for index, row in enumerate(rows[:15]):
        written = scipy.io.loadmat(seed_trees / "SEED_EEG/ExtractedFeatures_1s/2_20131027.mat")
        expected = written[f"{kind}_{smoothing}{row.trial}"]
        cell = source.cell(index, eeg(**READY))
        assert cell.values().shape == (KINDS[kind], 5, expected.shape[1])
        np.testing.assert_array_equal(cell.values()[:, 3], expected[:, :, 3])
        assert (cell.rate, cell.channels) == (1.0, ROWS[kind])
        if index % 5 == 4:
            break


def test_trials_are_found_by_number_and_sessions_by_date(tmp_path):
    """Files as in the older download, variables in reverse order: eeg10 is the tenth and not the second."""
    files = ["wyw_20140103", "dujingcheng_20131107", "dujingcheng_20131027", "2_20131030", "10_20131030"]
    held = write_raw(tmp_path, files, keys=lambda trial: f"wyw_eeg{trial}", order=range(15, 0, -1))
    source = Seed(path=tmp_path / "Preprocessed_EEG")
    rows = source.rows()
    order = [(row.subject, row.session) for row in rows[::15]]
    assert order == [("2", "1"), ("10", "1"), ("dujingcheng", "1"), ("dujingcheng", "2"), ("wyw", "1")]
    assert [row.trial for row in rows[:15]] == [str(trial) for trial in range(1, 16)]
    for first, name in zip(range(0, 75, 15), [files[3], files[4], files[2], files[1], files[0]], strict=True):
        for trial in (1, 2, 10, 15):
            np.testing.assert_allclose(values(source, first + trial - 1), held[name][trial] * 1e-6)


@pytest.mark.parametrize("below", ["", "a", "a/SEED_EEG"])
def test_the_path_may_be_any_folder_above(tmp_path, below):
    write_raw(tmp_path / below, ["1_20131027"])
    assert Seed.recognises(tmp_path)
    assert len(Seed(path=tmp_path).rows()) == 15
    assert len(Seed(path=tmp_path / below / "Preprocessed_EEG").rows()) == 15


def test_labels_are_the_folder_s(tmp_path):
    other = tuple(-label for label in LABELS)
    write_raw(tmp_path / "other", ["1_20131027"], labels=other)
    source = Seed(path=tmp_path / "other")
    assert [row.labels["label"] for row in source.rows()] == [str(label) for label in other]
    (note,) = source.notes({})
    assert "label.mat: the labels of trials 1, 3, 4, 6, 7, 9, 10, 12, 14, 15 are not the published ones" in note
    write_raw(tmp_path / "none", ["1_20131027"], labels=None)
    source = Seed(path=tmp_path / "none")
    assert [row.labels["emotion"] for row in source.rows()] == [EMOTIONS[label] for label in LABELS]
    assert "there is no label.mat; the published labels are taken" in source.notes({})[0]


@pytest.mark.parametrize("labels", [LABELS[:14], (2, *LABELS[1:])])
def test_labels_that_cannot_be_are_refused(tmp_path, labels):
    write_raw(tmp_path, ["1_20131027"], labels=labels)
    with pytest.raises(DataError, match=r"label\.mat: label must be 15 numbers of \[-1, 0, 1\], but is"):
        Seed(path=tmp_path).rows()


def test_records_are_windows_of_a_stored_trial(tmp_path):
    held = write_features(tmp_path, ["1_20131027", "1_20131030"])
    sensor = eeg(**READY)
    for options, width, step in (({}, 1, 1), ({"window": 3}, 3, 3), ({"window": 2, "step": 1}, 2, 1)):
        source = Seed(path=tmp_path, features="dasm", smoothing="movingAve", **options)
        study = ingest(source, {"eeg": sensor}, ["emotion", "label"], tmp_path / f"{width}{step}.h5")
        assert study.sensors["eeg"].stored.channels == ROWS["dasm"]
        assert len(study.sensors["eeg"].recording_name) == 30  # stored once a trial, whatever the windows
        row = 0
        for session, name in ((1, "1_20131027"), (2, "1_20131030")):
            for trial in range(1, 16):
                whole = held[name][f"dasm_movingAve{trial}"].transpose(1, 0, 2).astype(np.float32)
                for number, start in enumerate(range(0, len(whole) - width + 1, step), start=1):
                    assert study.records.id[row] == f"1_{session}_{trial}_{number}"
                    assert study.records.trial[row] == study.records.recording[row] == str(trial)
                    assert study.records.labels["label"][row] == str(LABELS[trial - 1])
                    np.testing.assert_array_equal(study.sensors["eeg"].slice(row), whole[start : start + width])
                    row += 1
        assert row == len(study.records)


def test_raw_windows_leave_out_what_is_over(tmp_path):
    """A trial of 2 s and one sample more has two windows of 1 s."""
    held = write_raw(tmp_path, ["1_20131027"], samples=lambda trial: 401)
    source = Seed(path=tmp_path, window=1.0)
    study = ingest(source, {"eeg": eeg()}, ["emotion"], tmp_path / "s.h5")
    assert len(study.records) == 30
    np.testing.assert_allclose(
        study.sensors["eeg"].slice(3), held["1_20131027"][2][:, 200:400].T * 1e-6, rtol=1e-6, atol=1e-12
    )
    assert study.sensors["eeg"].stored.unit == "V"


def test_a_release_is_chosen_where_there_are_two(tmp_path):
    write_features(tmp_path, ["1_20131027"], "ExtractedFeatures_1s")
    held = write_features(tmp_path, ["1_20131027"], "ExtractedFeatures_4s", windows=lambda trial: 7)["1_20131027"]
    with pytest.raises(DataError, match="there are features of 1 s and of 4 s; set release"):
        Seed(path=tmp_path, features="de").rows()
    source = Seed(path=tmp_path, features="de", release="4s", window=8.0)
    cell = source.cell(1, eeg(**READY))
    assert (cell.rate, cell.start, cell.stop) == (0.25, 8.0, 16.0)
    assert len(source.rows()) == 45
    np.testing.assert_array_equal(cell.values(), held["de_LDS1"].transpose(0, 2, 1))
    for options in ({"window": 6.0}, {"window": 8.0, "step": 2.0}, {"window": 1.0}):
        with pytest.raises(ConfigError, match="must be a multiple of the features' 4 s, but is"):
            Seed(path=tmp_path, features="de", release="4s", **options).rows()


@pytest.mark.parametrize("options", [{"smoothing": "LDS"}, {"release": "1s"}])
def test_options_of_features_are_refused_for_raw_samples(tmp_path, options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is for ready-made features, but features is raw"):
        Seed(path=tmp_path, **options)


def test_a_step_needs_a_window(tmp_path):
    with pytest.raises(ConfigError, match="window is trial"):
        Seed(path=tmp_path, window="trial", step=1.0)
    with pytest.raises(ConfigError, match="no window"):
        Seed(path=tmp_path, step=1.0).cutting  # noqa: B018


def test_sessions_and_subjects_are_chosen_by_name(tmp_path):
    write_raw(tmp_path, ["1_20131027", "1_20131030", "2_20131027", "2_20131030"])
    rows = Seed(path=tmp_path, sessions=[2], subjects=[2]).rows()
    assert {(row.subject, row.session) for row in rows} == {("2", "2")}
    with pytest.raises(DataError, match=r"sessions: there is none named '3'.*known: \['1', '2'\]"):
        Seed(path=tmp_path, sessions=[3]).rows()
    with pytest.raises(DataError, match="subjects: there is none named 'x'"):
        Seed(path=tmp_path, subjects=["x"]).rows()


def test_smoothing_is_told_of_only_where_it_is(tmp_path):
    write_raw(tmp_path, ["1_20131027"])
    write_features(tmp_path, ["1_20131027"])
    assert Seed(path=tmp_path).notes({"eeg": eeg()}) == []
    (note,) = Seed(path=tmp_path, features="de").notes({"eeg": eeg(**READY)})
    assert "looks ahead and crosses windows: records of one trial may never straddle a split" in note


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"1_20131027\.mat: must have .* it is truncated"),
        (lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512)), r"1_20131027\.mat: .* version 7\.3"),
        (
            lambda path: path.rename(path.parent / "1-20131027.mat"),
            r"must look like 1_20131027\.mat, but is 1-20131027",
        ),
        (lambda path: path.unlink(), r"there must be files like 1_20131027\.mat, but there are none"),
        (
            lambda path: scipy.io.savemat(path, {f"a_eeg{trial}": np.ones((62, 9)) for trial in range(1, 15)}),
            r"1_20131027\.mat: must have the trials 1 to 15, but lacks 15",
        ),
        (
            lambda path: scipy.io.savemat(path, {f"a_eeg{trial}": np.ones((62, 9)) for trial in range(16)}),
            r"1_20131027\.mat: must have the trials 1 to 15, but has also 0",
        ),
        (
            lambda path: scipy.io.savemat(path, {f"{a}_eeg1": np.ones((62, 9)) for a in "ab"}),
            "a trial must have one variable, but trial 1 has a_eeg1 and b_eeg1",
        ),
        (
            lambda path: scipy.io.savemat(path, {f"a_eeg{trial}": np.ones((9, 62)) for trial in range(1, 16)}),
            r"variable a_eeg1: must be \(62, time\), but is \(9, 62\)",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, message):
    write_raw(tmp_path, ["1_20131027"])
    damage(tmp_path / "Preprocessed_EEG" / "1_20131027.mat")
    with pytest.raises(DataError, match=message):
        Seed(path=tmp_path).rows()


def test_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        Seed(path=tmp_path / "gone").rows()
    with pytest.raises(DataError, match="there must be a folder Preprocessed_EEG here or below, but there is none"):
        Seed(path=tmp_path).rows()
    write_raw(tmp_path / "a", ["1_20131027"])
    with pytest.raises(DataError, match="must be a folder ExtractedFeatures_4s here or below"):
        Seed(path=tmp_path, features="de", release="4s").rows()
    write_raw(tmp_path / "b", ["1_20131027"])
    with pytest.raises(DataError, match="there must be one folder Preprocessed_EEG, but there are"):
        Seed(path=tmp_path).rows()
    assert not Seed.recognises(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert not Seed.recognises(tmp_path / "empty")


def test_a_window_that_no_trial_holds_is_refused(tmp_path):
    write_features(tmp_path, ["1_20131027"], windows=lambda trial: 10 if trial != 4 else 5)
    with pytest.raises(DataError, match=r"de_LDS4: window must fit into every trial, but is 6 s, and trial 4 has 5 s"):
        Seed(path=tmp_path, features="de", window=6.0).rows()


def test_a_column_that_is_no_sensor_is_refused(tmp_path):
    write_raw(tmp_path, ["1_20131027"])
    source = Seed(path=tmp_path)
    assert source.columns() == ["id", "subject", "session", "trial", "emotion", "label", "eeg"]
    with pytest.raises(DataError, match="seed record 1_1_1, column eye: a sensor must be eeg or eye, but 'eye' is not"):
        source.cell(0, SensorColumn("eye", None, "eye"))


def test_the_fingerprint_follows_options_and_labels(tmp_path):
    write_raw(tmp_path, ["1_20131027"])
    write_features(tmp_path, ["1_20131027"])
    sources_ = [Seed(path=tmp_path), Seed(path=tmp_path, features="de"), Seed(path=tmp_path, features="de", window=2.0)]
    prints = [source.fingerprint() for source in sources_]
    stamps = {source.cell(0, eeg()).stamp() for source in sources_[:2]}
    assert len(set(prints)) == 3
    assert len(stamps) == 2
    assert prints[0] == Seed(path=tmp_path).fingerprint()
    scipy.io.savemat(tmp_path / "Preprocessed_EEG" / "label.mat", {"label": -np.array([LABELS])})
    assert prints[0] != Seed(path=tmp_path).fingerprint()


@given(windows=st.integers(1, 60), width=st.integers(1, 8), step=st.integers(1, 8))
def test_windows_never_leave_their_trial(windows, width, step):
    from fusionkit.data.sources.trial import Cutting

    found = Cutting.of(width * 4.0, step * 4.0).stretches(windows * 4.0)
    assert len(found) == len(range(0, windows - width + 1, step))
    assert all(stretch.stop <= windows * 4.0 + 1e-9 for stretch in found)


def test_it_is_registered_with_its_options():
    schema = sources.schema("seed").model_json_schema()
    assert set(schema["properties"]) == {
        "path", "features", "smoothing", "release", "window", "step", "sessions", "subjects"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seed", "seed_iv", "seed_v", "seed_multimodal"])
def test_the_recipe_trains_an_epoch_on_its_tree(tree_tool, tmp_path, name, capsys):
    getattr(tree_tool, name)(str(tmp_path / "tree"), [1, 2], 0.05)
    runs = tmp_path / "runs"
    assert main(["train", name, f"data.path={tmp_path / 'tree'}", "train.epochs=1", f"run.dir={runs}"]) == 0
    shown = capsys.readouterr()
    assert "emotion (classification)" in shown.out + shown.err
    assert len(list(runs.glob(f"{name}/*/model.fusion"))) == 1
