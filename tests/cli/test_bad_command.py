"""Slips on the command line, and runs and bundles that are none: one line, exit code 2, nothing written."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "quikstart"], r"no recipe named 'quikstart'; did you mean 'quickstart'\?; known: \[.*\]"),
        (["train", "none.yaml"], r"none\.yaml: a recipe must be a file that can be read, but No such file or directory"),
        (["train", "manifest"], r"manifest\.yaml:\d+: data\.path: must be given on the command line: data\.path=VALUE"),
        (["train", "r.yaml", "train.epoch=3"], r"command line: train\.epoch: no such option; did you mean 'epochs'\?.*"),
        (["train", "r.yaml", "train.epochs=many"], r"command line: train\.epochs: .*integer.*got 'many'"),
        (["train", "r.yaml", "epochs"], r"command line: an override must be KEY=VALUE, but got 'epochs'"),
        (["train", "r.yaml", "name=../x"], r"command line: name: a name must be .*, but got '\.\./x'"),
        (["train", "r.yaml", "plugins=[plug]"], (r"command line: plugins\.0: a plugin must be a module that imports, but "
         r"plug: ZeroDivisionError: division by zero \(.*plug\.py:2\)")),
        (["train", "r.yaml", "--fats"], r"fusionkit train: no such option: --fats \(see `fusionkit train --help`\)"),
        (["train", "r.yaml", "--fold", "x"], r"fusionkit train: invalid value for '--fold': .* \(see .*\)"),
        (["train"], r"fusionkit train: missing argument .* \(see `fusionkit train --help`\)"),
        (["tarin"], r"fusionkit: no such command 'tarin'.* \(see `fusionkit --help`\)"),
        (["data", "inspcet", "."], r"fusionkit data: no such command 'inspcet'.* \(see `fusionkit data --help`\)"),
        (["data", "inspect", "none"], r"none: no such file or folder"),
        (["init", "none.csv"], r"none\.csv: no such file"),
        (["explain", "rctf"], r"no component named 'rctf'; did you mean 'rcft'\?; known: \[.*\]"),
        (["ls", "fusoin"], r"no family named 'fusoin'; did you mean 'fusion'\?; known: \[.*\]"),
        (["copy", "quikstart"], r"no recipe named 'quikstart'; did you mean 'quickstart'\?; known: \[.*\]"),
        (["show", "none.yaml"], r"none\.yaml: a recipe must be a file that can be read, .*"),
        (["conform"], r"name a component"),
        (["bench", "training", "--device", "abacus"], r"--device must name a device of this machine, but 'abacus' .*"),
    ],
)  # fmt: skip
def test_a_slip_on_the_command_line_is_named(lab, refusal, monkeypatch, words, message, left):
    (lab / "plug.py").write_text("x = 1\nx / 0\n")
    monkeypatch.syspath_prepend(lab)
    before = left(lab)
    (line,) = refusal(*words)
    assert re.fullmatch(message, line)
    assert {path for path in left(lab) - before if "__pycache__" not in path} == set()


def run(*words, cwd):
    """The program itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fusionkit", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [["train", "r.yaml"], ["tarin"], ["evaluate", "nothing"], ["train", "r.yaml", "a.b=1"]]
)
def test_the_program_says_it_in_a_line_and_ends_with_2(lab, words):
    (lab / "2.edf").unlink()
    done = run(*words, cwd=lab)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .+\n", done.stderr) and "Traceback" not in done.stderr
    assert not list(lab.glob("runs/small*"))


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export"])
@pytest.mark.parametrize("name", ["nothing", "nothing.fusion", ".", "0.wav"])
def test_what_is_no_run_and_no_bundle_is_refused(lab, refusal, verb, name):
    (line,) = refusal(verb, name)
    assert line.startswith(f"{name}: a ")
    assert re.search("must be a (run folder|folder with a recipe.yaml|zip file)", line)


@pytest.fixture
def spoiled(tiny_run, tmp_path, monkeypatch):
    """A copy of a finished run that may be damaged."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fold", "7"], r"run: fold 7 of 'fused' must be trained to the end, but it is not; those that are: \[0\]"),
        (["--without", "egg"], r"no sensor named 'egg'; did you mean 'eeg'\?; known: \['eeg', 'text'\]"),
        (["--without", "eeg", "--without", "text"], r"at least one sensor must be left, .*"),
        (["train.epochs=3"], r"only data\.\*, run\.\* and train\.device may be changed .* got \['train\.epochs=3'\]"),
        (["data.kind=manifest", "data.path=none.csv"], r"none\.csv: no such file"),
        (["-o", "run"], r"-o must name a file that can be written, but run: is a folder"),
    ],
)
def test_a_run_is_asked_in_vain(spoiled, refusal, words, message, left):
    before = left(spoiled.parent)
    (line,) = refusal("predict", "run", "run.dir=runs", *words)
    assert re.fullmatch(message, line)
    assert left(spoiled.parent) == before


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "fold-0/fused/best.safetensors"])
def test_a_damaged_run_is_refused(spoiled, refusal, name):
    os.truncate(spoiled / name, (spoiled / name).stat().st_size // 2)
    lines = refusal("predict", "run", "run.dir=runs")  # half a recipe may have several problems
    assert lines and all(line.startswith("run") for line in lines)


def test_a_fold_of_a_bundle_or_of_all_folds_is_refused(spoiled, refusal):
    assert refusal("predict", "run/model.fusion", "--fold", "0") == [
        "--fold is for runs, but run/model.fusion is no run and holds the model of one fold"
    ]
    (line,) = refusal("evaluate", "run", "--fold", "0")
    assert line.startswith("--fold is for other data (data.path=...)")


def test_a_damaged_or_foreign_bundle_is_refused(spoiled, refusal):
    content = (spoiled / "model.fusion").read_bytes()
    (spoiled / "cut.fusion").write_bytes(content[:-100])
    (line,) = refusal("predict", "run/cut.fusion")
    assert line == "run/cut.fusion: a bundle must be a zip file, but File is not a zip file"
    with zipfile.ZipFile(spoiled / "odd.fusion", "w") as archive:
        archive.writestr("manifest.json", '{"format": "fusionkit-bundle", "version": 1, "sha256": {}}')
    (line,) = refusal("predict", "run/odd.fusion")
    assert line == "run/odd.fusion: manifest.json: version must be 2, which this fusionkit reads, but got 1"


def test_export_looks_where_it_goes_before_it_works(spoiled, refusal, monkeypatch):
    monkeypatch.setattr("fusionkit.export.run.export_run", None)
    (line,) = refusal("export", "run", "-o", "run")
    assert line == "-o must name a file that can be written, but run: is a folder"
    (line,) = refusal("export", "run", "-o", "run/run.json/x.fusion")
    assert line.startswith("-o must name a file that can be written, but run/run.json/x.fusion: ")
