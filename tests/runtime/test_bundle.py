"""Bundles that break a rule are refused in one line; nothing in them is executed."""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fusionkit.runtime import Bundle, BundleError, Session, read_bundle, read_manifest
from tests.runtime import little

ROOT = Path(__file__).parents[2]


def rewrite(source, target, change):
    """Copy a bundle with its files changed; the hashes are put right again unless ``change`` returns False."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    keep = change(files)
    if keep is not False and "manifest.json" in files:
        manifest = json.loads(files["manifest.json"])
        manifest["sha256"] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "manifest.json"}
        files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def spoil(files):
    files["recipe.yaml"] += b"#"
    return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.update({"../evil": b"x"}), r"names of files must be plain, but got '\.\./evil'"),
        (lambda files: files.update({"/etc/evil": b"x"}), "names of files must be plain"),
        (spoil, r"'recipe\.yaml' must have the hash of the manifest"),
        (lambda files: files.pop("manifest.json") and None, r"must have a manifest\.json"),
        (lambda files: files.update({"model.onnx": b"no graph"}), r"model\.onnx must be a graph"),
    ],
)
def test_a_bundle_that_breaks_a_rule_is_refused(tiny_run, tmp_path, change, message):
    path = rewrite(tiny_run.folder / "model.fusion", tmp_path / "bad.fusion", change)
    with pytest.raises(BundleError, match=message) as raised:
        Session.load(path)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_zip_file_is_refused(tmp_path):
    path = tmp_path / "x.fusion"
    path.write_bytes(b"hello")
    with pytest.raises(BundleError, match="a bundle must be a zip file"):
        read_bundle(path)
    with pytest.raises(BundleError, match=r"none\.fusion: a bundle must be a file that can be read, but No such file"):
        read_bundle(tmp_path / "none.fusion")


def test_a_truncated_bundle_is_refused(tiny_run, tmp_path):
    content = (tiny_run.folder / "model.fusion").read_bytes()
    for share in (0.2, 0.7, 0.99):
        path = tmp_path / "cut.fusion"
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(BundleError):
            Session.load(path)


def test_a_flipped_byte_is_refused_or_changes_nothing(tiny_run, tmp_path):
    content = bytearray((tiny_run.folder / "model.fusion").read_bytes())
    whole = read_bundle(tiny_run.folder / "model.fusion")
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / "flip.fusion"
        path.write_bytes(spoiled)
        try:
            found = read_bundle(path)
        except BundleError:
            continue
        assert found.files == whole.files


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"sonar": np.zeros(3)}, r"sensors must be among \['eeg', 'text'\], but got \['sonar'\]"),
        ({}, "at least one sensor must be given"),
        ({"eeg": np.zeros((3, 128))}, r"eeg: a window must have shape \[19, None\] .* but got \[3, 128\]"),
        ({"eeg": np.zeros((19, 128))}, "eeg: shift and scale .* must be given"),
    ],
)
def test_wrong_inputs_are_named(tiny_run, windows, message):
    with pytest.raises(BundleError, match=message):
        Session.load(tiny_run.folder / "model.fusion").predict(windows)


def test_what_unpacks_without_bound_is_refused(tiny_run, tmp_path):
    """zipfile holds bzip2 and LZMA in memory whole, whatever size the directory says."""
    path = tmp_path / "bomb.fusion"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("model.onnx", bytes(10**6))
    with pytest.raises(BundleError, match=r"'model\.onnx' must be stored or deflated"):
        read_bundle(path)


def test_a_graph_that_reads_files_of_the_machine_is_refused(tiny_run, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")

    def outside(files):
        model = onnx.load_from_string(files["model.onnx"])
        tensor = next(t for t in model.graph.initializer if len(t.raw_data) >= 128)
        (tmp_path / "secret").write_bytes(tensor.raw_data)
        for key, value in (("location", "secret"), ("offset", "0"), ("length", str(len(tensor.raw_data)))):
            tensor.external_data.add(key=key, value=value)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        files["model.onnx"] = model.SerializeToString()

    monkeypatch.chdir(tmp_path)
    path = rewrite(tiny_run.folder / "model.fusion", tmp_path / "bad.fusion", outside)
    with pytest.raises(BundleError, match=r"model\.onnx must hold its weights, but external data"):
        Session.load(path)


def test_lengths_of_one_sensor_leave_the_others_whole(tiny_run):
    session = Session.load(tiny_run.folder / "model.fusion")
    windows = {"eeg": np.zeros((1, 19, 128)), "text": "a calm evening by the lake"}
    statistics = {"eeg": (np.zeros((19, 5)), np.ones((19, 5)))}
    whole = session.predict(windows, statistics=statistics)["target"]
    said = session.predict(windows, statistics=statistics, lengths={"eeg": np.array([128])})["target"]
    np.testing.assert_array_equal(whole, said)


def test_a_sensor_without_a_window_is_absent_whatever_is_said(tiny_run):
    session = Session.load(tiny_run.folder / "model.fusion")
    alone = session.predict({"text": "a calm evening"})["target"]
    np.testing.assert_array_equal(session.predict({"text": "a calm evening"}, present={"eeg": [True]})["target"], alone)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"present": {"egg": [True]}}, r"sensors must be among \['eeg', 'text'\], but got \['egg'\]"),
        ({"present": {"text": [True, False]}}, "text: present must be one for each of 1 windows, but got"),
        ({"lengths": {"text": [1, 2]}}, "text: lengths must be one for each of 1 windows, but got"),
        ({"windows": {"text": 5}}, "text: a window must have shape"),
        (
            {"windows": {"eeg": np.zeros((19, 128))}, "statistics": {"eeg": (np.zeros((2, 5)), np.ones((2, 5)))}},
            "eeg: shift and scale must have shape",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(tiny_run, given, message):
    session = Session.load(tiny_run.folder / "model.fusion")
    with pytest.raises(BundleError, match=message) as raised:
        session.predict(**{"windows": {"text": "calm"}, **given})
    assert len(str(raised.value).splitlines()) == 1


def test_a_session_gives_a_fresh_chain_for_a_stream(tiny_run, tmp_path):
    def streams(steps):
        def change(files):
            manifest = json.loads(files["manifest.json"])
            manifest["sensors"]["eeg"]["chain"] = steps
            files["manifest.json"] = json.dumps(manifest).encode()

        return Session.load(rewrite(tiny_run.folder / "model.fusion", tmp_path / "a.fusion", change))

    session = Session.load(tiny_run.folder / "model.fusion")
    samples = np.random.default_rng(0).normal(0, 1e-5, (50, 19)).astype(np.float32)
    np.testing.assert_array_equal(session.chain("eeg").push(samples), samples)
    halved = streams([{"step": "resample", "up": 1, "down": 2}])
    assert halved.chain("eeg").push(samples).shape == (25, 19) and halved.chain("eeg") is not halved.chain("eeg")
    with pytest.raises(BundleError, match=r"no sensor named 'ecg'; known: \['eeg', 'text'\]"):
        session.chain("ecg")
    sections = {"step": "bank", "sos": [[[0.5, 0, 0, 1, 0, 0]], [[0.25, 0, 0, 1, 0, 0]]]}
    banked = streams([{"step": "resample", "up": 1, "down": 2}, sections])
    assert banked.chain("eeg").push(samples).shape == (25, 19, 2)
    assert banked.chain("eeg", bank=False).push(samples).shape == (25, 19)
    with pytest.raises(BundleError, match="eeg: a stream needs causal steps, but this sensor looked ahead"):
        streams(None).chain("eeg")
    with pytest.raises(BundleError, match="chain step 1: step must be one of"):
        streams([{"step": "exec"}]).chain("eeg")


def packed(files, compression=zipfile.ZIP_DEFLATED):
    """An archive of what is given, names as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return bytearray(buffer.getvalue())


