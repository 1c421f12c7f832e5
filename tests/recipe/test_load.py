"""Recipes are read whole: what is right is resolved, what is wrong is reported at once with its place."""

import re

import pytest

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.recipe import load
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.problem import RecipeError


def problems(*arguments, **more):
    with pytest.raises(RecipeError) as error:
        load_recipe(*arguments, **more)
    assert str(error.value) == "\n".join(error.value.lines)
    assert isinstance(error.value, ConfigError)
    return [re.sub(r"^.*/tiny\.yaml", "tiny.yaml", line) for line in error.value.lines]


def problem(*arguments, **more):
    found = problems(*arguments, **more)
    assert len(found) == 1, found
    return found[0]


def test_a_recipe_is_read(recipe_file):
    recipe = load_recipe(recipe_file())
    assert (recipe.name, recipe.seed, recipe.plugins) == ("tiny", 3, ())
    assert (recipe.data.kind, recipe.data.options) == ("table", {"path": "t.csv", "columns": None})
    assert (recipe.data.split.kind, recipe.data.split.folds) == ("k_fold", 4)
    eeg, ecg = recipe.modalities["eeg"], recipe.modalities["ecg"]
    assert (eeg.column, ecg.column) == ("eeg", "eeg")
    assert (eeg.encoder.kind, eeg.encoder.options) == ("plain", {"layers": 2})
    assert (ecg.encoder.kind, ecg.encoder.options) == ("other", {"width": 8})
    assert eeg.options["channels"] == ["C3", "C4"]
    assert eeg.options["features"].window == 2.0
    assert recipe.graph.dim == 32
    assert [node.name for node in recipe.graph.nodes] == ["body", "all"]
    assert (recipe.tasks["score"].from_, recipe.tasks["score"].column) == ("body", "score")
    assert [choice.options for choice in recipe.augment["voice"]] == [{"share": 0.5}, {"share": 0.25}]
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch) == (5, 0.001, 64)
    assert (recipe.heads.gate, recipe.export.opset, recipe.run.dir) == (True, 20, "runs")


def test_defaults_are_the_documented_ones(recipe_file):
    recipe = load_recipe(recipe_file(("train: {epochs: 5, lr: 1e-3}\n", "")))
    train = recipe.train
    assert (train.epochs, train.batch, train.lr, train.weight_decay, train.warmup) == (40, 64, 1e-3, 0.05, 0.1)
    assert (train.clip, train.patience, train.modality_dropout) == (1.0, 10, 0.2)
    assert (train.device, train.precision, train.single_sensors) == ("auto", "auto", True)
    assert (recipe.export.tolerance, recipe.heads.dropout, recipe.data.resident) == (1e-4, 0.1, "auto")


def test_the_name_defaults_to_the_file(recipe_file):
    assert load_recipe(recipe_file(("name: tiny\n", ""))).name == "tiny"


def test_a_split_has_a_default(recipe_file):
    split = load_recipe(recipe_file(("  split: {kind: k_fold, folds: 4, by: subject}\n", ""))).data.split
    assert (split.kind, split.by) == ("holdout", "subject")


def test_overrides_are_applied(recipe_file):
    recipe = load_recipe(
        recipe_file(), ["train.epochs=9", "fusion.kind=vote", "tasks=state", "modalities=[eeg, voice]"]
    )
    assert recipe.train.epochs == 9
    assert (recipe.graph.end.kind, recipe.graph.end.inputs, recipe.graph.dim) == ("vote", ("eeg", "voice"), 32)
    assert list(recipe.tasks) == ["state"]


