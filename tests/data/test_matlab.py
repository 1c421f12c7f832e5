"""Variables of MATLAB files: listed without loading, read by name; other versions and damage are named."""

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.data.matlab import list_variables, read_array


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def file(tmp_path, request):
    path = tmp_path / "1_20131027.mat"
    generator = np.random.default_rng(0)
    content = {
        "djc_eeg1": generator.standard_normal((4, 30)),
        "djc_eeg10": np.arange(6, dtype=np.int16).reshape(2, 3),
        "cube": generator.standard_normal((2, 3, 4)),
        "one": np.array([[7.0]]),
        "words": "hello",
        "complex": np.array([[1j]]),
        "struct": {"Age": 22, "EEG": {"stimuli": np.ones((3, 2))}},
    }
    scipy.io.savemat(path, content, do_compression=request.param)
    return path, content


def test_variables_are_listed_and_read_by_name(file):
    path, content = file
    found = list_variables(path)
    assert list(found) == list(content)
    assert found["djc_eeg1"] == (4, 30)
    for name in ("djc_eeg1", "djc_eeg10", "one"):
        array = read_array(path, name)
        assert array.dtype == content[name].dtype
        np.testing.assert_array_equal(array, content[name])
    np.testing.assert_array_equal(read_array(path, "cube", axes=3), content["cube"])


def test_the_list_is_that_of_scipy(file, tmp_path):
    path, _ = file
    words = {"words"}  # which it counts by strings
    assert {k: v for k, v in list_variables(path).items() if k not in words} == {
        name: shape for name, shape, _ in scipy.io.whosmat(path) if name not in words
    }
    many = {f"de_movingAve{n}{'x' * n}": np.zeros((n, 2, 3)) for n in range(1, 18)}  # names within a tag and beyond
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "many.mat", {"a": 1.0, "abcd": 2.0, **many}, do_compression=compressed)
        found = list_variables(tmp_path / "many.mat")
        assert list(found.items()) == [(name, shape) for name, shape, _ in scipy.io.whosmat(tmp_path / "many.mat")]
        assert read_array(tmp_path / "many.mat", "abcd").item() == 2.0


def test_one_variable_is_read_and_no_other(file, monkeypatch):
    from scipy.io.matlab._mio5 import MatFile5Reader

    path, _ = file
    loaded, headers = [], []
    array, header = MatFile5Reader.read_var_array, MatFile5Reader.read_var_header
    monkeypatch.setattr(
        MatFile5Reader, "read_var_array", lambda self, *a, **k: (loaded.append(1), array(self, *a, **k))[1]
    )
    monkeypatch.setattr(MatFile5Reader, "read_var_header", lambda self: (headers.append(1), header(self))[1])
    list_variables(path)
    assert not headers
    read_array(path, "djc_eeg10")
    assert (len(headers), len(loaded)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "axes", "message"),
    [
        ("djc_eeg11", 2, r"20131027\.mat: there must be a variable 'djc_eeg11', .*did you mean 'djc_eeg1"),
        ("cube", 2, r"variable cube: must hold real numbers along 2 axes, but is float64 of shape \(2, 3, 4\)"),
        ("words", 1, "variable words: must hold real numbers"),
        ("complex", 2, "variable complex: must hold real numbers"),
        ("struct", 2, "variable struct: must hold real numbers"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(file, name, axes, message):
    with pytest.raises(DataError, match=message):
        read_array(file[0], name, axes)


def test_a_truncated_file_is_refused_wherever_it_ends(file):
    path, content = file
    whole = path.read_bytes()
    for end in sorted({129, 150, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"20131027\.mat: must have \d+ bytes by its own account, but has \d+"):
            list_variables(path)
        with pytest.raises(DataError, match="it is truncated"):
            read_array(path, next(iter(content)))


@given(st.data())
def test_damage_is_an_error_of_ours_or_goes_unseen(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "d.mat"
    scipy.io.savemat(path, {"a": np.arange(20.0).reshape(4, 5), "b": np.ones((2, 2))}, do_compression=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        list_variables(path), read_array(path, "b")
    except DataError as error:
        assert "d.mat" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "but is empty"),
        (b"PK\x03\x04" + b"\0" * 200, r"version 5, but begins with b'PK"),
        (b"MATLAB 7.3 MAT-file".ljust(128) + b"\0" * 500, r"is of version 7\.3; save it again with '-v7'"),
        (b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"\1" * 16, "a variable must begin at byte 128"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list_variables(path)


def test_an_hdf5_file_and_a_missing_one_are_named(tmp_path):
    with h5py.File(tmp_path / "h.mat", "w") as file:
        file["a"] = np.ones(3)
    with pytest.raises(DataError, match=r"h\.mat: .* is of version 7\.3"):
        read_array(tmp_path / "h.mat", "a")
    with pytest.raises(DataError, match=r"gone\.mat: cannot be read: No such file"):
        read_array(tmp_path / "gone.mat", "a")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_array(tmp_path, "a")
