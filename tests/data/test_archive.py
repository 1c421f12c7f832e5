"""Arrays and pickles of NumPy archives: read one by one, never trusted."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.data.archive import read_member, read_pickled


class Harm:
    """A pickle that leaves a folder behind."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def test_arrays_and_pickles_come_back(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(6).reshape(2, 3), p=pickle.dumps({0: np.ones((2, 2)), "x": [1]}))
    np.testing.assert_array_equal(read_member(path, "a"), [[0, 1, 2], [3, 4, 5]])
    found = read_pickled(path, "p")
    assert found["x"] == [1]
    np.testing.assert_array_equal(found[0], np.ones((2, 2)))


def test_nothing_runs(tmp_path):
    """Neither a pickle in bytes, nor an array of objects, which NumPy would unpickle."""
    for name, value in (
        ("bytes", pickle.dumps(Harm(tmp_path / "harm"))),
        ("objects", np.array([Harm(tmp_path / "harm")])),
    ):
        path = tmp_path / f"{name}.npz"
        np.savez(path, p=value)
        with pytest.raises(DataError, match=rf"{name}\.npz: array p"):
            read_pickled(path, "p")
    assert not (tmp_path / "harm").exists()


def test_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3))
    with pytest.raises(DataError, match=r"a\.npz: there must be an array 'b', but there is none"):
        read_member(path, "b")
    with pytest.raises(DataError, match=r"array a must be the bytes of a pickle, but is float64 of \(3,\)"):
        read_pickled(path, "a")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.npz: array a: cannot be read: File is not a zip file"):
        read_member(path, "a")
    with pytest.raises(DataError, match=r"gone\.npz: array a: cannot be read: .*No such file"):
        read_member(tmp_path / "gone.npz", "a")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match=r"one\.npy: array a: cannot be read"):
        read_member(tmp_path / "one.npy", "a")


def test_damage_inside_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).standard_normal(500))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a\.npz: array a: cannot be read"):
        read_member(path, "a")


@pytest.mark.parametrize(
    ("shape", "held"), [("(1000000000000, 2)", 100), ("(20000000000,)", 100), ("(9,)", (1 << 30) + 1)]
)
def test_an_array_that_would_fill_memory_is_refused(tmp_path, shape, held):
    """One whose header says so, and one that unpacks to more than a gibibyte from a megabyte."""
    path = tmp_path / "a.npz"
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w") as file,
    ):
        file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
        for _ in range(held >> 24):
            file.write(bytes(1 << 24))
        file.write(bytes(held % (1 << 24)))
    with pytest.raises(DataError, match=r"a\.npz: array a: (cannot be read|must take 1073741824 bytes at most)"):
        read_member(path, "a")
