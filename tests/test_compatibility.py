"""torchaudio through its one door, beside a torch that its extension fits and beside one that it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

START = """
import importlib.util, sys
sys.path[:0] = {folders!r}
spec = importlib.util.spec_from_file_location("compatibility", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
load_torchaudio = module.load_torchaudio
"""


def run(code: str, *folders: Path) -> str:
    """What a fresh interpreter prints that sees ``folders`` before everything installed, and has no torch."""
    file = str(ROOT / "fusionkit" / "core" / "compatibility.py")
    start = START.format(folders=[*map(str, folders)], file=file)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_torchaudio(folder: Path, extension: str) -> Path:
    """A package torchaudio whose ``_extension`` runs the given code."""
    package = folder / "torchaudio"
    package.mkdir(parents=True)
    (package / "early.py").write_text("")
    (package / "__init__.py").write_text(
        "from . import early\nfrom . import _extension\nfrom ._extension import _IS_TORCHAUDIO_EXT_AVAILABLE as real\n"
    )
    (package / "_extension.py").write_text(extension)
    return folder


@pytest.fixture
def installed():
    """The torchaudio of this environment, with its own extension or without."""
    from fusionkit.core.compatibility import load_torchaudio

    return load_torchaudio()


def test_the_installed_torchaudio_works_whole(installed):
    import torch
    import torchaudio
    import torchaudio.functional
    import torchaudio.transforms

    assert installed is torchaudio
    tone = torch.sin(torch.arange(16000) * 0.1)
    assert torchaudio.functional.resample(tone, 16000, 8000).shape == (8000,)
    assert torchaudio.transforms.MelSpectrogram(16000, n_fft=512, n_mels=40)(tone).shape == (40, 63)
    assert torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16000).shape == (257, 40)
    masked = torchaudio.functional.mask_along_axis_iid(torch.ones(2, 1, 8, 9), 4, 0.0, 3)
    assert masked.shape == (2, 1, 8, 9)


def test_asking_twice_gives_the_same_module(installed):
    from fusionkit.core.compatibility import load_torchaudio

    assert load_torchaudio() is installed


def test_a_real_extension_that_loads_is_left_alone(tmp_path):
    folder = make_torchaudio(tmp_path, "_IS_TORCHAUDIO_EXT_AVAILABLE = 'the real one'\n")
    assert run("print(load_torchaudio().real)", folder) == "the real one"


@pytest.mark.parametrize(
    "failure",
    [
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "raise ImportError('undefined symbol')",
        "raise RuntimeError('Detected that PyTorch and TorchAudio were compiled with different CUDA versions')",
        "import no_such_dependency",
    ],
)
def test_an_extension_that_does_not_load_is_stood_in_for(tmp_path, failure):
    folder = make_torchaudio(tmp_path, failure + "\n")
    code = """
ta = load_torchaudio()
import torchaudio, torchaudio._extension as extension
assert ta is torchaudio and ta._extension is extension
assert sys.modules['torchaudio.early'] is ta.early
print(ta.real)
"""
    assert run(code, folder) == "False"


def test_what_needs_the_extension_says_so(tmp_path):
    folder = make_torchaudio(tmp_path, "raise OSError('no')\n")
    code = """
def forced_align(): pass
load_torchaudio()
try: sys.modules['torchaudio._extension'].fail_if_no_align(forced_align)(1, 2)
except RuntimeError as error: print(error)
"""
    assert "forced_align needs torchaudio's compiled extension" in run(code, folder)


def test_a_torchaudio_broken_otherwise_raises_and_leaves_nothing_behind(tmp_path):
    folder = make_torchaudio(tmp_path, "raise OSError('no')\n")
    (folder / "torchaudio" / "early.py").write_text("raise ValueError('broken')\n")
    (folder / "torchaudio" / "__init__.py").write_text("from . import _extension\nfrom . import early\n")
    code = """
try: load_torchaudio()
except ValueError as error: print(error, [name for name in sys.modules if name.startswith('torchaudio')])
"""
    assert run(code, folder) == "broken []"


def test_a_missing_torchaudio_is_an_import_error(tmp_path):
    code = """
import importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == 'torchaudio': raise ModuleNotFoundError("No module named 'torchaudio'", name='torchaudio')
sys.meta_path.insert(0, Hide())
try: load_torchaudio()
except ModuleNotFoundError as error: print(error.name, 'torchaudio._extension' in sys.modules)
"""
    assert run(code) == "torchaudio False"


def test_importing_our_sensor_imports_no_torchaudio():
    code = f"sys.path.insert(0, {str(ROOT)!r})\nimport fusionkit.modalities.audio\nprint('torchaudio' in sys.modules)"
    assert run(code) == "False"
