"""`fusionkit augment` from the command line: what it prints and writes, and what it refuses."""

import json

import pytest

from fusionkit.cli import main
from fusionkit.evaluation.classifiers import network
from fusionkit.recipe.write import dump_recipe

ENTRY = "augment={eeg: {kind: noise_copies, add: 1}}"


@pytest.fixture
def recipe_file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "STEPS", 5)
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(tiny(ENTRY)))
    return str(path)


def test_a_study_prints_its_table_and_verdict_and_writes_its_files(recipe_file, tmp_path, capsys):
    assert main(["augment", recipe_file, "--seeds", "1", "--sweep", "0,0.5"]) == 0
    said = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "tiny" / "augment").iterdir()
    for wanted in ("linear SVM", "shortcut network", "geometric copies", "no augmentation", "validation likes"):
        assert wanted in said
    assert "noise_copies (full, 1 times)" in said and f"wrote {folder / 'report.html'}" in said
    assert {path.name for path in folder.iterdir()} >= {"results.csv", "findings.json", "report.html", "recipe.yaml"}
    assert main(["augment", recipe_file, "--seeds", "1", "--sweep", "0,0.5", "--resume", "--json", "--no-report"]) == 0
    found = json.loads(capsys.readouterr().out)["sensors"]["eeg"]
    assert found["kind"] == "noise_copies" and {one["amount"] for one in found["compared"]} == {0, 0.5, 1}
    assert main(["train", recipe_file, "--resume"]) == 2  # a study is no run to go on with
    assert "error: --resume needs an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["augment={}"], "error: augment: must name a generative augmenter for a sensor, but the recipe has none"),
        (["--sweep", "1,two"], "error: --sweep must be numbers from 0 to 1000 between commas, but got 'two'"),
        (["--sweep", "1,-2"], "error: --sweep must be numbers from 0 to 1000 between commas, but got '-2'"),
        (["--sweep", "1,inf"], "error: --sweep must be numbers from 0 to 1000 between commas, but got 'inf'"),
        (["--sweep", "1,1e12"], "error: --sweep must be numbers from 0 to 1000 between commas, but got '1e12'"),
        (["augment.eeg.0.add=1e12"], "augment.eeg.0.add: input should be less than or equal to 1000"),
        (["--fold", "9"], "error: --fold must be one of 0 to 1, but got 9"),
        (["--seeds", "0"], "error: fusionkit augment: invalid value for '--seeds'"),
        (["--resume"], "error: --resume needs an earlier study"),
        (["augment.eeg.0.add=-1"], "augment.eeg.0.add"),
        (["augment.eeg.0.kind=sonar"], "augment.eeg.0.kind: no augment component named 'sonar'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(recipe_file, tmp_path, capsys, words, message):
    assert main(["augment", recipe_file, *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
