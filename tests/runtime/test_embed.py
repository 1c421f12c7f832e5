"""The examples for whoever embeds a bundle run, and agree."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusionkit.runtime import Session
from tests.runtime import little

EXAMPLES = Path(__file__).parents[2] / "examples" / "embed"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The little bundle, windows as files, and what the runtime answers."""
    folder = tmp_path_factory.mktemp("embed")
    (folder / "little.fusion").write_bytes(little.pack(little.manifest(), little.files()))
    eeg, ids = np.random.default_rng(0).normal(0, 1e-5, (4, 50)).astype(np.float32), np.array([5, 6, 7])
    np.save(folder / "eeg.npy", eeg)
    np.save(folder / "text.npy", ids)
    eeg.tofile(folder / "eeg.f32")
    ids.tofile(folder / "text.i64")
    session, statistics = Session.load(folder / "little.fusion"), {"eeg": (np.zeros((4, 1)), np.ones((4, 1)))}
    answers = [session.predict(w, statistics=statistics) for w in ({"eeg": eeg, "text": ids}, {"text": ids})]
    return folder, [[*found["target"][0], found["effort"][0, 0]] for found in answers]


def decide(*command, cwd):
    """The last word of every line it prints, a number."""
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [float(line.split()[-1]) for line in ended.stdout.splitlines()]


def test_plain_onnx_runtime_decides_as_the_runtime_does(parts):
    folder, (both, alone) = parts
    script = EXAMPLES / "onnxruntime" / "decide.py"
    got = decide(sys.executable, script, "little.fusion", "eeg=eeg.npy", "text=text.npy", cwd=folder)
    np.testing.assert_allclose(got, both, atol=1e-5)
    np.testing.assert_allclose(
        decide(sys.executable, script, "little.fusion", "text=text.npy", cwd=folder), alone, atol=1e-5
    )


def test_the_runtimes_example_decides(parts):
    folder, _ = parts
    script = EXAMPLES / "python" / "decide.py"
    got = decide(sys.executable, script, "little.fusion", "text=by the calm lake", cwd=folder)
    found = Session.load(folder / "little.fusion").predict({"text": "by the calm lake"})
    np.testing.assert_allclose(got, [*found["target"][0], found["effort"][0, 0]], atol=1e-5)


def test_the_examples_are_short():
    for file in ("python/decide.py", "onnxruntime/decide.py", "cpp/decide.cpp"):
        lines = [line for line in (EXAMPLES / file).read_text().splitlines() if line.strip()]
        assert len(lines) <= (75 if file.endswith("cpp") else 40), file


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_cpp_example_decides_as_the_runtime_does(parts):
    """Needs ONNX Runtime's headers (the archive of a release), which no package registry of Python has."""
    folder, (both, alone) = parts
    header = next(Path("/usr").rglob("onnxruntime_cxx_api.h"), None)
    if header is None:
        pytest.skip("no headers of ONNX Runtime")
    program = folder / "decide"
    source = EXAMPLES / "cpp" / "decide.cpp"
    subprocess.run(["g++", "-std=c++17", f"-I{header.parent}", source, "-o", program, "-lonnxruntime"], check=True)
    subprocess.run(["unzip", "-q", "little.fusion", "model.onnx", "-d", "model"], check=True, cwd=folder)
    np.testing.assert_allclose(
        decide(program, "model/model.onnx", "eeg=eeg.f32", "text=text.i64", cwd=folder), both, atol=1e-5
    )
    np.testing.assert_allclose(decide(program, "model/model.onnx", "text=text.i64", cwd=folder), alone, atol=1e-5)
