"""The source of SEED's features for fusion: trials that the files join are told apart again."""

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.core.registry import modalities
from fusionkit.data.ingest import ingest
from fusionkit.data.sources import seed
from fusionkit.data.sources.seed_family import BANDS, CHANNELS, EYE
from fusionkit.data.sources.seed_multimodal import EMOTIONS, LABELS, SECONDS, SeedMultimodal, find_borders
from fusionkit.data.sources.source import SensorColumn

SENSORS = {
    "eeg": SensorColumn("eeg", modalities.build("eeg", {"features": {"kind": "ready"}}), "eeg"),
    "eye": SensorColumn("eye", modalities.build("signal", {"features": {"kind": "raw"}}), "eye"),
}


def write(folder, counts, person="1", session="1", release="4s", eye=True, labels=LABELS):
    """One file of each sensor; gives the trials as ``(window, channel, band)`` and ``(window, feature)``."""
    generator = np.random.default_rng(0)
    trials = [generator.standard_normal((count, 62, 5)) for count in counts]
    looks = [generator.standard_normal((count, 33)) for count in counts]
    below = folder / "02-EEG-DE-feature" / f"eeg_used_{release}"
    beside = folder / "04-Eye-tracking-feature" / "eye_tracking_feature"
    for place in (below, beside):
        place.mkdir(parents=True, exist_ok=True)
    arrays, held = {}, {}
    for part, which in (("train", slice(0, 9)), ("test", slice(9, 15))):
        joined = np.concatenate(trials[which])
        arrays[f"{part}_data"] = pickle.dumps({band: joined[..., i] for i, band in enumerate(BANDS)})
        arrays[f"{part}_label"] = np.repeat(np.array(labels[which], float), counts[which])
        held[f"{part}_data_eye"] = np.concatenate(looks[which])
    np.savez(below / f"{person}_{session}.npz", **arrays)
    if eye:
        (beside / f"{person}_{session}").write_bytes(pickle.dumps(held))
    return trials, looks


def test_the_tables_are_those_of_seed(tree_tool):
    assert tuple(label - 1 for label in LABELS) == seed.LABELS
    assert list(SECONDS) == tree_tool.SEED_SEC
    assert dict(EMOTIONS.items()) == {k + 1: word for k, word in seed.EMOTIONS.items()}


