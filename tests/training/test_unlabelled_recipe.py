"""The key `data.unlabelled`: a source like any other, which something must learn from."""

import pytest

from fusionkit.core.errors import ConfigError
from fusionkit.recipe.load import load_recipe, parse_recipe
from fusionkit.recipe.schema import recipe_schema
from fusionkit.recipe.write import dump_recipe
from fusionkit.recipe.yaml import read_text

jsonschema = pytest.importorskip("jsonschema")

BESIDE = "data.unlabelled={kind: manifest, path: b.csv, columns: {subject: who}}"
STAGE = "pretrain={objectives: [{kind: nt_xent}]}"


def test_it_is_read_with_the_options_of_its_source_and_reads_back(tiny):
    recipe = tiny(BESIDE, STAGE, "data.unlabelled.transductive=to see")
    beside = recipe.data.unlabelled
    assert beside.kind == "manifest" and beside.options["columns"] == {"subject": "who"}
    assert beside.told() == "manifest b.csv, records without labels, those of validation and test groups, too: to see"
    text = dump_recipe(recipe)
    assert parse_recipe(text, "again.yaml").resolved() == recipe.resolved()
    jsonschema.validate(read_text(text, "again.yaml").data, recipe_schema())
    wrong = read_text(text.replace("path: b.csv", "paths: b.csv"), "again.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, recipe_schema())


def test_another_source_keeps_it_and_null_takes_it_away(tiny):
    recipe = tiny(BESIDE, STAGE, "data.kind=npz", "data.path=a.npz")
    assert recipe.data.kind == "npz" and recipe.data.unlabelled.kind == "manifest"
    assert tiny(BESIDE, "data.unlabelled=null").data.unlabelled is None
    changed = tiny(BESIDE, STAGE, "data.unlabelled={kind: npz, path: c.npz}")
    assert changed.data.unlabelled.options["path"].name == "c.npz"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([BESIDE], r"data\.unlabelled: is for pretrain or train\.consistency, but the recipe has neither"),
        ([BESIDE, "pretrain=[]", "train.consistency=[]"], r"data\.unlabelled: is for pretrain or"),
        (["data.unlabelled={}", STAGE], r"data\.unlabelled\.kind: must be given"),
        (["data.unlabelled=b.csv", STAGE], r"data\.unlabelled: must be a mapping with a kind, but got 'b\.csv'"),
        (["data.unlabelled={kind: manifest}", STAGE], r"data\.unlabelled\.path: must be given"),
        (["data.unlabelled={kind: manifests}", STAGE], r"did you mean 'manifest'"),
        ([BESIDE, STAGE, "data.unlabelled.split={kind: holdout}"], r"data\.unlabelled\.split: no such option"),
        ([BESIDE, STAGE, "data.unlabelled.transductive=''"], r"data\.unlabelled\.transductive"),
    ],
)
def test_what_cannot_be_is_refused_while_the_recipe_is_read(overrides, message, tiny):
    with pytest.raises(ConfigError, match=message):
        tiny(*overrides)


def test_a_path_may_be_left_open(tiny, tmp_path):
    path = tmp_path / "open.yaml"
    text = dump_recipe(tiny(BESIDE, "train.consistency=[{kind: uda}]"))
    path.write_text(text.replace("path: b.csv", "path: ???"))
    assert load_recipe(str(path), complete=False).open == ("data.unlabelled.path",)
    with pytest.raises(ConfigError, match=r"data\.unlabelled\.path: must be given on the command line"):
        load_recipe(str(path))
    assert load_recipe(str(path), ["data.unlabelled.path=b.csv"]).data.unlabelled.options["path"].name == "b.csv"
