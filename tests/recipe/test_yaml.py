"""Plain data from YAML, and the refusals."""

import math
import time
import tracemalloc
from pathlib import Path

import pytest

from fusionkit.recipe.problem import RecipeError
from fusionkit.recipe.yaml import MAX_BYTES, read_file, read_text, scalar


def refused(text: str) -> str:
    with pytest.raises(RecipeError) as error:
        read_text(text, "r.yaml")
    assert len(error.value.lines) == 1
    return error.value.lines[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_scalars_have_the_types_of_yaml_1_2(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "007", "1:30", "2026-11-22", "1_000", "0x1F", "e5", ".", "+"]
)
def test_what_only_looks_like_something_stays_text(text):
    assert scalar(text) == text


def test_nan_is_read():
    assert math.isnan(scalar(".nan"))


def test_every_key_and_item_has_its_line():
    document = read_text("a: 1\nb:\n  c: [x, y]\n  d:\n    - 1\n    - e: 2\n", "r.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", "y"], "d": [1, {"e": 2}]}}
    assert document.lines[("a",)] == 1
    assert document.lines[("b", "c", 1)] == 3
    assert document.lines[("b", "d", 0)] == 5
    assert document.lines[("b", "d", 1, "e")] == 6


def test_quotes_and_the_tag_str_make_text():
    assert read_text("a: '1'\nb: \"true\"\nc: !!str 5\nd: !!int 5\n", "r").data == {
        "a": "1",
        "b": "true",
        "c": "5",
        "d": 5,
    }


def test_keys_are_text_as_written():
    assert read_text("no: 1\n1: 2\nnull: 3\n1e-3: 4", "r").data == {"no": 1, "1": 2, "null": 3, "1e-3": 4}


def test_an_alias_repeats_its_anchor():
    document = read_text("a: &x {b: [1]}\nc: *x\n", "r")
    assert document.data == {"a": {"b": [1]}, "c": {"b": [1]}}
    document.data["a"]["b"].append(2)
    assert document.data["c"] == {"b": [1]}  # a copy: changing one changes no other


def test_a_key_given_twice_names_both_lines():
    assert refused("modalities:\n  eeg: 1\n  audio: 2\n  eeg: 3\n") == (
        "r.yaml:4: modalities.eeg: a key may be given once, but it is on line 2 too"
    )


def test_all_keys_given_twice_are_listed():
    with pytest.raises(RecipeError) as error:
        read_text("a: 1\na: 2\nb: {c: 1, c: 2}", "r.yaml")
    assert [line.split(": a key")[0] for line in error.value.lines] == ["r.yaml:2: a", "r.yaml:3: b.c"]


@pytest.mark.parametrize(
    ("text", "got"),
    [("- a\n- b", "a list"), ("just words", "'just words'"), ("", "nothing"), ("# a comment", "nothing"), ("3", "3")],
)
def test_what_is_no_mapping_is_refused(text, got):
    assert refused(text) == f"r.yaml: a recipe must be a mapping (name: ..., data: ...), but this is {got}"


def test_broken_yaml_names_its_line():
    assert refused("a: 1\nb: [1, 2\nc: 3").startswith("r.yaml:3: a recipe must be YAML, but ")
    assert refused("a: 1\n\tb: 2").startswith("r.yaml:2: a recipe must be YAML, but ")


def test_an_open_value_inside_braces_needs_quotes():
    assert refused("a: {b: ???}").endswith("; inside braces write '???' with quotes")
    assert read_text("a: ???\nb: {c: '???'}", "r").data == {"a": "???", "b": {"c": "???"}}


def test_control_characters_are_refused():
    assert refused("a: \x07").startswith("r.yaml: a recipe must be YAML, but ")


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("!!python/object/apply:os.system [ls]", "!!python/object/apply:os.system"),
        ("!mine 3", "!mine"),
        ("!!set {a, b}", "!!set"),
        ("!!binary aGk=", "!!binary"),
    ],
)
def test_tags_are_refused(tag, shown):
    assert refused(f"a: 1\nb: {tag}\n") == f"r.yaml:2: tags are not for recipes, but got {shown}"


def test_a_tag_that_lies_is_refused():
    assert refused("a: !!int x") == "r.yaml:1: 'x' must be what its tag says, but it is no !!int"


def test_merge_keys_are_refused():
    assert (
        refused("a: &x {b: 1}\nc:\n  <<: *x\n") == "r.yaml:3: merge keys (<<) are not for recipes; write the keys out"
    )


def test_two_documents_are_refused():
    assert refused("a: 1\n---\nb: 2") == "r.yaml:2: a recipe must be one document, but another one starts here"


def test_a_key_that_is_a_list_is_refused():
    assert refused("? [a]\n: 1") == "r.yaml:1: a key must be text, but this one is a list or a mapping"


def test_unknown_and_circular_aliases_are_refused():
    assert refused("a: *x") == "r.yaml:1: an alias must follow its anchor, but *x has none before it"
    assert refused("a: &x [1, *x]") == "r.yaml:1: an alias must follow its anchor, but *x has none before it"


def bomb(levels: int, width: int) -> str:
    lines = [f"a0: &a0 [{', '.join(['lol'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_an_alias_bomb_costs_nothing():
    tracemalloc.start()
    start = time.perf_counter()
    message = refused(bomb(levels=25, width=9))  # 9 ** 25 values
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message == "r.yaml:5: a recipe may hold 10000 values, but its aliases expand to more"
    assert seconds < 1
    assert peak < 5 * 2**20


def test_a_hundred_megabytes_are_refused_at_once(tmp_path: Path):
    path = tmp_path / "big.yaml"
    line = b"- *a\n"
    with path.open("wb") as file:
        file.write(b"a: &a x\nb:\n")
        for _ in range(100):
            file.write(line * (2**20 // len(line)))
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(RecipeError, match=r"big\.yaml: a recipe may have 1048576 bytes, but this file has more"):
        read_file(path, "big.yaml")
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 5 * MAX_BYTES


def test_many_values_within_the_size_are_refused_at_once():
    start = time.perf_counter()
    message = refused("a:\n" + "- 1\n" * 200_000)
    assert message == "r.yaml:9999: a recipe may hold 10000 values, but this one holds more"
    assert time.perf_counter() - start < 2


def test_deep_nesting_is_refused_without_recursion():
    assert refused("a: " + "[" * 100_000) == "r.yaml:1: a recipe may be 32 levels deep, but this one is deeper"
    deep = "a0: &a0 [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))
    assert "levels deep, but its aliases make it deeper" in refused(deep)


def test_other_encodings_are_refused(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(RecipeError, match=r"^r\.yaml:2: a recipe must be UTF-8, but byte 8 is not$"):
        read_file(path, "r.yaml")
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\n")
    assert read_file(path, "r.yaml").data == {"a": "é"}


def test_missing_files_and_folders_are_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"^x: a recipe must be a file that can be read, but No such file"):
        read_file(tmp_path / "x.yaml", "x")
    with pytest.raises(RecipeError, match=r"^x: a recipe must be a file that can be read, but Is a directory$"):
        read_file(tmp_path, "x")