def test_an_encoder_may_leave_its_kind_to_the_sensor(recipe_file):
    recipe = load_recipe(recipe_file(), ["modalities.voice.encoder.layers=5"])
    assert (recipe.modalities["voice"].encoder.kind, recipe.modalities["voice"].encoder.options) == (
        "plain",
        {"layers": 5},
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sead: 3", "3: sead: no such section; did you mean 'seed'?; known: ['name', 'seed', "),
        ("name: tiny", "name: a/b", "2: name: a name must be letters, digits, - and _ (it names a folder), but got 'a/b'"),
        ("seed: 3", "seed: -1", "3: seed: a seed must be a whole number from 0 to 2**32 - 1, but got -1"),
        ("seed: 3", "seed: true", "3: seed: a seed must be a whole number from 0 to 2**32 - 1, but got True"),
        ("seed: 3", "plugins: [no_such_module_x]", ("3: plugins.0: a plugin must be a module that imports, but "
         "no_such_module_x: ModuleNotFoundError: No module named 'no_such_module_x'")),
        ("seed: 3", "plugins: x", "3: plugins: must be a list of modules, but got 'x'"),
        ("kind: table", "kind: tabel", ("5: data.kind: no sources component named 'tabel'; did you mean 'table'?; "
         "known: ['made', 'table']")),
        ("path: t.csv", "pfad: t.csv", "4: data.path: must be given"),
        ("folds: 4", "foldz: 4", "7: data.split.foldz: no such option; did you mean 'folds'?; known: ['by', "),
        ("folds: 4", "folds: 1", "7: data.split.folds: input should be greater than or equal to 2, got 1"),
        ("folds: 4", "test: 0.5", "7: data.split: a k_fold split takes no test, but got 0.5"),
        ("kind: sound", "kind: sonar", ("11: modalities.voice.kind: no modalities component named 'sonar'; "
         "did you mean 'sound'?; known: ['brain', 'sound']")),
        ("{kind: sound}", "{}", "11: modalities.voice.kind: must be given, one of ['brain', 'sound']"),
        ("{kind: sound}", "{kind: 3}", "11: modalities.voice.kind: must be given, one of ['brain', 'sound'], got 3"),
        ("{kind: sound}", "sound", "11: modalities.voice: must be a mapping with a kind, but got 'sound'"),
        ("{kind: sound}", "{kind: sound, melz: 3}", ("11: modalities.voice.melz: no such option; did you mean 'mels'?; "
         "known: ['align', 'column', 'encoder', 'kind', 'mels', 'normalise', 'smooth', 'start', 'stop']")),
        ("{kind: sound}", "{kind: sound, mels: 0}", ("11: modalities.voice.mels: input should be greater than or equal "
         "to 1, got 0")),
        ("{kind: sound}", "{kind: sound, normalise: {kind: subjekt}}", ("11: modalities.voice.normalise.kind: "
         "input should be 'none', ")),
        ("{kind: sound}", "{kind: brain, resample: true}", "11: modalities.voice: resample needs a rate"),
        ("window: 2", "windo: 2", ("9: modalities.eeg.features.windo: no such option; did you mean 'window'?; "
         "known: ['kind', 'window']")),
        ("window: 2", "window: 0", "9: modalities.eeg.features.window: input should be greater than 0, got 0"),
        ("width: 8", "widht: 8", "10: modalities.ecg.encoder.width: must be given"),
        ("{kind: other, width: 8}", "{kind: othr}", ("10: modalities.ecg.encoder.kind: no encoders component named "
         "'othr'; did you mean 'other'?; known: ['mlp', 'other', 'plain']")),
        ("{kind: other, width: 8}", "other", "10: modalities.ecg.encoder: must be a mapping with a kind, but got 'other'"),
        ("layers: 2}", "layer: 2}", ("16: fusion.graph.all.layer: no such option; did you mean 'layers'?; "
         "known: ['layers', 'slots']")),
        ("[body, voice]", "[body, voise]", ("16: fusion.graph.all.inputs: no modality or node named 'voise'; "
         "did you mean 'voice'?; known: ['body', 'ecg', 'eeg', 'voice']")),
        ("[body, voice]", "[body]", "14: fusion.graph: every modality must be used, but 'voice' feeds no node"),
        ("dim: 32", "dim: 0", "13: fusion.dim: must be a whole number of at least 1, got 0"),
        ("from: body", "from: boddy", ("19: tasks.score.from: no node named 'boddy'; did you mean 'body'?; "
         "known: ['all', 'body']")),
        ("from: body", "from: [body]", "19: tasks.score.from: input should be a valid string, got ['body']"),
        ("[rest, work]", "[rest]", "18: tasks.state: there must be two classes, but got ['rest']"),
        ("[rest, work]", "[1, 2]", "18: tasks.state.classes.0: input should be a valid string, got 1"),
        ("share: 0.25", "share: 2", "21: augment.voice.1.share: input should be less than 1, got 2"),
        ("share: 0.25", "shar: 0.25", ("21: augment.voice.1.shar: no such option; did you mean 'share'?; "
         "known: ['kind', 'share']")),
        ("  eeg: [{kind: mask}]", "  egg: [{kind: mask}]", ("22: augment.egg: no sensor named 'egg'; "
         "did you mean 'eeg'?; known: ['ecg', 'eeg', 'voice']")),
        ("  eeg: [{kind: mask}]", "  eeg: mask", ("22: augment.eeg: must be a list of augmentations, but got "
         "'mask'")),
        ("epochs: 5", "epochs: 0", "23: train.epochs: input should be greater than or equal to 1, got 0"),
        ("epochs: 5", "epoch: 5", "23: train.epoch: no such option; did you mean 'epochs'?; known: ["),
        ("epochs: 5", "device: gpu", "23: train.device: a device must be auto, cpu, mps, cuda or cuda:N, got 'gpu'"),
        ("epochs: 5", "lr: 1", "23: train.lr: a key may be given once, but it is on line 23 too"),
        ("train: {epochs: 5, lr: 1e-3}", "heads: [1]", "23: heads: must be a mapping, but got [1]"),
        ("  voice: {kind: sound}", "  a-b: {kind: sound}", ("11: modalities.a-b: a sensor must be named with letters, "
         "digits and _, but got 'a-b'")),
    ],
)  # fmt: skip
def test_every_slip_is_named_with_its_line(recipe_file, old, new, message):
    found = problems(recipe_file((old, new)))
    assert any(line.startswith(f"tiny.yaml:{message}") for line in found), found


