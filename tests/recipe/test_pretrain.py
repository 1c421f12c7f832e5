"""The sections `pretrain` and `init`: what is filled in, what reads back, what is refused."""

import pytest

from fusionkit.core.errors import ConfigError
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.schema import recipe_schema
from fusionkit.recipe.write import dump_recipe

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 2}"


@pytest.fixture
def stubs(monkeypatch):
    """Unlike its neighbours, this file reads recipes of real components."""


def test_a_mapping_is_one_stage_and_reads_back(tiny):
    recipe = tiny(STAGE, "init.freeze=until(3)", "init.lr_scale=0.5")
    (stage,) = recipe.pretrain
    assert stage.encoders == ("eeg", "text") and stage.epochs == 2
    assert stage.objectives[0].options["temperature"] == 0.5 and stage.objectives[0].weight == 1
    assert recipe.init.frozen_epochs == 3
    again = parse_recipe(dump_recipe(recipe), "again.yaml")
    assert again.resolved() == recipe.resolved()
    assert again.resolved()["pretrain"][0]["objectives"][0]["hidden"] == 128


def test_stages_come_in_order_and_only_chosen_encoders_train(tiny):
    recipe = tiny(
        "pretrain=[{objectives: [{kind: nt_xent}], encoders: [text]}, {objectives: [{kind: nt_xent, weight: 2}]}]"
    )
    assert [stage.encoders for stage in recipe.pretrain] == [("text",), ("eeg", "text")]
    assert recipe.pretrain[1].objectives[0].weight == 2
    assert tiny(STAGE, "pretrain.encoders=[text, eeg]").pretrain[0].encoders == ("eeg", "text")


def test_sensors_that_are_dropped_are_dropped_from_stages(tiny):
    assert tiny(STAGE, "pretrain.encoders=[text, eeg]", "modalities=eeg").pretrain[0].encoders == ("eeg",)


def test_without_the_sections_nothing_is_pretrained(tiny):
    recipe = tiny()
    assert recipe.pretrain == () and recipe.init.from_ is None and recipe.init.frozen_epochs == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pretrain=3", "pretrain: must be a stage or a list of stages, but got 3"),
        ("pretrain=[3]", r"pretrain\.0: must be a mapping, but got 3"),
        ("pretrain={epochs: 2}", r"pretrain\.objectives: must be a list of objectives, but got None"),
        ("pretrain={objectives: []}", r"pretrain\.objectives: must be a list of objectives, but got \[\]"),
        ("pretrain={objectives: [{kind: nt_xen}]}", r"objectives\.0\.kind: .*did you mean 'nt_xent'"),
        ("pretrain={objectives: [{kind: nt_xent, temperature: 0}]}", r"temperature: input should be greater than 0"),
        ("pretrain={objectives: [{kind: nt_xent, weight: 0}]}", r"weight: input should be greater than 0"),
        (
            "pretrain={objectives: [{kind: nt_xent}], epoch: 2}",
            r"pretrain\.epoch: no such option; did you mean 'epochs'",
        ),
        (
            "pretrain={objectives: [{kind: nt_xent}], encoders: [eg]}",
            r"encoders: no sensor named 'eg'; did you mean 'eeg'",
        ),
        ("init.freeze=until(0)", r"init\.freeze: must be none, encoders or until\(N\)"),
        ("init.freeze=encoders", r"init\.freeze: is for encoders that were trained before"),
        ("init.lr_scale=0.1", r"init\.lr_scale: is for encoders that were trained before"),
        ("init.transductive=why", r"init\.transductive: is said of another run, but init\.from names none"),
        ("modalities.pretrained={kind: eeg, column: eeg}", r"this name belongs to a folder of runs"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tiny, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny(override)
    assert len(str(caught.value).splitlines()) == 1


def test_early_nodes_leave_nothing_to_pretrain(tiny):
    with pytest.raises(ConfigError, match="a sensor must have an encoder of its own"):
        tiny(STAGE, "fusion={kind: concat, dim: 8}")


def test_the_schema_knows_stages_and_objectives(tiny):
    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema()
    check = jsonschema.Draft202012Validator(schema).is_valid
    data = tiny(STAGE).resolved()
    assert check(data)
    assert check({**data, "pretrain": data["pretrain"][0]})
    assert not check({**data, "pretrain": [{"objectives": [{"kind": "nt_xent", "heat": 1}]}]})
    assert not check({**data, "pretrain": {"epochs": 2}})
    assert not check({**data, "init": {"freze": "none"}})
