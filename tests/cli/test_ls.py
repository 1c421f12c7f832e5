"""Recipes and components are listed with a line each."""

import json

from fusionkit.cli import main
from fusionkit.core.registry import families
from fusionkit.recipe.shipped import shipped_recipes


def test_everything_is_listed_by_family(capsys):
    assert main(["ls", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["recipes", *families]
    for family, registry in families.items():
        assert list(found[family]) == registry.kinds()
        for kind, line in found[family].items():
            assert line, f"{family}.{kind} has no docstring"
    assert "rcft" in found["fusion"]


def test_one_family_is_listed_plainly(capsys):
    assert main(["ls", "fusion"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fusion"
    assert any(line.startswith("  rcft  ") for line in lines)


def test_recipes_are_listed_with_their_first_comment(capsys):
    assert main(["ls", "recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(shipped_recipes())
    assert any(line.startswith("  quickstart ") and len(line.split()) > 3 for line in lines)


def test_an_unknown_family_is_named(capsys):
    assert main(["ls", "fusio"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no family named 'fusio'; did you mean 'fusion'?; known: [")
