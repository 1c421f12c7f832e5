"""The JSON Schema is printed, and the shipped recipes keep to it."""

import json

import pytest

from fusionkit.cli import main
from fusionkit.core import registry
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
    registry.encoders.kinds()
    monkeypatch.setattr(registry.encoders, "_classes", dict(registry.encoders._classes))  # forgotten afterwards
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_for_schema.py").write_text(
        "from fusionkit.core.registry import encoders\n"
        "@encoders.register('lab')\nclass Lab:\n    def __init__(self, shape, dim, *, rooms: int = 3): ...\n"
    )
    assert main(["schema", "--plugin", "plugin_for_schema"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["$defs"]["encoders.lab"]["properties"]["rooms"]["default"] == 3
