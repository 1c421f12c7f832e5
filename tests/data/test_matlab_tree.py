"""Structs and cells of MATLAB files: what SciPy reads, with large arrays left in the file; damage and bombs are named."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.data.matlab import list_variables, read_array
from fusionkit.data.matlab_tree import SMALL, Stored, read_tree


def cell(values):
    found = np.empty((len(values), 1), object)
    found[:, 0] = values
    return found


def element(kind, content, order="<"):
    """One element as MATLAB writes it, by its documentation."""
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(klass, shape, body, name="", order="<"):
    """An array of any class: flags, shape, name, and what follows."""
    head = element(6, struct.pack(f"{order}II", klass, 0), order) + element(
        5, struct.pack(f"{order}{len(shape)}i", *shape), order
    )
    return element(14, head + element(1, name.encode(), order) + body, order)


def file_of(variable, path, order="<", *, compressed=False):
    text = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack(f"{order}H", 0x0100)
    if compressed:
        packed = zlib.compress(variable)
        variable = struct.pack(f"{order}II", 15, len(packed)) + packed
    path.write_bytes(text + {"<": b"IM", ">": b"MI"}[order] + variable)
    return path


def opened(node):
    """A tree with what was left in the file."""
    if isinstance(node, Stored):
        return node.read()
    if isinstance(node, dict):
        return {name: opened(part) for name, part in node.items()}
    return [opened(part) for part in node] if isinstance(node, list) else node


@pytest.mark.parametrize("compressed", [True, False])
def test_a_tree_is_that_of_scipy_and_large_arrays_stay_in_the_file(tmp_path, compressed):
    generator = np.random.default_rng(0)
    large = [generator.standard_normal((SMALL // 8 + n, 3)) for n in range(4)]
    content = {
        "name": "F7",
        "age": 22,
        "flags": np.array([[1, 0, 5]], np.uint8),
        "deep": {"cells": cell([large[0], np.ones((2, 3)), large[1], "x"])},
        "last": large[2].astype(np.float32),
        "many": cell([{"a": large[3]}, {"a": np.zeros((0, 0))}]),
        "imaginary": np.array([[1j]]),
    }
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"before": 1.0, "top": content, "after": large[0]}, do_compression=compressed)
    tree = read_tree(path, "top")
    assert list(tree) == list(content)
    assert (tree["name"], tree["age"].item(), tree["imaginary"]) == ("F7", 22, None)
    cells = tree["deep"]["cells"]
    assert isinstance(cells[0], Stored) and cells[0].shape == large[0].shape
    assert cells[3] == "x"
    for _ in range(2):  # in any order, again and again
        np.testing.assert_array_equal(tree["many"][0]["a"].read(), large[3])
        np.testing.assert_array_equal(cells[2].read(), large[1])
        np.testing.assert_array_equal(cells[0].read(), large[0])
    np.testing.assert_array_equal(cells[1], np.ones((2, 3)))
    last = tree["last"].read()
    assert last.dtype == np.float32
    np.testing.assert_array_equal(last, content["last"])
    np.testing.assert_array_equal(tree["flags"], content["flags"])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_matlab_itself_writes_is_read(tmp_path, order, compressed):
    """Numbers in a smaller type than their class, text of two bytes, arrays of structs, an empty cell."""
    whole = np.arange(6, dtype=np.uint8).reshape(2, 3)
    numbers = matrix(6, (2, 3), element(2, whole.tobytes("F"), order), order=order)
    text = matrix(4, (1, 3), element(4, "mäh".encode(f"utf-16-{'lb'[order == '>']}e"), order), order=order)
    empty = struct.pack(f"{order}II", 14, 0)
    names = element(5, struct.pack(f"{order}i", 4), order) + element(1, b"one\0two\0", order)
    structs = matrix(2, (1, 2), names + numbers + text + text + empty, order=order)
    cells = matrix(1, (2, 1), structs + numbers, "top", order)
    tree = read_tree(file_of(cells, tmp_path / "a.mat", order, compressed=compressed), "top")
    assert [sorted(one) for one in tree[0]] == [["one", "two"]] * 2
    assert (tree[0][0]["two"], tree[0][1]["one"], tree[0][1]["two"].size) == ("mäh", "mäh", 0)
    for found in (tree[0][0]["one"], tree[1]):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, whole)


def test_memory_is_that_of_one_array(tmp_path):
    one = np.random.default_rng(0).integers(0, 9, (100_000, 2)).astype(float)
    scipy.io.savemat(tmp_path / "a.mat", {"top": cell([one + n for n in range(15)])}, do_compression=True)
    read_tree(tmp_path / "a.mat", "top")  # whatever is imported on the way
    tracemalloc.start()
    tree = read_tree(tmp_path / "a.mat", "top")
    for n, stored in enumerate(tree):
        np.testing.assert_array_equal(stored.read()[:5], one[:5] + n)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * one.nbytes < 15 * one.nbytes


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damage_is_an_error_of_ours_or_goes_unseen(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.mat"
    content = {"a": "text", "b": cell([np.ones((3, 2)), {"c": np.zeros(SMALL)}])}
    scipy.io.savemat(path, {"top": content}, do_compression=data.draw(st.booleans()))
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(128, len(whole) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(128, min(700, len(whole) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        opened(read_tree(path, "top"))
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A megabyte that says, and holds, gigabytes of zeros."""
    packer, parts, shape = zlib.compressobj(9), [], (62, 30_000_000)
    size = 8 * shape[0] * shape[1] % (1 << 32)
    head = matrix(6, shape, struct.pack("<II", 9, size), "djc_eeg1")
    parts.append(packer.compress(struct.pack("<II", 14, size + len(head) - 8) + head[8:]))
    parts += [packer.compress(bytes(1 << 20)) for _ in range(50)]
    packed = b"".join([*parts, packer.flush()])
    path = tmp_path / "1_20131027.mat"
    file_of(struct.pack("<II", 15, len(packed)) + packed, path)
    assert list_variables(path) == {"djc_eeg1": shape}
    with pytest.raises(DataError, match="variable djc_eeg1: must take 1073741824 bytes at most, but takes"):
        read_array(path, "djc_eeg1")
    with pytest.raises(DataError, match=r"1_20131027\.mat: variable djc_eeg1: must be readable, but an array of shape"):
        read_tree(path, "djc_eeg1")


def test_nesting_and_numbers_of_cells_are_bounded(tmp_path):
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(200):
        inner = matrix(1, (1, 1), inner)
    file_of(matrix(1, (1, 1), inner, "top"), tmp_path / "deep.mat")
    with pytest.raises(DataError, match="variable top: must be readable, but it is damaged"):
        read_tree(tmp_path / "deep.mat", "top")
    many = matrix(1, (150_000, 1), struct.pack("<II", 14, 0) * 150_000, "top")
    file_of(many, tmp_path / "many.mat", compressed=True)
    with pytest.raises(DataError, match="variable top: must be readable, but it is damaged"):
        read_tree(tmp_path / "many.mat", "top")
