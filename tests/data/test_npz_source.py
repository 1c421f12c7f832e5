"""The npz source: rows of arrays are records, parts are joined, objects are never unpickled."""

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.core.registry import sources
from fusionkit.data.sources.npz import Npz
from fusionkit.data.sources.source import ArrayCell, SensorColumn, TextCell


class Arrays:
    """A sensor of arrays."""

    kind = "arrays"
    in_cells = False


def sensor(column):
    return SensorColumn(column, Arrays(), column)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def parts(path, **more):
    return save(
        path,
        x_train=np.arange(12.0).reshape(3, 4),
        x_test=np.arange(8.0).reshape(2, 4) + 50,
        y_train=np.array([1, 0, 1], np.int8),
        y_test=np.array([0, 1], np.int8),
        who_train=np.array(["a", "b", "a"]),
        who_test=np.array(["carla", "b"]),
        fs=np.array(8000, np.int32),
        **more,
    )


def test_parts_are_joined_in_the_order_they_are_given(tmp_path):
    source = Npz(path=parts(tmp_path / "d.npz"), parts=["test", "train"], columns={"subject": "who"})
    rows = source.rows()
    assert [row.subject for row in rows] == ["carla", "b", "a", "b", "a"]
    assert [row.labels["part"] for row in rows] == ["test"] * 2 + ["train"] * 3
    assert [row.labels["y"] for row in rows] == ["0", "1", "1", "0", "1"]
    assert [row.id for row in rows] == ["1", "2", "3", "4", "5"]
    assert source.columns() == ["x", "y", "who", "part"]
    cell = source.cell(2, sensor("x"))
    assert isinstance(cell, ArrayCell)
    np.testing.assert_array_equal(cell.values, [0, 1, 2, 3])
    assert cell.sample_rate is None
    assert cell.where == "d.npz row 3, column x"


@pytest.mark.parametrize("rate", ["fs", 8000, 8000.0])
def test_a_rate_is_a_number_or_the_name_of_one(tmp_path, rate):
    source = sources.build("npz", {"path": parts(tmp_path / "d.npz"), "parts": ["train", "test"], "rates": {"x": rate}})
    source.rows()
    assert source.cell(0, sensor("x")).sample_rate == 8000.0
    assert source.cell(0, sensor("y")).sample_rate is None


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"x": "f"}, r"rates\.x: must be hertz or the name of one number, but got 'f'; did you mean 'fs'"),
        ({"x": "y_train"}, r"rates\.x"),
        ({"x": 0}, r"rates\.x: must be above 0"),
        ({"xx": 8000}, r"rates\.xx: .*no column named 'xx'; did you mean 'x'"),
    ],
)
def test_a_rate_that_breaks_a_rule_is_refused(tmp_path, rates, message):
    source = Npz(path=parts(tmp_path / "d.npz"), parts=["train", "test"], rates=rates)
    with pytest.raises(DataError, match=message):
        source.rows(), source.cell(0, sensor("x"))


def test_labels_are_short_text(tmp_path):
    path = save(
        tmp_path / "d.npz",
        single=np.array([0.1, np.nan], np.float32),
        flag=np.array([True, False]),
        word=np.array(["ä", ""]),
        raw=np.array([b"x", b"y"]),
    )
    one, two = Npz(path=path).rows()
    assert one.labels == {"single": "0.1", "flag": "true", "word": "ä", "raw": "x"}
    assert two.labels == {"single": None, "flag": "false", "word": None, "raw": "y"}


def test_sentences_and_single_numbers_may_be_sensors(tmp_path):
    source = Npz(path=save(tmp_path / "d.npz", word=np.array(["ä b", ""]), age=np.array([20.0, 30.0])))
    cell = source.cell(0, sensor("word"))
    assert isinstance(cell, TextCell)
    assert cell.text == "ä b"
    assert source.cell(1, sensor("word")) is None
    np.testing.assert_array_equal(source.cell(1, sensor("age")).values, [30.0])


def test_an_array_may_say_which_records_have_a_sensor(tmp_path):
    source = Npz(path=save(tmp_path / "d.npz", x=np.ones((2, 3)), x_present=np.array([False, True])))
    assert source.cell(0, sensor("x")) is None
    assert source.cell(1, sensor("x")) is not None


