"""What the command line changes."""

import itertools

import pytest

from fusionkit.recipe.overrides import apply_overrides, parse_override
from fusionkit.recipe.problem import Places, RecipeError
from fusionkit.recipe.yaml import read_text


@pytest.fixture
def changed(recipe_text):
    """Apply overrides to the whole recipe; give its data, its places and the problems."""

    def change(*texts):
        document = read_text(recipe_text, "tiny.yaml")
        places = Places("tiny.yaml", document.lines)
        problems = apply_overrides(document.data, places, texts)
        return document.data, places, problems

    return change


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.epochs=3", ("train", "epochs"), 3),
        ("train.lr=1e-4", ("train", "lr"), 1e-4),
        ("a.b=", ("a", "b"), None),
        ("a=x=y", ("a",), "x=y"),
        ("data.path=/a b/c: d#e.csv", ("data", "path"), "/a b/c: d#e.csv"),
        ("data.path=*.csv", ("data", "path"), "*.csv"),
        ("a='3'", ("a",), "3"),
        ("a=[1, 1e-3, x]", ("a",), [1, 0.001, "x"]),
        ("a={b: [c], d: {e: yes}}", ("a",), {"b": ["c"], "d": {"e": "yes"}}),
        ("a=true", ("a",), True),
    ],
)
def test_values_are_read_as_yaml(text, key, value):
    override = parse_override(text)
    assert (override.key, override.value) == (key, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "command line: an override must be KEY=VALUE, but got 'train.epochs'"),
        ("=3", "command line: a key must be names joined by dots, but got ''"),
        ("a..b=3", "command line: a key must be names joined by dots, but got 'a..b'"),
        ("a.b=[1, 2", "command line: a.b: a value must be YAML, but "),
        ("a={b: 1, b: 2}", "command line: a: a value must be YAML, but value.b: a key may be given once"),
        ("a=[!x 1]", "command line: a: a value must be YAML, but tags are not for recipes, but got !x"),
    ],
)
def test_what_is_no_override_is_refused(text, message):
    with pytest.raises(RecipeError) as error:
        parse_override(text)
    assert str(error.value).startswith(message)


def test_a_value_is_set_and_comes_from_the_command_line(changed):
    data, places, problems = changed("train.epochs=7", "fresh.deep.key=1")
    assert not problems
    assert data["train"] == {"epochs": 7, "lr": 0.001}
    assert data["fresh"] == {"deep": {"key": 1}}
    assert places.say(("train", "epochs"), "x") == "command line: train.epochs: x"
    assert places.say(("train", "lr"), "x") == "tiny.yaml:23: train.lr: x"
    assert places.say(("fresh", "deep"), "x") == "command line: fresh.deep: x"


def test_a_list_is_picked_from_by_number(changed):
    data, _, problems = changed("augment.voice.1.share=0.75", "modalities.eeg.channels.0=Cz")
    assert not problems
    assert data["augment"]["voice"] == [{"kind": "mask"}, {"kind": "mask", "share": 0.75}]
    assert data["modalities"]["eeg"]["channels"] == ["Cz", "C4"]


def test_every_problem_is_reported(changed):
    _, _, problems = changed("augment.voice.2.share=1", "name.x=3", "broken", "augment.voice.-1=3")
    assert problems == [
        "command line: an override must be KEY=VALUE, but got 'broken'",
        "command line: name.x: only a mapping or a list has keys, but name is 'tiny'",
        "command line: augment.voice.-1: augment.voice must be picked from by a number below 2, but got '-1'",
        "command line: augment.voice.2.share: augment.voice must be picked from by a number below 2, but got '2'",
    ]


def test_the_later_of_two_values_counts(changed):
    assert changed("train.epochs=7", "train.epochs=9")[0]["train"]["epochs"] == 9


