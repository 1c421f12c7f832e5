"""`fusionkit pretrain` from the command line: what it prints and writes, how `train` begins with it, what it refuses."""

import json

import pytest

from fusionkit.cli import main
from fusionkit.recipe.write import dump_recipe

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 2, batch: 8}"


@pytest.fixture
def recipe_file(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(tiny()))
    return str(path)


def test_a_run_is_made_that_train_begins_with(recipe_file, tmp_path, capsys):
    assert main(["pretrain", recipe_file, STAGE, "--fold", "0"]) == 0
    said = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert "records/s" in said and "uniformity" in said and f"init.from={folder}" in said
    page = (folder / "report.html").read_text()
    assert "<h2>Pretraining</h2>" in page and "<svg" in page and "<script src" not in page
    begun = [f"init.from={folder}", "init.lr_scale=0.1", "init.freeze=until(1)", "name=after"]
    assert main(["train", recipe_file, *begun, "--fold", "0", "--no-export", "--no-report"]) == 0
    assert list((tmp_path / "runs" / "after").glob("*/metrics.json"))


def test_a_report_of_training_has_the_pretraining_too(recipe_file, tmp_path):
    assert main(["train", recipe_file, STAGE, "--fold", "0", "--no-export"]) == 0
    (page,) = (tmp_path / "runs" / "tiny").glob("*/report.html")
    assert "<h2>Pretraining</h2>" in page.read_text() and "embeddings after the last epoch" in page.read_text()


def test_json_has_measures_by_fold(recipe_file, capsys):
    assert main(["pretrain", recipe_file, STAGE, "--json", "--no-report"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["folds"]) == {"0", "1"}
    assert set(found["folds"]["1"]["measures"]["eeg"]) == {"spread", "alignment", "uniformity"}


def test_check_and_show_say_the_stages(recipe_file, capsys):
    assert main(["check", recipe_file, STAGE]) == 0
    assert "pretrain.0: nt_xent for 2 epochs, encoders of eeg, text" in capsys.readouterr().out
    assert main(["show", recipe_file, STAGE]) == 0
    assert "before, pretrain.0: nt_xent, encoders of eeg, text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: pretrain: must have a stage to be run"),
        ([STAGE, "--fold", "7"], "error: --fold must be one of 0 to 1, but got 7"),
        ([STAGE, "--resume"], "error: --resume needs an earlier run"),
        (
            ["pretrain={objectives: [{kind: none}]}"],
            "error: command line: pretrain.objectives.0.kind: no objectives comp",
        ),
        ([STAGE, "init.from=nowhere"], "error: init.from: nowhere: a run must be a folder with a recipe.yaml"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(recipe_file, tmp_path, capsys, words, message):
    assert main(["pretrain", recipe_file, *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(message)
    assert not (tmp_path / "runs" / "tiny").exists()


@pytest.mark.parametrize("verb", ["check", "pretrain", "train"])
def test_what_an_objective_cannot_learn_is_refused_by_check_too(recipe_file, tmp_path, capsys, verb):
    stage = "pretrain={objectives: [{kind: next_token}], encoders: [text]}"
    assert main([verb, recipe_file, stage, "modalities.text.encoder={kind: transformer, heads: 2}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(
        "error: command line: pretrain.objectives.0: next_token must have an encoder that looks at no"
    )
    assert not (tmp_path / "runs").exists()


def test_objectives_are_listed_and_explained(capsys):
    assert main(["ls", "objectives"]) == 0
    assert "nt_xent" in capsys.readouterr().out
    assert main(["explain", "objectives.nt_xent"]) == 0
    assert "temperature" in capsys.readouterr().out
