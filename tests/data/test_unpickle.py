"""Pickles of arrays are read; a pickle that asks for anything else runs nothing."""

import pickle
import pickletools
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.data.unpickle import unpickle, unpickle_file

PROTOCOLS = range(6)


def arrays():
    generator = np.random.default_rng(0)
    yield generator.standard_normal((3, 4))
    yield np.asfortranarray(generator.standard_normal((3, 4)))
    yield generator.standard_normal((4, 6))[::2, 1::2]
    yield np.arange(5, dtype=np.int16)
    yield np.arange(6, dtype=">f4").reshape(2, 3)
    yield np.array([True, False])
    yield np.array(["a", "bcd", "é"])
    yield np.array([b"a", b"\xff\x00b"])
    yield np.array(2.5)
    yield np.zeros((0, 3), np.float32)
    yield np.array([1 + 2j])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("index", range(11))
def test_an_array_comes_back_as_pickle_gives_it(protocol, index):
    array = list(arrays())[index]
    found = unpickle(pickle.dumps(array, protocol))
    assert type(found) is np.ndarray
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


@given(plain, st.sampled_from(PROTOCOLS))
def test_python_s_own_types_come_back(value, protocol):
    assert unpickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_less_common_types_and_numbers_of_numpy_come_back(protocol):
    value = {np.int64(3): (np.float32(1.5), np.bool_(True)), "set": {1, 2}, "f": frozenset([3]), "c": 1j, "b": b""}
    value["array"] = bytearray(b"\xff\x01")
    found = unpickle(pickle.dumps(value, protocol))
    assert found == value
    assert type(found[3][0]) is np.float32


def test_shared_and_circular_parts_stay_so():
    array = np.arange(3)
    value = {"a": array, "b": array, "list": []}
    value["list"].append(value["list"])
    found = unpickle(pickle.dumps(value))
    assert found["a"] is found["b"]
    assert found["list"][0] is found["list"]


def test_a_python_2_pickle_is_read_by_latin_1():
    """As Python 2 wrote ``{"data": numpy.array([1.5, -2.0])}`` by protocol 2: the bytes are a byte string."""
    content = struct.pack("<2d", 1.5, -2.0)
    written = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(content)]) + content + b"tbs."
    )
    assert pickle.loads(written, encoding="latin1")["data"].tolist() == [1.5, -2.0]
    assert unpickle(written)["data"].tolist() == [1.5, -2.0]
    by_protocol_0 = (
        b"(dS'data'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS" + repr(content)[1:].encode() + b"\ntbs."
    )
    assert unpickle(by_protocol_0)["data"].tolist() == [1.5, -2.0]


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Pickles that write the marker file, or would if a name were looked up."""
    import builtins
    import copyreg
    import functools
    import importlib
    import operator
    import os
    import subprocess

    shell = f"echo run > {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    made = {
        "os.system": pickle.dumps(Calls(os.system, shell)),
        "posix.system by hand": b"cposix\nsystem\n(S'" + shell.encode() + b"'\ntR.",
        "INST": b"(S'" + shell.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + shell.encode() + b"'\no.",
        "eval": pickle.dumps(Calls(builtins.eval, code)),
        "exec": pickle.dumps(Calls(builtins.exec, code)),
        "open": pickle.dumps(Calls(open, str(marker), "w")),
        "getattr": pickle.dumps(Calls(operator.attrgetter, "system")),
        "builtins.getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
        "__import__": pickle.dumps(Calls(builtins.__import__, "os")),
        "import_module": pickle.dumps(Calls(importlib.import_module, "os")),
        "subprocess": pickle.dumps(Calls(subprocess.check_output, ["touch", str(marker)])),
        "partial": pickle.dumps(Calls(functools.partial, os.system, shell)),
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x16ctypeslib.ctypes.cdll.x\x93.",
        "dotted allowed": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
        "numpy.load": b"cnumpy\nload\n(S'" + str(marker).encode() + b"'\ntR.",
        "numpy.fromfile": b"cnumpy\nfromfile\n(S'/etc/hostname'\ntR.",
        "numpy.f2py": b"cnumpy.f2py.crackfortran\nmyeval\n(S'" + code.encode() + b"'\ntR.",
        "numpy exec_command": b"cnumpy.testing._private.utils\nrunstring\n(S'" + code.encode() + b"'\n}tR.",
        "copyreg": pickle.dumps(Calls(copyreg.add_extension, "os", "system", 255)),
        "copy_reg._reconstructor": b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        "persistent id": b"Pos.system\n.",
        "extension": b"\x82\xff.",
        "out of band": b"\x80\x05\x97.",
        "pickle in bytes": pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(os.system, shell)))),
        "inside an array's state": pickle.dumps([np.arange(3), Calls(os.system, shell)]),
        "object array": pickle.dumps(np.array([Calls(os.system, shell)], dtype=object)),
        "other codec": b"c_codecs\nencode\n(S'" + shell.encode() + b"'\nS'rot13'\ntR.",
        "BUILD on a function": b"cnumpy.core.multiarray\n_reconstruct\n}S'make'\ncos\nsystem\nsb.",
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x03\x85\x81.",
    }
    return made


NAMES = list(attacks("nowhere"))


@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_pickle_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"
    with pytest.raises(DataError) as caught:
        unpickle(attacks(marker)[name])
    assert not marker.exists()
    assert "\n" not in str(caught.value)


def test_the_attacks_would_work_on_pickle_itself(tmp_path):
    """Else the test above would prove nothing."""
    for name in ("os.system", "posix.system by hand", "INST", "eval", "object array"):
        marker = tmp_path / name.replace(" ", "_")
        pickle.loads(attacks(marker)[name])
        assert marker.exists(), name


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("os.system", r"asks for (posix|nt)\.system$"),
        ("eval", r"asks for builtins\.eval$"),
        ("numpy.load", r"asks for numpy\.load$"),
        ("copyreg", r"asks for copyreg\.add_extension$"),
        ("BUILD on a function", "asks for os.system"),
    ],
)
def test_the_refusal_names_what_was_asked_for(name, refused):
    with pytest.raises(DataError, match=refused):
        unpickle(attacks("nowhere")[name])


def test_allowed_names_cannot_be_changed_called_wrongly_or_handed_out():
    with pytest.raises(DataError, match=r"may not change numpy\.core\.multiarray\._reconstruct"):
        unpickle(b"cnumpy.core.multiarray\n_reconstruct\n}S'make'\nI1\nsb.")
    with pytest.raises(DataError, match=r"may not call numpy\.ndarray"):
        unpickle(b"cnumpy\nndarray\n(I3\ntR.")
    with pytest.raises(DataError, match="holds a function or a type"):
        unpickle(b"cnumpy\nndarray\n.")
    with pytest.raises(DataError, match="Latin-1"):
        unpickle(b"cbuiltins\nbytes\n(I1000000000000\ntR.")  # 1 TB of zeros
    assert unpickle(pickle.dumps(np.arange(3))).tolist() == [0, 1, 2]


def forged(dtype, state, shape, content):
    """An array's pickle with a type, its state, a shape and bytes at will."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n"
    return (
        head + pickle.dumps(shape, 0)[:-1] + b"cnumpy\ndtype\n(S'" + dtype + b"'\nI0\nI1\ntR"
        + pickle.dumps(state, 0)[:-1] + b"bI00\n" + pickle.dumps(content, 0)[:-1] + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [b"O8", b"V8", b"O", b"S0", b"f8,O", b"M8[s]", b"f8\\n"])
