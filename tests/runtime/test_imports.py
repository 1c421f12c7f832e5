"""The runtime imports next to nothing, at once; a bundle answers within a second of the interpreter's start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime import little

ROOT = Path(__file__).parents[2]
LEAN = {"numpy", "scipy", "onnxruntime", "tokenizers", "fusionkit"}
"""What an environment for a closed loop holds."""
ONLY = f"""
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if path is None and name not in sys.stdlib_module_names and name[0] != '_' and name not in {LEAN!r}:
            raise ModuleNotFoundError(f"no module named {{name!r}} in this environment", name=name)
sys.meta_path.insert(0, Only())
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("little") / "little.fusion"
    path.write_bytes(little.pack(little.manifest(), little.files()))
    return path


def run(code, *options):
    """What a fresh interpreter prints, which ends well."""
    ended = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended


def modules(code):
    """Packages that were imported, without the standard library's."""
    said = run(f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))").stdout.splitlines()[-1]
    found = {name.split(".")[0] for name in json.loads(said)} - set(sys.stdlib_module_names)
    return {name for name in found if not name.startswith(("_", "sitecustomize"))}


def test_the_runtime_needs_numpy_and_onnxruntime_alone(bundle):
    answered = f"from fusionkit.runtime import Session; session = Session.load({str(bundle)!r}); session.check()"
    assert modules(answered) <= {"fusionkit", "numpy", "onnxruntime"}
    assert modules(f"{answered}; session.predict({{'text': 'a'}})") <= {
        "fusionkit",
        "numpy",
        "onnxruntime",
        "tokenizers",
    }
    assert "scipy" in modules(f"{answered}; session.chain('eeg')")
    assert "scipy" not in modules("import fusionkit.runtime")


def test_the_interpreter_reports_no_torch(bundle):
    code = f"from fusionkit.runtime import Session; Session.load({str(bundle)!r}).predict({{'text': 'a'}})"
    told = run(code, "-X", "importtime").stderr
    named = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in told.splitlines() if "|" in line}
    assert "onnxruntime" in named and not named & {"torch", "torchaudio", "pydantic", "mne", "h5py", "sklearn", "onnx"}


def test_a_bundle_answers_where_there_is_nothing_else(bundle):
    run(
        ONLY + "import numpy as np\n"
        "from fusionkit.runtime import Session\n"
        f"session = Session.load({str(bundle)!r})\n"
        "assert session.check() < 1e-6 and session.explain()\n"
        "session.predict({'text': 'by the lake'}, calibrated=True)\n"
        "assert session.chain('eeg').push(np.zeros((20, 4))).shape == (10, 4)\n"
    )


def test_import_and_first_prediction_take_less_than_a_second(bundle):
    """Processor time, of an exported model too: the machine's other work does not count."""
    code = (
        "from fusionkit.runtime import Session\n"
        f"Session.load({str(bundle)!r}).predict({{'text': 'by the lake'}})\n"
        "import time; print(time.process_time())"
    )
    assert min(float(run(code).stdout) for _ in range(3)) < 1


@pytest.mark.slow
def test_import_and_first_prediction_of_an_exported_model_take_less_than_a_second(tiny_run):
    code = (
        "from fusionkit.runtime import Session\n"
        f"Session.load({str(tiny_run.folder / 'model.fusion')!r}).predict({{'text': 'by the lake'}})\n"
        "import time; print(time.process_time())"
    )
    assert min(float(run(code).stdout) for _ in range(3)) < 1
