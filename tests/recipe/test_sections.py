"""A resolved recipe says everything, and reads back as itself."""

import pytest

from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.sections import SECTIONS


def test_a_resolved_recipe_has_every_default(recipe_file):
    resolved = load_recipe(recipe_file()).resolved()
    assert tuple(resolved) == SECTIONS
    assert resolved["modalities"]["eeg"] == {
        "kind": "brain",
        "column": "eeg",
        "align": {"kind": "none"},
        "smooth": {"kind": "none"},
        "normalise": {"kind": "training"},
        "encoder": {"kind": "plain", "layers": 2},
        "channels": ["C3", "C4"],
        "resample": False,
        "features": {"kind": "bands", "window": 2.0},
    }
    assert resolved["fusion"] == {
        "dim": 32,
        "graph": {
            "body": {"kind": "join", "inputs": ["eeg", "ecg"], "steps": 8, "encoder": {"kind": "mlp", "layers": 2}},
            "all": {"kind": "mix", "inputs": ["body", "voice"], "slots": 4, "layers": 2},
        },
    }
    assert resolved["tasks"] == {
        "state": {"kind": "classes", "column": "state", "weight": 1.0, "classes": ["rest", "work"]},
        "score": {"kind": "number", "column": "score", "from": "body", "weight": 1.0},
    }
    assert resolved["augment"]["voice"] == [{"kind": "mask", "share": 0.5}, {"kind": "mask", "share": 0.25}]
    assert resolved["train"]["batch"] == 64
    assert resolved["export"] == {"opset": 20, "tolerance": 0.0001, "streaming": False}


@pytest.mark.parametrize("overrides", [[], ["fusion.kind=join"], ["fusion.kind=vote"], ["modalities=voice"]])
def test_what_is_resolved_is_plain_data(recipe_file, overrides):
    def check(value):
        if isinstance(value, dict):
            assert all(type(name) is str for name in value)
            for part in value.values():
                check(part)
        elif isinstance(value, list):
            for part in value:
                check(part)
        else:
            assert value is None or type(value) in (str, int, float, bool), value

    overrides = [*overrides, "tasks=state"]
    check(load_recipe(recipe_file(), overrides).resolved())


def test_the_short_form_stays_short(recipe_file):
    fusion = load_recipe(recipe_file(), ["fusion.kind=join", "tasks=state"]).resolved()["fusion"]
    assert fusion == {"dim": 32, "kind": "join", "steps": 8, "encoder": {"kind": "mlp", "layers": 2}}
