"""Bundles that break a rule are refused in one line; nothing in them is executed."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from fusionkit.runtime import BundleError, Session, read_bundle


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
