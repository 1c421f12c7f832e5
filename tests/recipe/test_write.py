"""What is written reads back the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump, dump_recipe
from fusionkit.recipe.yaml import read_text

TEXT = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["1e-3", "007", "no", "yes", "null", "~", "", "<<", "???", "1:30", "0x1F", "0o7", ".inf", "- a", "a: b", "#"]
    ),
    st.from_regex(r"[-+]?[0-9.]{1,6}([eE][-+]?[0-9]{1,2})?", fullmatch=True),
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUE, max_size=3))
def test_any_plain_data_reads_back(data):
    def kinds(value):
        if isinstance(value, dict):
            return {name: kinds(part) for name, part in value.items()}
        return [kinds(part) for part in value] if isinstance(value, list) else type(value)

    read = read_text(dump(data), "r").data
    assert read == data
    assert kinds(read) == kinds(data)


def test_nan_reads_back():
    assert math.isnan(read_text(dump({"a": math.nan}), "r").data["a"])


@pytest.mark.parametrize("overrides", [[], ["fusion.kind=join", "tasks=state"], ["modalities=voice", "tasks=state"]])
def test_a_recipe_reads_back(recipe_file, tmp_path, overrides):
    recipe = load_recipe(recipe_file(), overrides)
    path = tmp_path / "again.yaml"
    path.write_text(dump_recipe(recipe))
    again = load_recipe(str(path))
    assert again.resolved() == recipe.resolved()
    assert again.graph.nodes[-1].kind == recipe.graph.nodes[-1].kind
    assert dump_recipe(again) == dump_recipe(recipe)


def test_sections_are_written_in_their_order_without_aliases(recipe_file):
    shared = {"kind": "mask"}
    text = dump({"train": {"epochs": 1}, "augment": {"a": [shared], "b": [shared]}, "name": "x", "later": 1})
    assert text == "name: x\naugment:\n  a:\n  - {kind: mask}\n  b:\n  - {kind: mask}\ntrain: {epochs: 1}\nlater: 1\n"
    written = dump_recipe(load_recipe(recipe_file()))
    order = [line.partition(":")[0] for line in written.splitlines() if line[0].isalpha()]
    assert order == ["name", "seed", "plugins", "data", "modalities", "fusion", "tasks", "heads", "augment", "pretrain",
                     "init", "train", "export", "run", "expect"]  # fmt: skip
