"""The JSON Schema for editors accepts what the reader accepts and refuses what it refuses."""

import pytest

from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.schema import recipe_schema
from fusionkit.recipe.yaml import read_text

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def check():
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return lambda data: [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(data)]


def test_a_recipe_is_accepted(check, parsed):
    assert check(parsed) == []


def test_a_resolved_recipe_is_accepted(check, recipe_file):
    assert check(load_recipe(recipe_file()).resolved()) == []
    assert check(load_recipe(recipe_file(), ["fusion.kind=join", "tasks=state"]).resolved()) == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("seed: 3", "sead: 3", ""),
        ("seed: 3", "seed: -1", "seed"),
        ("kind: table", "kind: tabel", "data.kind"),
        ("path: t.csv", "pfad: t.csv", "data"),
        ("folds: 4", "foldz: 4", "data.split"),
        ("kind: sound", "kind: sonar", "modalities.voice.kind"),
        ("{kind: sound}", "{}", "modalities.voice"),
        ("{kind: sound}", "{kind: sound, melz: 3}", "modalities.voice"),
        ("{kind: sound}", "{kind: sound, mels: 0}", "modalities.voice.mels"),
        ("window: 2", "window: 0", "modalities.eeg.features"),
        ("width: 8", "width: a", "modalities.ecg.encoder.width"),
        ("{kind: other, width: 8}", "{kind: othr}", "modalities.ecg.encoder.kind"),
        ("layers: 2}", "layers: 0}", "fusion.graph.all.layers"),
        ("dim: 32", "dimm: 32", "fusion"),
        ("inputs: [eeg, ecg]", "inputs: []", "fusion.graph.body.inputs"),
        ("from: body", "form: body", "tasks.score"),
        ("share: 0.25", "share: 2", "augment.voice.1.share"),
        ("epochs: 5", "epochs: 0", "train.epochs"),
        ("  voice: {kind: sound}", "  a-b: {kind: sound}", "modalities"),
    ],
)
def test_slips_are_found_where_they_are(check, recipe_text, old, new, where):
    assert old in recipe_text
    assert where in check(read_text(recipe_text.replace(old, new), "r").data)


def test_only_an_early_node_has_an_encoder(check, parsed):
    parsed["fusion"]["graph"]["body"]["encoder"] = {"kind": "plain", "layers": 1}
    assert check(parsed) == []
    parsed["fusion"]["graph"]["all"]["encoder"] = {"kind": "plain"}
    assert check(parsed) == ["fusion.graph.all"]


def test_the_short_form_is_accepted_with_options_and_dim(check, parsed):
    parsed["fusion"] = {"kind": "mix", "dim": 8, "slots": 2}
    assert check(parsed) == []
    parsed["fusion"] = {"kind": "mix", "steps": 2}
    assert check(parsed) == ["fusion"]


def test_options_carry_their_descriptions(check):
    schema = recipe_schema()
    assert schema["$defs"]["encoders.plain"]["properties"]["layers"]["description"] == "how deep"
    assert schema["$defs"]["modalities"]["properties"]["kind"]["enum"] == ["brain", "sound"]
