"""The JSON Schema is printed, and the shipped recipes keep to it."""

import json

import pytest

from fusionkit.cli import main
from fusionkit.recipe.shipped import shipped_recipes
from fusionkit.recipe.yaml import read_text


@pytest.fixture(scope="module")
def schema():
    from fusionkit.recipe.schema import recipe_schema

    return recipe_schema()


def test_the_schema_is_printed_as_json(capsys, schema):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema))


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_keeps_to_the_schema(schema, name):
    jsonschema = pytest.importorskip("jsonschema")
    data = read_text(shipped_recipes()[name], name).data
    jsonschema.validate(data, schema, jsonschema.Draft202012Validator)


def test_a_plugin_is_listed_too(capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_for_schema.py").write_text(
        "from fusionkit.core.registry import losses\n"
        "class Zero:\n    '''Nothing.'''\n    def __init__(self): ...\n"
        "losses.register('zero_for_schema')(Zero)\n"
    )
    assert main(["schema", "--plugin", "plugin_for_schema"]) == 0
    json.loads(capsys.readouterr().out)
    assert main(["explain", "zero_for_schema"]) == 0
    assert "losses.zero_for_schema" in capsys.readouterr().out