def test_a_new_kind_drops_the_options_of_the_old_one(changed):
    data, places, _ = changed("data.kind=made", "modalities.ecg.kind=sound", "tasks.score.kind=classes")
    assert data["data"] == {"kind": "made", "split": {"kind": "k_fold", "folds": 4, "by": "subject"}}
    assert data["modalities"]["ecg"] == {"kind": "sound", "column": "eeg", "encoder": {"kind": "other", "width": 8}}
    assert data["tasks"]["score"] == {"kind": "classes", "from": "body"}
    assert places.say(("data", "path"), "x") == "tiny.yaml:4: data.path: x"  # the section's line: the key is gone


def test_the_same_kind_keeps_its_options(changed):
    assert changed("data.kind=table")[0]["data"]["path"] == "t.csv"


def test_a_new_split_keeps_its_groups(changed):
    assert changed("data.split.kind=leave_one_out")[0]["data"]["split"] == {"kind": "leave_one_out", "by": "subject"}


def test_a_new_kind_of_fusion_replaces_the_graph_and_keeps_dim(changed):
    assert changed("fusion.kind=mix")[0]["fusion"] == {"kind": "mix", "dim": 32}


def test_a_node_keeps_its_inputs(changed):
    data, _, _ = changed("fusion.graph.all.kind=vote")
    assert data["fusion"]["graph"]["all"] == {"kind": "vote", "inputs": ["body", "voice"]}


def test_an_encoder_of_another_kind_starts_anew(changed):
    assert changed("modalities.ecg.encoder.kind=plain")[0]["modalities"]["ecg"]["encoder"] == {"kind": "plain"}


def test_the_order_of_overrides_does_not_matter(changed):
    texts = [
        "fusion.kind=mix",
        "fusion.slots=2",
        "modalities=[eeg, voice]",
        "modalities.voice.mels=3",
        "data.kind=made",
    ]
    wanted = changed(*texts)[0]
    for order in itertools.permutations(texts):
        assert changed(*order)[0] == wanted
    assert wanted["fusion"] == {"kind": "mix", "dim": 32, "slots": 2}


def test_a_selection_of_sensors_adapts_graph_and_augmentations(changed):
    data, _, problems = changed("modalities=[voice, eeg]")
    assert not problems
    assert list(data["modalities"]) == ["eeg", "voice"]  # the recipe's order
    assert data["fusion"]["graph"] == {
        "body": {"kind": "join", "inputs": ["eeg"]},
        "all": {"kind": "mix", "inputs": ["body", "voice"], "layers": 2},
    }
    data, _, _ = changed("modalities=voice")
    assert data["fusion"]["graph"] == {"all": {"kind": "mix", "inputs": ["voice"], "layers": 2}}
    assert list(data["augment"]) == ["voice"]


def test_nodes_without_inputs_vanish_upwards():
    data = {
        "modalities": {"a": {}, "b": {}},
        "fusion": {
            "graph": {
                "last": {"kind": "x", "inputs": ["second", "b"]},
                "first": {"kind": "x", "inputs": ["a"]},
                "second": {"kind": "x", "inputs": ["first"]},
            }
        },
    }
    assert apply_overrides(data, Places("r"), ["modalities=b"]) == []
    assert data["fusion"]["graph"] == {"last": {"kind": "x", "inputs": ["b"]}}


def test_a_selection_of_tasks_drops_the_others(changed):
    assert list(changed("tasks=score")[0]["tasks"]) == ["score"]
    assert list(changed("modalities=voice,eeg")[0]["modalities"]) == ["eeg", "voice"]


def test_a_mapping_replaces_a_section(changed):
    assert changed("tasks={a: {kind: number}}")[0]["tasks"] == {"a": {"kind": "number"}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "modalities=voise",
            "modalities: no sensor named 'voise'; did you mean 'voice'?; known: ['ecg', 'eeg', 'voice']",
        ),
        ("tasks=[state, x]", "tasks: no task named 'x'; known: ['score', 'state']"),
        ("modalities=[]", "modalities: a selection must be a name or a list of names, but got []"),
        ("modalities=3", "modalities: a selection must be a name or a list of names, but got 3"),
    ],
)
def test_wrong_selections_are_named(changed, text, problem):
    assert changed(text)[2] == [f"command line: {problem}"]