def test_clips_last_as_long_as_published():
    assert (sum(SECONDS[:9]), sum(SECONDS[9:])) == (2010, 1384)
    assert (sum(s // 4 for s in SECONDS[:9]), sum(s // 4 for s in SECONDS[9:])) == (499, 343)


@pytest.mark.parametrize("trees", ["seed_trees", "longer_trees"])
def test_the_tree_is_read_as_it_was_written(trees, request, tree_tool):
    folder = request.getfixturevalue(trees)
    scale = {"seed_trees": 0.01, "longer_trees": 0.2}[trees]
    source = SeedMultimodal(path=folder, window="trial")
    rows = source.rows()
    assert Counter((row.subject, row.session) for row in rows) == {(s, t): 15 for s in "12" for t in "123"}
    assert Counter(row.labels["emotion"] for row in rows) == dict.fromkeys(EMOTIONS.values(), 30)
    counts = [tree_tool.n(seconds // 4, scale) for seconds in SECONDS]
    base = folder / "SEED_Multimodal" / "Chinese"
    for index, row in enumerate(rows):
        trial = int(row.trial) - 1
        part, first = ("train", sum(counts[:trial])) if trial < 9 else ("test", sum(counts[9:trial]))
        name = f"{row.subject}_{row.session}"
        file = np.load(base / "02-EEG-DE-feature" / "eeg_used_4s" / f"{name}.npz")
        bands = pickle.loads(file[f"{part}_data"])
        with open(base / "04-Eye-tracking-feature" / "eye_tracking_feature" / name, "rb") as opened:
            looks = pickle.load(opened)[f"{part}_data_eye"]
        eeg, eye = (source.cell(index, SENSORS[sensor]) for sensor in ("eeg", "eye"))
        here = slice(first, first + counts[trial])
        assert eeg.values().shape == (62, 5, counts[trial])
        for i, band in enumerate(BANDS):
            np.testing.assert_array_equal(eeg.values()[:, i], bands[band][here].T)
        np.testing.assert_array_equal(eye.values(), looks[here].T)
        assert set(file[f"{part}_label"][here]) == {float(row.labels["label"])}
        assert (eeg.rate, eeg.channels, eye.channels) == (0.25, CHANNELS, EYE)
    assert "rebuilt from the runs of their labels" in source.notes({})[0]


@pytest.mark.parametrize(("release", "hop"), [("1s", 1), ("4s", 4)])
def test_files_of_full_length_are_parted_by_their_clips(tmp_path, release, hop):
    counts = [seconds // hop for seconds in SECONDS]
    trials, looks = write(tmp_path, counts, release=release, eye=release == "4s")
    source = SeedMultimodal(path=tmp_path, window="trial")
    for index, trial in enumerate(trials):
        cell = source.cell(index, SENSORS["eeg"])
        np.testing.assert_array_equal(cell.values(), trial.transpose(1, 2, 0))
        assert (cell.rate, cell.seconds) == (1 / hop, counts[index] * hop)
        if hop == 4:
            np.testing.assert_array_equal(source.cell(index, SENSORS["eye"]).values(), looks[index].T)
    assert ("eye" in source.columns()) == (hop == 4)
    assert "rebuilt from the lengths of the film clips" in source.notes({})[0]
    rows = SeedMultimodal(path=tmp_path).rows()
    assert len(rows) == sum(counts)
    assert [row.labels["label"] for row in rows[:1]] == ["2"]


def test_clips_of_8_and_12_s_have_borders_at_0_2_and_5():
    assert find_borders([1, 1, 0, 0, 0], [8, 12], [1, 0], 4) == ([0, 2, 5], True)
    assert find_borders([1] * 5, [8, 12], [1, 1], 4) == ([0, 2, 5], True)
    assert find_borders([1] * 10, [8, 12], [1, 1], 4) == ([0, 4, 10], False)
    assert find_borders([1, 0, 1], [8, 12], [1, 0], 4) == (None, False)
    assert find_borders([1], [8, 12], [1, 1], 4) == (None, False)


@given(st.floats(0.01, 1.5), st.sampled_from([1, 4]), st.sampled_from([slice(0, 9), slice(9, 15)]))
def test_scaled_trials_are_found_again(scale, hop, part):
    """Exactly where neighbours differ in label; within a window where they do not."""
    seconds, order = SECONDS[part], LABELS[part]
    counts = [max(2, round(length // hop * scale)) for length in seconds]
    true = [0, *np.cumsum(counts).tolist()]
    found, _ = find_borders(
        [y for y, count in zip(order, counts, strict=True) for _ in range(count)], seconds, order, hop
    )
    assert found[0] == 0
    assert all(a < b for a, b in pairwise(found))
    for index, (border, expected) in enumerate(zip(found, true, strict=True)):
        shared = 0 < index < len(order) and order[index - 1] == order[index]
        assert abs(border - expected) <= (1 if shared else 0)


@given(st.permutations(range(9)))
def test_trials_in_another_order_are_refused(order):
    labels = [LABELS[trial] for trial in order]
    assume(labels != list(LABELS[:9]))
    joined = [label for label in labels for _ in range(7)]
    found, exact = find_borders(joined, SECONDS[:9], LABELS[:9], 4)
    assert found is None
    assert not exact


def test_windows_and_names_are_kept(tmp_path):
    counts = [3] * 15
    trials, looks = write(tmp_path, counts)
    write(tmp_path, counts, person="1", session="2", eye=False)
    study = ingest(SeedMultimodal(path=tmp_path), SENSORS, ["emotion"], tmp_path / "s.h5")
    assert len(study.records) == 90
    assert study.records.id[4] == "1_1_2_2"
    np.testing.assert_array_equal(study.sensors["eeg"].slice(4), trials[1][1][None].astype(np.float32))
    np.testing.assert_array_equal(study.sensors["eye"].slice(4), looks[1][1][None].astype(np.float32))
    np.testing.assert_array_equal(study.sensors["eye"].present, np.array(study.records.session) == "1")


def test_damage_is_named(tmp_path):
    write(tmp_path, [3] * 15, labels=LABELS[::-1])
    with pytest.raises(
        DataError, match=r"1_1\.npz: train_label must have the published order, but has the runs \[0, 2"
    ):
        SeedMultimodal(path=tmp_path).rows()
    write(tmp_path, [3] * 15)
    eye = tmp_path / "04-Eye-tracking-feature" / "eye_tracking_feature" / "1_1"
    eye.write_bytes(pickle.dumps({"train_data_eye": np.ones((5, 33)), "test_data_eye": np.ones((18, 33))}))
    with pytest.raises(DataError, match=r"train_data_eye must have the 27 windows of 1_1\.npz, but has 5"):
        SeedMultimodal(path=tmp_path).rows()
    eye.write_bytes(pickle.dumps({"train_data_eye": np.ones((27, 31))}))
    with pytest.raises(DataError, match=r"train_data_eye must be \(windows, 33\), but is \(27, 31\)"):
        SeedMultimodal(path=tmp_path).rows()
    eye.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"1_1: a pickle may hold .* asks for os\.system"):
        SeedMultimodal(path=tmp_path).rows()
    eye.unlink()
    path = tmp_path / "02-EEG-DE-feature" / "eeg_used_4s" / "1_1.npz"
    held = dict(np.load(path))
    bands = pickle.loads(held["train_data"])
    for change, message in (
        ({"train_label": held["train_label"][:-1]}, "train_label must be 27 numbers of"),
        ({"train_data": pickle.dumps({"delta": bands["delta"]})}, r"a dictionary of the bands .*, but is \['delta'\]"),
        (
            {"train_data": pickle.dumps({**bands, "beta": bands["beta"][:, :3]})},
            r"must be \(windows, 62\) in every band",
        ),
    ):
        np.savez(path, **{**held, **change})
        with pytest.raises(DataError, match=message):
            SeedMultimodal(path=tmp_path).rows()


def test_a_release_is_chosen_where_there_are_two(tmp_path):
    write(tmp_path / "SEED_Multimodal" / "Chinese", [3] * 15, release="1s")
    write(tmp_path / "SEED_Multimodal" / "Chinese", [2] * 15, release="4s")
    with pytest.raises(DataError, match="there are features of 1 s and of 4 s; set release"):
        SeedMultimodal(path=tmp_path).rows()
    assert len(SeedMultimodal(path=tmp_path, release="1s").rows()) == 45
    assert len(SeedMultimodal(path=tmp_path, release="4s").rows()) == 30
    assert SeedMultimodal.recognises(tmp_path)
    assert not SeedMultimodal.recognises(tmp_path / "SEED_Multimodal" / "Chinese" / "04-Eye-tracking-feature")