def directory(content, name):
    """Where the directory of an archive speaks of a file."""
    place = content.index(b"PK\x01\x02")
    while content[place + 46 : place + 46 + struct.unpack_from("<H", content, place + 28)[0]] != name.encode():
        place = content.index(b"PK\x01\x02", place + 1)
    return place


@pytest.fixture
def refused(tmp_path):
    def read(content, message):
        path = tmp_path / "x.fusion"
        path.write_bytes(content)
        with pytest.raises(BundleError, match=message) as raised:
            read_bundle(path)
        assert len(str(raised.value).splitlines()) == 1 and str(raised.value).startswith(str(path))

    return read


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../x", "/etc/x", "C:/x", "a\\x", "a//b", "./x", ".", "x ", "a/", "\u202ex", "x" * 201, "a\nb"],
)
def test_names_that_lead_elsewhere_are_refused(refused, name):
    refused(packed([(name, b"x")]), "names of files must be plain, but got")


def test_a_name_twice_is_refused(refused):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(packed([("a", b"1"), ("a", b"2")]), "names of files must differ, but 'a' occurs twice")
    refused(packed([("model.onnx", b"1"), ("Model.onnx", b"2")]), r"must differ, but 'Model\.onnx' occurs twice")


def test_a_bomb_is_refused_before_it_is_unpacked(refused):
    refused(
        packed([("bomb", bytes(10**8))]), "'bomb' must unpack to at most 100 times its size, but says 100000000 bytes"
    )
    pieces = packed([(f"b{n}", bytes(9 * 10**5)) for n in range(2500)])  # each below the megabyte that is free
    refused(pieces, "must unpack to at most 2147483648 bytes")


