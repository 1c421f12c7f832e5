"""A recipe is copied out with its comments, and never over another file."""

import pytest

from fusionkit.cli import main
from fusionkit.recipe.shipped import shipped_recipes


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_recipe_is_copied_as_it_is(tmp_path, capsys):
    assert main(["copy", "quickstart"]) == 0
    assert (tmp_path / "quickstart.yaml").read_text("utf-8") == shipped_recipes()["quickstart"]
    assert capsys.readouterr().out == "quickstart.yaml\n"


def test_a_recipe_is_copied_to_a_file_or_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    assert main(["copy", "quickstart.yaml", "mine.yaml"]) == 0
    assert main(["copy", "quickstart", "folder"]) == 0
    assert (tmp_path / "mine.yaml").is_file()
    assert (tmp_path / "folder" / "quickstart.yaml").is_file()


def test_a_file_is_overwritten_only_by_force(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    assert main(["copy", "quickstart", "mine.yaml"]) == 2
    assert capsys.readouterr().err == "error: mine.yaml: a file that exists is overwritten only with --force\n"
    assert path.read_text() == "mine"
    assert main(["copy", "quickstart", "mine.yaml", "--force"]) == 0
    assert path.read_text("utf-8") == shipped_recipes()["quickstart"]


def test_an_unknown_recipe_is_named(capsys):
    assert main(["copy", "quickstrat"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: no recipe named 'quickstrat'; did you mean 'quickstart'?; known: ["
    )


def test_a_missing_folder_is_named(capsys):
    assert main(["copy", "quickstart", "no/such.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: no/such.yaml: a recipe must go where it can be written, but No such file or directory\n"
    )
