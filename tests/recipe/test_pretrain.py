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


PICTURES = """
data: {kind: manifest, path: t.csv}
modalities:
  image: {kind: image, encoder: {kind: image_cnn}}
  text: {kind: text, encoder: ENCODER}
  eeg: {kind: eeg}
fusion: {kind: vote, dim: 8}
tasks: {state: TASK}
pretrain: STAGES
"""


def stages(objective, more="", encoder="{kind: gru}", task="{kind: classification}"):
    text = PICTURES.replace("STAGES", f"[{{objectives: [{{kind: {objective}}}]{more}}}]")
    return parse_recipe(text.replace("ENCODER", encoder).replace("TASK", task), "p.yaml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("next_token", "", "{kind: transformer, heads: 2}"), r"next_token .* no later word, .* text has transformer"),
        (
            ("next_token", ", encoders: [image, eeg]"),
            r"learns from text sensors, but none of \['image', 'eeg'\] is such",
        ),
        (("masked_language", "", "{kind: mlp}"), r"tokens that know of other words, but text has mlp"),
        (("rotation", ", encoders: [text, eeg]"), r"learns from image sensors, but none of \['text', 'eeg'\] is such"),
        (("jigsaw", ", encoders: [eeg]"), r"learns from image sensors, but none of \['eeg'\] is such"),
        (("relative_position", ", encoders: [eeg]"), r"learns from image sensors"),
        (("colorization", ", encoders: [eeg]"), r"learns from image sensors"),
        (("masked_autoencoder", ", encoders: [text]"), r"learns from image and signal sensors, but none of \['text'\]"),
        (("context_inpainting", ", encoders: [text]"), r"learns from image and signal sensors"),
        (("info_nce", ", encoders: [text]"), r"there must be two or more, but got \['text'\]"),
        (("info_nce, anchor: eeg", ", encoders: [text, image]"), r"no sensor of this stage named 'eeg'"),
        (("masked_sensor", ", encoders: [text]"), r"must have two sensors or more"),
        (("masked_sensor, heads: 3",), r"heads"),
        (("latent_transfer", ", encoders: [text]"), r"teacher must be named unless one sensor is left"),
        (("supcon", "", "{kind: gru}", "{kind: regression}"), r"a task must have some, but none has"),
        (("supcon, task: mood",), r"no task with classes named 'mood'"),
    ],
)
def test_what_an_objective_cannot_learn_is_refused_before_data_are_read(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        stages(*given)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("p.yaml:9: pretrain.0.objectives.0: ")


@pytest.mark.parametrize(
    "given",
    [
        ("next_token", "", "{kind: transformer, heads: 2, causal: true}"),
        ("next_token", "", "{kind: mlp}"),
        ("masked_language", "", "{kind: transformer, heads: 2}"),
        ("rotation",),
        ("masked_autoencoder", ", encoders: [eeg]"),
        ("info_nce, anchor: eeg",),
        ("masked_sensor",),
        ("latent_transfer, teacher: image", ", encoders: [text]"),
        ("supcon",),
        ("triplet", "", "{kind: gru}", "{kind: regression}"),
    ],
)
def test_what_an_objective_can_learn_is_read(given):
    assert len(stages(*given).pretrain) == 1


def test_a_sensor_of_unknown_windows_is_left_to_the_data(monkeypatch):
    from fusionkit.core import registry

    monkeypatch.setattr(registry.modalities.get("eeg"), "holds", None)
    assert stages("rotation", ", encoders: [eeg]").pretrain and stages("next_token", ", encoders: [eeg]").pretrain