def test_arrays_of_another_length_are_no_columns(tmp_path):
    source = Npz(path=save(tmp_path / "d.npz", x=np.ones((4, 3)), y=np.ones(4), classes=np.array(["a", "b"])))
    assert source.columns() == ["x", "y"]
    assert len(source.rows()) == 4
    with pytest.raises(DataError, match="array classes must have 4 rows as most others have, but has 2"):
        source.check_columns({"tasks.classes": "classes"})


def test_objects_are_refused_by_name_and_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((2, 3)), y=np.ones(2), bad=np.array([Bomb(), Bomb()], object))
    source = Npz(path=path)
    assert source.columns() == ["x", "y"]
    source.rows()
    with pytest.raises(DataError, match="array bad holds objects, which are never unpickled"):
        source.check_columns({"tasks.bad": "bad"})
    with pytest.raises(DataError, match="array bad holds objects"):
        source.cell(0, sensor("bad"))
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("more", "column", "message"),
    [
        ({"z_train": np.ones(3)}, "z", "column z must be in every part, but there is only z_train"),
        ({"z_train": np.ones(3), "z_test": np.ones(3)}, "z", r"array z must have 5 rows .* but has 3 \+ 3"),
        ({"z_train": np.ones((3, 2)), "z_test": np.ones((2, 1))}, "z", "one shape per record"),
        ({"z_train": np.ones(3, complex), "z_test": np.ones(2, complex)}, "z", "is complex128"),
        ({}, "whom", "no column named 'whom'; did you mean 'who'"),
    ],
)
def test_what_is_no_column_is_refused_with_the_reason(tmp_path, more, column, message):
    source = Npz(path=parts(tmp_path / "d.npz", **more), parts=["train", "test"])
    with pytest.raises(DataError, match=message):
        source.check_columns({"tasks": column}), source.array(column)


def test_parts_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"arrays of records named <column>_dev"):
        Npz(path=parts(tmp_path / "d.npz"), parts=["dev"]).rows()


def test_damaged_archives_are_refused_by_name(tmp_path):
    path = parts(tmp_path / "d.npz")
    whole = path.read_bytes()
    for broken in (b"", b"PK", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"d\.npz: must be a NumPy archive"):
            Npz(path=path).rows()
    flipped = bytearray(whole)
    flipped[whole.index(np.arange(12.0).tobytes()) + 3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DataError, match=r"d\.npz: .*CRC"):
        Npz(path=path, parts=["train", "test"]).cell(0, sensor("x"))
    np.save(tmp_path / "one.npz.npy", np.ones(3))
    (tmp_path / "one.npz.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match=r"one\.npz: must be a NumPy archive"):
        Npz(path=tmp_path / "one.npz").rows()
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        Npz(path=tmp_path / "none.npz").rows()
    with pytest.raises(DataError, match="is a folder"):
        Npz(path=tmp_path).rows()


def test_the_fingerprint_changes_with_content_and_options(tmp_path):
    path = parts(tmp_path / "d.npz")
    plain = Npz(path=path, parts=["train", "test"]).fingerprint()
    assert plain == Npz(path=path, parts=["train", "test"]).fingerprint()
    assert plain != Npz(path=path, parts=["test", "train"]).fingerprint()
    assert plain != Npz(path=path, parts=["train", "test"], rates={"x": 2}).fingerprint()
    parts(path, extra=np.ones(1))
    assert plain != Npz(path=path, parts=["train", "test"]).fingerprint()


def test_the_real_archives_are_read(real_data):
    digits = Npz(
        path=real_data / "avmnist_small.npz",
        parts=["train", "test"],
        rates={"audio": "fs"},
        columns={"subject": "speaker"},
    )
    rows = digits.rows()
    assert len(rows) == 4000
    assert not {row.subject for row in rows[:3000]} & {row.subject for row in rows[3000:]}
    assert (rows[0].labels["y"], rows[0].subject, rows[3000].labels["part"]) == ("4", "george", "test")
    audio = digits.cell(0, sensor("audio"))
    assert (audio.values.dtype, audio.values.shape, audio.sample_rate) == (np.int16, (8000,), 8000.0)
    assert digits.cell(3999, sensor("image")).values.shape == (28, 28)
    views = Npz(path=real_data / "mfeat_6views.npz")
    assert len(views.rows()) == 2000
    assert views.columns() == ["y", "fac", "fou", "kar", "mor", "pix", "zer"]
    words = Npz(path=real_data / "cmu_mosi_utterances.npz", parts=["train", "test"], columns={"subject": "video_id"})
    assert words.cell(0, sensor("transcript")).text == "KIDS ARE GONNA LOVE THE FILM"
    assert len(words.rows()) == 1447 + 752