def test_sizes_that_are_lies_are_refused(refused):
    noise = np.random.default_rng(0).bytes(1000)
    for said, message in ((10**9, "must unpack to at most 100 times"), (10, "must be readable|must have 10 bytes")):
        content = packed([("a", noise)])
        struct.pack_into("<I", content, directory(content, "a") + 24, said)
        refused(content, message)
    content = packed([("a", noise), ("b", noise)])
    struct.pack_into("<I", content, directory(content, "a") + 20, 5 * 10**6)  # so that the ratio is no bomb's
    refused(content, "files must have packed bytes of their own|must be readable")


def test_files_that_share_packed_bytes_are_refused(refused):
    """As in a bomb of many names for one stretch of zeros."""
    content = packed([(f"b{n}", np.random.default_rng(n).bytes(1000)) for n in range(20)], zipfile.ZIP_STORED)
    first = directory(content, "b0")
    for n in range(1, 20):
        place = directory(content, f"b{n}")
        struct.pack_into("<II", content, place + 20, 2000, 2000)
        struct.pack_into("<I", content, place + 42, struct.unpack_from("<I", content, first + 42)[0])
    refused(content, "files must have packed bytes of their own")


def test_what_is_encrypted_is_refused(refused):
    content = packed([("manifest.json", b"{}")])
    struct.pack_into("<H", content, directory(content, "manifest.json") + 8, 1)
    refused(content, r"'manifest\.json' must be readable, but")


def test_many_files_are_refused(refused):
    refused(packed([(f"f{n}", b"") for n in range(10_001)]), "must hold at most 10000 files, but holds 10001")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BundleError, match="a bundle must be a file of at most"):
            read_bundle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "manifest.json must be of fusionkit-bundle"),
        (b"{", "manifest.json must be JSON"),
        (b"[" * 10**5, "manifest.json must be JSON, but"),
        (b'{"a": 1, "a": 2}', "manifest.json must be JSON, but a key occurs twice in an object"),
        (b'{"a": NaN}', "manifest.json must be JSON, but NaN is no number"),
        (b"1" * 10**4, "manifest.json must be JSON"),
        (b"\xff\xfe", "manifest.json must be JSON"),
        (b" " * (2**24 + 1), "manifest.json must have at most 16777216 bytes"),
    ],
)
def test_a_manifest_that_is_no_json_is_refused(refused, content, message):
    refused(packed([("manifest.json", content)], zipfile.ZIP_STORED), message)