def test_one_slip_is_one_problem(recipe_file):
    assert problem(recipe_file(("epochs: 5", "epochs: many"))) == (
        "tiny.yaml:23: train.epochs: input should be a valid integer, unable to parse string as an integer, got 'many'"
    )


def test_an_option_of_several_types_is_one_problem(recipe_file):
    assert problem(recipe_file(("folds: 4", "validation: 3"))) == (
        "tiny.yaml:7: data.split.validation: input should be less than 1, or input should be a valid list, got 3"
    )


def test_all_problems_are_reported_in_the_order_of_the_file_then_the_command_line(recipe_file):
    path = recipe_file(("kind: table", "kind: tabel"), ("epochs: 5", "epochs: 0"), ("layers: 2}", "layers: 0}"))
    found = problems(path, ["train.batch=0", "run.dirr=x", "nonsense"])
    assert [line.split(": ")[:2] for line in found] == [
        ["command line", "an override must be KEY=VALUE, but got 'nonsense'"],
        ["tiny.yaml:5", "data.kind"],
        ["tiny.yaml:16", "fusion.graph.all.layers"],
        ["tiny.yaml:23", "train.epochs"],
        ["command line", "train.batch"],
        ["command line", "run.dirr"],
    ]


def test_missing_sections_are_named(recipe_file):
    assert problems(recipe_file(text="name: tiny\n")) == [
        "tiny.yaml: data: must be given",
        "tiny.yaml: modalities: a recipe must have at least one sensor",
        "tiny.yaml: tasks: a recipe must have at least one task",
    ]


def test_an_error_from_the_command_line_says_so(recipe_file):
    assert problem(recipe_file(), ["train.epoch=3"]).startswith(
        "command line: train.epoch: no such option; did you mean 'epochs'?; known: ["
    )
    assert problem(recipe_file(), ["modalities.voice.kind=sonar"]).startswith(
        "command line: modalities.voice.kind: no "
    )


def test_a_modality_named_twice_is_refused(recipe_file):
    assert problem(recipe_file(("  voice: {kind: sound}", "  eeg: {kind: sound}"))) == (
        "tiny.yaml:11: modalities.eeg: a key may be given once, but it is on line 9 too"
    )


def test_a_cycle_and_a_wrong_level_are_named(recipe_file):
    cyclic = recipe_file(("inputs: [eeg, ecg]", "inputs: [eeg, ecg, all]"))
    assert "tiny.yaml:15: fusion.graph.body.inputs: a graph may have no cycle, but" in problems(cyclic)[0]
    levels = recipe_file(("all: {kind: mix", "all: {kind: join"), (", layers: 2}", "}"))
    assert "an early node takes the features of modalities, but 'body' (join) is an early node" in problem(levels)


def test_names_that_torch_has_taken_are_refused(recipe_file):
    found = problems(recipe_file(("  voice: {kind: sound}", "  values: {kind: sound}"), ("voice]", "values]")))
    assert "tiny.yaml:11: modalities.values: this name belongs to torch, choose another than 'values'" in found


