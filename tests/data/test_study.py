"""The study store: what is written is what is read, and nothing else is taken for a study."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError, UnknownNameError
from fusionkit.core.recording import Recording, Stored
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.study import Study, sample_digest, study_settings

ROWS: list[dict[str, Any]] = [
    {"id": "a", "subject": "S1", "session": "1", "trial": "x", "state": "rest", "left/right": "ü"},
    {"id": "b", "subject": "S1", "session": "2", "trial": "x", "state": None, "left/right": None},
    {"id": "c", "subject": "S2", "session": "1", "trial": "x", "state": "count", "left/right": "r"},
]
RECORDS = Records.of(ROWS, ["state", "left/right"])
LONG = np.arange(40, dtype=np.float32).reshape(20, 2)
SHORT = np.arange(12, dtype=np.float32).reshape(6, 2) + 100


def windows(order=(0, 1), samples=(LONG, SHORT), **changes):
    """Records a and b overlap in the long recording, c is the short one; written in ``order``."""
    place = {recording: index for index, recording in enumerate(order)}
    count = changes.pop("count", [8, 8, 6])
    given = {
        "kind": "box",
        "stored": Stored(10.0, ("x", "y"), "V", (2,), "<f4", max(count)),
        "recording": np.array([place[0], place[0], place[1]]),
        "start": np.array([0, 4, 0]),
        "count": np.array(count),
        "recording_name": [["long.dat", "short.dat"][recording] for recording in order],
        "recording_count": [len(samples[recording]) for recording in order],
        "recording_digest": [sample_digest(samples[recording]) for recording in order],
        "load": lambda index: samples[order[index]],
    }
    return NewSensor(**(given | changes))


def sentences():
    texts = [np.frombuffer(text.encode(), np.uint8) for text in ("naïve", "go")]
    return NewSensor.of([Recording(texts[0]), None, Recording(texts[1])], "text")


@pytest.fixture
def study(tmp_path):
    return save_study(tmp_path / "lab.h5", RECORDS, {"box": windows(), "text": sentences()}, settings='{"a": 1}')


def test_what_was_written_is_read(study):
    again = Study.open(study.path)
    assert again.records == RECORDS
    assert again.digest == study.digest
    assert again.settings == study_settings(study.path) == '{"a": 1}'
    box = again.sensors["box"]
    assert box.stored == Stored(10.0, ("x", "y"), "V", (2,), "<f4", 8)
    assert box.stored.seconds == pytest.approx(0.8)
    assert box.kind == "box"
    assert box.recording_name == ("long.dat", "short.dat")
    np.testing.assert_array_equal(box.slice(0), LONG[:8])
    np.testing.assert_array_equal(box.slice(1), LONG[4:12])
    np.testing.assert_array_equal(box.slice(2), SHORT)
    text = again.sensors["text"]
    assert text.slice(0).tobytes().decode() == "naïve"
    assert text.slice(2).tobytes().decode() == "go"
    assert text.stored.sample_rate is None and text.stored.seconds is None
    np.testing.assert_array_equal(text.present, [True, False, True])
    np.testing.assert_array_equal(text.count, [6, 0, 2])
    again.verify()


def test_overlapping_windows_share_what_is_stored_once(study):
    box = study.sensors["box"]
    assert len(box.values) == len(LONG) + len(SHORT)
    assert np.shares_memory(box.slice(0), box.slice(1))
    assert not np.shares_memory(box.slice(0), box.slice(2))


def test_samples_are_mapped_in_place_and_cannot_be_changed(study):
    values = study.sensors["box"].values
    assert isinstance(values, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_pickled_study_carries_no_samples(tmp_path):
    records = Records.of([{"id": "a"}])
    study = save_study(tmp_path / "big.h5", records, {"box": NewSensor.of([Recording(np.ones((10**5, 2)))])})
    assert study.sensors["box"].values.sum() == 2 * 10**5
    small = pickle.dumps(study)
    assert len(small) < 10**4
    assert pickle.loads(small).sensors["box"].slice(0).sum() == 2 * 10**5


def test_a_missing_sensor_cannot_be_read(study):
    with pytest.raises(DataError, match="record at 1"):
        study.sensors["text"].slice(1)
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        study.sensor("txt")


def test_a_study_of_a_sensor_that_nobody_has_opens(tmp_path):
    nobody = NewSensor(
        kind="box",
        stored=Stored(10.0, ("x",), "V", (1,), "<f4", 0),
        recording=np.full(3, -1),
        start=np.zeros(3, int),
        count=np.zeros(3, int),
        recording_name=[],
        recording_count=[],
        recording_digest=[],
        load=lambda index: LONG,
    )
    sensor = save_study(tmp_path / "lab.h5", RECORDS, {"box": nobody}).sensors["box"]
    assert sensor.values.shape == (0, 1)
    assert not sensor.present.any()


# digest


def test_the_digest_knows_neither_path_nor_order_of_writing(tmp_path):
    one = save_study(tmp_path / "one.h5", RECORDS, {"box": windows(), "text": sentences()})
    two = save_study(tmp_path / "two.h5", RECORDS, {"text": sentences(), "box": windows(order=(1, 0))}, settings="x")
    renamed = save_study(
        tmp_path / "three.h5", RECORDS, {"box": windows(recording_name=["p", "q"]), "text": sentences()}
    )
    assert one.digest == two.digest == renamed.digest
    np.testing.assert_array_equal(one.sensors["box"].slice(1), two.sensors["box"].slice(1))


def flipped():
    samples = SHORT.copy()
    samples[3, 1] = np.nextafter(samples[3, 1], np.float32(0))
    return samples


@pytest.mark.parametrize(
    "sensors",
    [
        {"box": windows(samples=(LONG, flipped()))},
        {"box": windows(count=[8, 7, 6])},
        {"box": windows(start=np.array([0, 5, 0]))},
        {"box": windows(stored=Stored(10.0, ("x", "y"), "uV", (2,), "<f4", 8))},
        {"box": windows(stored=Stored(11.0, ("x", "y"), "V", (2,), "<f4", 8))},
        {"box": windows(stored=Stored(10.0, ("y", "x"), "V", (2,), "<f4", 8))},
        {"bax": windows()},
    ],
    ids=["sample", "count", "start", "unit", "rate", "channels", "name"],
)
def test_the_digest_changes_with_whatever_matters(tmp_path, sensors):
    plain = save_study(tmp_path / "one.h5", RECORDS, {"box": windows()})
    assert save_study(tmp_path / "two.h5", RECORDS, sensors).digest != plain.digest


@pytest.mark.parametrize("change", [{"state": "rest "}, {"id": "z"}, {"subject": "S9"}, {"trial": ""}])
def test_the_digest_changes_with_the_table(tmp_path, change):
    changed = Records.of([ROWS[0] | change, *ROWS[1:]], ["state", "left/right"])
    plain = save_study(tmp_path / "one.h5", RECORDS, {"box": windows()})
    assert save_study(tmp_path / "two.h5", changed, {"box": windows()}).digest != plain.digest


def test_equal_samples_have_equal_digests_in_any_byte_order():
    assert sample_digest(LONG) == sample_digest(LONG.astype(">f4")) == sample_digest(np.asfortranarray(LONG))
    assert sample_digest(LONG) != sample_digest(LONG.reshape(10, 4))
    assert sample_digest(LONG) != sample_digest(LONG.astype(np.float64))


def test_verify_finds_one_changed_bit(study):
    study.verify()
    byte = study.sensors["box"].place[1] + 4 * 2 * 22  # within the short recording
    raw = bytearray(study.path.read_bytes())
    raw[byte] ^= 1
    study.path.write_bytes(raw)
    with pytest.raises(DataError, match=r"lab\.h5: box: .*short\.dat"):
        Study.open(study.path).verify()


# what is no study


def test_a_truncated_study_is_refused_by_name(study):
    whole = study.path.read_bytes()
    for size in [0, 1, 7, 100, 2000, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        study.path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"lab\.h5: "):
            Study.open(study.path)
        with pytest.raises(DataError, match=r"lab\.h5: "):
            study_settings(study.path)


def test_foreign_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.h5").write_text("id,subject\n")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = [1]
    (tmp_path / "folder.h5").mkdir()
    for name, why in [("text.h5", "whole"), ("plain.h5", "format"), ("folder.h5", "folder"), ("none.h5", "none")]:
        with pytest.raises(DataError, match=rf"{name}: .*{why}"):
            Study.open(tmp_path / name)


def test_a_study_of_another_version_is_refused_with_both(study):
    with h5py.File(study.path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(DataError, match=r"version 1, but got .*99"):
        Study.open(study.path)
    assert study_settings(study.path) == ""


def break_link(file):
    del file["sensors/box/values"]
    file["sensors/box/values"] = h5py.ExternalLink("other.h5", "x")


def break_external(file):
    del file["sensors/box/values"]
    Path(file.filename).with_name("secret").write_bytes(bytes(208))
    file["sensors/box"].create_dataset("values", (26, 2), "<f4", external=[("secret", 0, 208)])


def break_chunks(file):
    values = file["sensors/box/values"][()]
    del file["sensors/box/values"]
    file["sensors/box"].create_dataset("values", data=values, chunks=(2, 2), compression="gzip")


def break_offset(file):
    file["sensors/box/offset"][1] = 25


def break_missing(file):
    del file["records/subject"]


def break_length(file):
    del file["sensors/box/count"]
    file["sensors/box/count"] = [1, 2]


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (break_link, "link"),
        (break_external, "another"),
        (break_chunks, "contiguous"),
        (break_offset, "within the 26"),
        (break_missing, "missing"),
        (break_length, "3 entries"),
    ],
)
def test_a_study_that_was_tampered_with_is_refused(study, harm, why):
    with h5py.File(study.path, "r+") as file:
        harm(file)
    with pytest.raises(DataError, match=rf"lab\.h5: .*{why}"):
        Study.open(study.path)


def test_an_interrupted_write_leaves_the_old_study_and_nothing_else(study):
    def fails(index):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_study(study.path, RECORDS, {"box": windows(load=fails)})
    assert [path.name for path in study.path.parent.iterdir()] == ["lab.h5"]
    assert Study.open(study.path).digest == study.digest


def test_opening_a_study_imports_no_torch(study):
    code = (
        f"import sys; from fusionkit.data.study import Study; "
        f"Study.open({str(study.path)!r}); print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# groups


def test_sessions_nest_in_subjects_and_trials_in_sessions():
    assert RECORDS.group("subject").tolist() == [0, 0, 1]
    assert RECORDS.group("session").tolist() == [0, 1, 2]
    assert RECORDS.group("trial").tolist() == [0, 1, 2]
    assert RECORDS.group("record").tolist() == [0, 1, 2]
    assert RECORDS.group("state").tolist() == [2, 0, 1]
    assert RECORDS.group_names("trial") == ("S1/1/x", "S1/2/x", "S2/1/x")
    assert RECORDS.group_names("state") == ("", "count", "rest")
    with pytest.raises(UnknownNameError, match="did you mean 'subject'"):
        RECORDS.group("subjct")


def test_without_a_subject_every_record_is_its_own():
    assert Records.of([{"id": "a"}, {"id": "b"}]).subject == ("a", "b")


@given(st.lists(st.tuples(*[st.sampled_from("ab/")] * 3), min_size=1, max_size=8))
def test_groups_are_those_of_a_plain_comparison(names):
    rows = [{"id": str(i), "subject": s, "session": e, "trial": t} for i, (s, e, t) in enumerate(names)]
    group = Records.of(rows).group("trial")
    for i, one in enumerate(names):
        for j, two in enumerate(names):
            assert (group[i] == group[j]) == (one == two)
    assert sorted(set(group)) == list(range(len(set(names))))