def test_bytes_never_pass_for_objects(dtype):
    state = (3, "|", None, None, None, -1, -1, 0)  # flags 0: NumPy itself would take the bytes for pointers
    with pytest.raises(DataError, match="numbers or text, but got the type"):
        unpickle(forged(dtype, state, (1,), b"\0" * 8))


def test_a_type_with_fields_is_refused():
    with pytest.raises(DataError, match="a type with fields"):
        unpickle(pickle.dumps(np.zeros(2, [("a", "f8")])).replace(b"V8", b"f8"))
    with pytest.raises(DataError, match="'V8'"):
        unpickle(pickle.dumps(np.zeros(2, [("a", "f8")])))


@pytest.mark.parametrize("shape", [(2**40,), (2,), (-1,), (2**62, 4), ("1",)])
def test_an_array_must_have_the_bytes_of_its_shape(shape):
    with pytest.raises(DataError, match="an array of a pickle must have"):
        unpickle(forged(b"f8", (3, "<", None, None, None, -1, -1, 0), shape, b"\0" * 8))


def test_an_array_without_its_state_is_refused():
    with pytest.raises(DataError, match="holds objects"):
        unpickle(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.")


def test_memory_does_not_follow_what_a_pickle_says_of_itself():
    bombs = [
        b"]r\xff\xff\xff\x7f.",  # a memo of 2**31 places
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00N.",  # a frame of 2**56 bytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00N.",  # bytes that are not there
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00N.",
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            with suppress(DataError):
                unpickle(bomb)
        nested = []  # 2**60 lists to those who walk them all
        for _ in range(60):
            nested = [nested, nested]
        unpickle(pickle.dumps(nested))
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_depth_is_bounded():
    with pytest.raises(DataError, match="nested deeper than 100, but is"):
        unpickle(b"]" * 150 + b"a" * 149 + b".")


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(np.arange(100))[:-20], b"\x80\x09."])
def test_what_is_no_whole_pickle_is_refused(content):
    with pytest.raises(DataError, match="must be a whole pickle, but"):
        unpickle(content)


@given(st.binary(max_size=80))
def test_noise_is_read_or_refused_and_nothing_else(content):
    try:
        unpickle(content)
    except DataError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_damage_is_read_or_refused_and_nothing_else(data):
    content = bytearray(
        pickle.dumps({"a": np.arange(4.0), 3: [np.float64(2), "x"]}, data.draw(st.sampled_from(PROTOCOLS)))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpickle(bytes(content))
    except DataError as error:
        assert "\n" not in str(error)


def test_a_file_is_named(tmp_path):
    path = tmp_path / "s01.dat"
    with pytest.raises(DataError, match=r"s01\.dat: cannot be read: No such file"):
        unpickle_file(path)
    path.write_bytes(pickle.dumps(Calls(print, "x")))
    with pytest.raises(DataError, match=r"s01\.dat: a pickle may hold .* asks for builtins\.print"):
        unpickle_file(path)
    path.write_bytes(pickletools.optimize(pickle.dumps({"data": np.ones(3)}, 2)))
    assert unpickle_file(path)["data"].tolist() == [1, 1, 1]