def test_rules_of_an_operation_are_checked_while_reading(recipe_file, monkeypatch):
    class Strict(registry.fusion.get("mix")):
        def __init__(self, inputs, dim, duration, *, heads: int = 4) -> None:
            if dim % heads:
                raise ConfigError(f"heads must divide dim, but {heads} does not divide {dim}")

    monkeypatch.setitem(registry.fusion._classes, "strict", Strict)
    message = "heads must divide dim, but 3 does not divide 32"
    path = recipe_file(("kind: mix", "kind: strict"), ("layers: 2}", "heads: 3}"))
    assert problem(path) == f"tiny.yaml:16: fusion.graph.all: {message}"
    assert (
        problem(recipe_file(), ["fusion.kind=strict", "fusion.heads=3", "tasks=state"])
        == f"tiny.yaml:12: fusion: {message}"
    )


def test_a_sensor_is_not_called_like_the_whole_model(recipe_file):
    path = recipe_file(
        ("  voice: {kind: sound}", "  fused: {kind: sound}"), ("voice]", "fused]"), ("  voice: [", "  fused: [")
    )
    assert (
        problem(path)
        == "tiny.yaml:11: modalities.fused: this name belongs to the whole model, choose another than 'fused'"
    )


def test_open_values_must_be_given_on_the_command_line(recipe_file):
    path = recipe_file(("path: t.csv", "path: ???"), ("epochs: 5", "epochs: '???'"))
    assert problems(path) == [
        "tiny.yaml:6: data.path: must be given on the command line: data.path=VALUE",
        "tiny.yaml:23: train.epochs: must be given on the command line: train.epochs=VALUE",
    ]
    recipe = load_recipe(path, ["data.path=x.csv", "train.epochs=2"])
    assert (recipe.data.options["path"], recipe.train.epochs, recipe.open) == ("x.csv", 2, ())


def test_open_values_may_stay_where_only_the_rest_is_asked_for(recipe_file):
    recipe = load_recipe(recipe_file(("path: t.csv", "path: ???"), ("epochs: 5", "epochs: '???'")), complete=False)
    assert recipe.open == ("data.path", "train.epochs")
    assert (recipe.data.options["path"], recipe.train.epochs) == ("???", 40)
    wrong = recipe_file(("path: t.csv", "path: ???"), ("epochs: 5", "epochs: 0"))
    assert problem(wrong, complete=False).startswith("tiny.yaml:23: train.epochs: input should be")


def test_an_open_kind_or_need_cannot_stay(recipe_file):
    path = recipe_file(("kind: table", "kind: ???"), ("width: 8", "width: '???'"))
    assert problems(path, complete=False) == [
        "tiny.yaml:5: data.kind: must be given on the command line: data.kind=VALUE",
        (
            "tiny.yaml:10: modalities.ecg.encoder.width: must be given on the command line: "
            "modalities.ecg.encoder.width=VALUE"
        ),
    ]


def test_shipped_recipes_are_known_by_name(recipe_text, monkeypatch):
    monkeypatch.setattr(load, "shipped_recipes", lambda: {"tiny": recipe_text})
    assert load_recipe("tiny").name == "tiny"
    with pytest.raises(RecipeError, match=r"^tiny\.yaml:23: train\.epochs: must be given"):
        monkeypatch.setattr(
            load, "shipped_recipes", lambda: {"tiny": recipe_text.replace("epochs: 5", "epochs: '???'")}
        )
        load_recipe("tiny")
    with pytest.raises(UnknownNameError, match=r"^no recipe named 'tinny'; did you mean 'tiny'\?; known: \['tiny'\]$"):
        load_recipe("tinny")


def test_a_path_that_leads_nowhere_is_named():
    assert problem("no/such.yaml") == (
        "no/such.yaml: a recipe must be a file that can be read, but No such file or directory"
    )


def test_a_plugin_brings_its_components(recipe_file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_lab_plugin.py").write_text(
        "from fusionkit.core.registry import sources\n"
        "@sources.register('lab')\nclass Lab:\n    def __init__(self, *, rooms: int = 1): ...\n"
    )
    path = recipe_file(("seed: 3", "plugins: [my_lab_plugin]"), ("kind: table\n  path: t.csv", "kind: lab\n  rooms: 2"))
    assert load_recipe(path).data.options == {"rooms": 2}


def test_a_component_may_not_take_the_keys_of_its_place(recipe_file, monkeypatch):
    class Greedy:
        def __init__(self, *, split: int = 1, cache: str = "", options: str = "") -> None: ...

    monkeypatch.setitem(registry.sources._classes, "greedy", Greedy)
    assert problem(recipe_file(("kind: table\n  path: t.csv", "kind: greedy"))) == (
        "tiny.yaml:5: data.kind: sources component: a component may not have the options ['cache', 'options', 'split'], "
        "which belong to every sources component"
    )
