"""Generators in a recipe: what may be said of them, and what it means."""

import pytest

from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.problem import RecipeError
from fusionkit.recipe.schema import recipe_schema
from fusionkit.recipe.sections import GeneratorEntry
from fusionkit.recipe.write import dump_recipe
from fusionkit.recipe.yaml import read_text

jsonschema = pytest.importorskip("jsonschema")

RECIPE = """\
data: {kind: synthetic, split: {kind: holdout, by: subject}}
modalities:
  eeg: {kind: eeg}
  text: {kind: text}
fusion: {kind: vote}
tasks:
  state: {kind: classification, column: target}
  score: {kind: regression, column: value}
augment:
  eeg: {kind: cwgan_gp, add: 2.0, use: selective, keep: {min_confidence: 0.8}, hidden: 64}
  text: [{kind: token_drop}]
"""


@pytest.fixture(autouse=True)
def stubs():
    """Unlike its neighbours, this file reads recipes of real components."""


def read(*overrides, text=RECIPE):
    return parse_recipe(text, "r.yaml", overrides)


def refusal(*overrides, text=RECIPE):
    with pytest.raises(RecipeError) as caught:
        read(*overrides, text=text)
    (line,) = caught.value.lines
    return line


def test_a_mapping_is_one_generator_and_options_are_those_of_its_kind():
    recipe = read()
    entry = recipe.generators["eeg"]
    assert isinstance(entry, GeneratorEntry) and list(recipe.generators) == ["eeg"]
    assert (entry.kind, entry.add, entry.use, entry.epochs, entry.batch) == ("cwgan_gp", 2.0, "selective", 200, 128)
    assert entry.options["hidden"] == 64 and "add" not in entry.options
    assert (entry.keep.by, entry.keep.model, entry.keep.min_confidence) == ("classifier", "network", 0.8)
    assert entry.task == "state"  # the only one with classes
    assert recipe.changes("eeg") == () and len(recipe.changes("text")) == 1


def test_it_stands_among_augmentations_of_batches():
    recipe = read("augment.eeg=[{kind: eeg_sign_flip}, {kind: cvae}, {kind: eeg_shift}]")
    assert recipe.generators["eeg"].kind == "cvae"
    assert [entry.kind for entry in recipe.changes("eeg")] == ["eeg_sign_flip", "eeg_shift"]
    assert recipe.generators["eeg"].keep is None


def test_the_resolved_recipe_reads_back_as_the_same():
    for overrides in (
        [],
        ["augment.eeg.use=full", "augment.eeg.keep=null"],
        ["augment.eeg={kind: cvae, use: selective}"],
    ):
        recipe = read(*overrides)
        text = dump_recipe(recipe)
        again = parse_recipe(text, "r.yaml")
        assert again.resolved() == recipe.resolved() and dump_recipe(again) == text


def test_overrides_reach_into_it():
    entry = read("augment.eeg.add=5", "augment.eeg.keep.model=svm", "augment.eeg.critic_steps=2").generators["eeg"]
    assert (entry.add, entry.keep.model, entry.options["critic_steps"]) == (5.0, "svm", 2)


def test_another_kind_keeps_how_it_is_used():
    entry = read("augment.eeg.kind=cvae").generators["eeg"]
    assert (entry.kind, entry.add, entry.use, entry.keep.min_confidence) == ("cvae", 2.0, "selective", 0.8)
    assert entry.options["hidden"] == 512  # an option of the old kind goes


def test_a_sensor_that_is_left_out_takes_its_generator_along():
    assert not read("modalities=text").generators


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("add: 2.0", "add: -1", "augment.eeg.add: input should be greater than or equal to 0, got -1"),
        ("add: 2.0", "ad: 2.0", "augment.eeg.ad: no such option; did you mean 'add'?"),
        ("kind: cwgan_gp", "kind: cwgan_pg", "augment.eeg.kind: no augment component named 'cwgan_pg'; did you mean"),
        ("min_confidence: 0.8", "min_confidence: 2", "augment.eeg.keep.min_confidence: input should be less than or"),
        ("min_confidence: 0.8", "by: luck", "augment.eeg.keep.by: input should be 'classifier'"),
        ("use: selective", "use: full", "augment.eeg.keep: chooses records for use=selective, but use is full"),
        ("hidden: 64", "task: score", "augment.eeg.task: no task with one class a record named 'score'"),
        ("hidden: 64", "task: stat", "augment.eeg.task: no task with one class a record named 'stat'; did you mean 'state'"),
        ("kind: regression, ", "kind: classification, ", "augment.eeg.task: must be given, one of ['state', 'score']"),
        ("{kind: classification, ", "{kind: regression, ", "augment.eeg.task: must be given, but no task has one class"),
        ("[{kind: token_drop}]", "[{kind: cvae}, {kind: cwgan_gp}]", "augment.text: a sensor may have one generator"),
        ("  text: {kind: text}", "  generated: {kind: text}", "modalities.generated: this name belongs to a folder"),
    ],
)  # fmt: skip
def test_slips_are_named_with_their_rule(old, new, words):
    text = RECIPE.replace(old, new, 1)
    if "generated" in new:
        text = text.replace("  text: [{", "  generated: [{")
    assert text != RECIPE and words in refusal(text=text)


def test_records_that_a_node_holds_out_must_not_come_back():
    text = RECIPE.replace("fusion: {kind: vote}", "fusion: {kind: gradient_blending, online: true}")
    assert "augment.eeg: gradient_blending with online=true holds out training records" in refusal(text=text)
    assert read("fusion.online=false", text=text).generators


def test_the_schema_knows_both_forms_and_finds_slips():
    check = jsonschema.Draft202012Validator(recipe_schema())
    data = read_text(RECIPE, "r").data
    assert not list(check.iter_errors(data))
    data["augment"]["eeg"] = [{"kind": "eeg_sign_flip"}, {"kind": "cvae", "add": 1}]
    assert not list(check.iter_errors(data))
    for wrong in (
        {"kind": "cvae", "ad": 1},
        {"kind": "cvaee"},
        [{"kind": "cvae", "add": -1}],
        [{"kind": "eeg_sign_flip", "add": 1}],
    ):
        data["augment"]["eeg"] = wrong
        assert list(check.iter_errors(data)), wrong
    assert not list(check.iter_errors(read().resolved()))