def test_files_that_the_manifest_does_not_know_are_refused(refused):
    files = little.files()
    described = little.manifest() | {"sha256": {name: hashlib.sha256(one).hexdigest() for name, one in files.items()}}
    refused(
        little.pack(described, files | {"more": b""}, hashed=False), "must list every file, but 'more' is not in both"
    )
    files.pop("recipe.yaml")
    refused(little.pack(described, files, hashed=False), r"must list every file, but 'recipe\.yaml' is not in both")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.opset_import[0].__setattr__("version", 17), "operators of version 18 to 26, but says 17"),
        (lambda model: model.opset_import[0].__setattr__("domain", "com.microsoft"), "imports 'com.microsoft'"),
        (lambda model: model.graph.node[0].__setattr__("domain", "evil"), "but one is of 'evil'"),
        (lambda model: model.graph.node[0].__setattr__("op_type", "Loop"), "not have the operator Loop, which goes on"),
        (lambda model: model.functions.add(name="f"), "brings functions or training of its own"),
        (lambda model: model.training_info.add(), "brings functions or training of its own"),
        (lambda model: model.graph.sparse_initializer.add(), "must have plain tensors"),
        (lambda model: model.graph.initializer[0].dims.append(-1), "tensors of at most 536870912 numbers, but 'zero' is"),
        (lambda model: model.graph.initializer[0].dims.append(2**40), "tensors of at most 536870912 numbers"),
        (lambda model: model.graph.initializer[0].dims.append(2), r"tensor 'zero' of shape \[2\] must hold as much"),
        (lambda model: model.graph.initializer[0].__setattr__("data_type", 8), "tensors of numbers, but 'zero' is of type 8"),
        (lambda model: model.__setattr__("ir_version", 99), "must be of ONNX IR 3 to 13, but says 99"),
        (lambda model: model.ClearField("graph"), "must hold one graph and the version of its operators"),
        (lambda model: model.graph.node[0].attribute.add(name="a", g=deep(12)), "must have graphs at most 8 deep"),
    ],
)  # fmt: skip
def test_a_graph_that_is_foreign_is_refused(change, message):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(little.files()["model.onnx"])
    change(model)
    with pytest.raises(BundleError, match=rf"^x: model.onnx.* {message}"):
        Session(
            Bundle("x", read_manifest(little.manifest()), little.files() | {"model.onnx": model.SerializeToString()})
        )


def deep(levels):
    """A graph in a graph in a graph."""
    import onnx

    inner = onnx.GraphProto(name="inner")
    for _ in range(levels):
        outer = onnx.GraphProto(name="outer")
        outer.node.add(op_type="If").attribute.add(name="then_branch", g=inner)
        inner = outer
    return inner


def test_a_graph_that_blows_up_its_numbers_fails_alone():
    """In a process of its own with a small arena: the refusal comes before the memory is taken."""
    code = (
        "import onnx, fusionkit.runtime.graph as graph\n"
        "from onnx import TensorProto as T, helper as h\n"
        "graph.LIMIT_BYTES = 2**28\n"
        "size = h.make_tensor('n', T.INT64, [1], [10**9])\n"
        "nodes = [h.make_node('ConstantOfShape', ['n'], ['b']), h.make_node('ReduceSum', ['b'], ['y'], keepdims=0)]\n"
        "made = h.make_graph(nodes, 'g', [], [h.make_tensor_value_info('y', T.FLOAT, [])], [size])\n"
        "model = h.make_model(made, opset_imports=[h.make_opsetid('', 20)], ir_version=10)\n"
        "try:\n    print(graph.open_graph(model.SerializeToString(), 'g').run(None, {}))\n"
        "except Exception as error:\n    print(' '.join(str(error).split()))\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    refusal, peak = said.splitlines()
    assert "Available memory of" in refusal and int(peak) < 500_000  # kB


def test_a_channel_that_is_nan_is_a_channel_that_is_zero(tiny_run):
    """Neither was measured, for the graph of a trained model; of other sensors no number may be NaN."""
    session = Session.load(tiny_run.folder / "model.fusion")
    eeg = np.random.default_rng(0).normal(0, 1e-5, (2, 19, 128)).astype(np.float32)
    statistics = {"eeg": (np.zeros((19, 5)), np.ones((19, 5)))}
    answers = []
    for spoil in (0.0, np.nan, np.inf):
        spoiled = eeg.copy()
        spoiled[0, 4] = spoil
        answers.append(session.predict({"eeg": spoiled}, statistics=statistics)["target"])
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)
    np.testing.assert_array_equal(answers[2], answers[1])
    assert np.isfinite(answers).all() and np.abs(answers[0][0] - answers[0][1]).max() > 1e-4
    assert session.check() < 1e-4
