"""Recipes and graphs that break a rule are refused with file, line and key, before data or device are touched."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusionkit.cli import main

ROOT = Path(__file__).parents[2]


def recipe(old, new):
    """A spoiler of the recipe's text."""

    def change(folder):
        text = (folder / "r.yaml").read_text()
        assert old in text
        (folder / "r.yaml").write_text(text.replace(old, new))

    return change


def graph(nodes):
    return recipe("fusion: {kind: concat, dim: 8}", f"fusion: {{dim: 8, graph: {{{nodes}}}}}")


GRAPHS = {
    "a sensor named twice": (
        recipe("  audio: {kind: audio", "  eeg: {kind: audio"),
        r"r\.yaml:5: modalities\.eeg: a key may be given once, but it is on line 4 too",
    ),
    "a cycle": (
        graph("a: {kind: rcft, inputs: [eeg, b]}, b: {kind: rcft, inputs: [audio, image, a]}, c: {kind: vote, inputs: [a, b]}"),
        r"r\.yaml:7: fusion\.graph\.a\.inputs: a graph may have no cycle, but a -> b -> a",
    ),
    "an early node over tokens": (
        graph("a: {kind: rcft, inputs: [eeg, audio]}, b: {kind: concat, inputs: [a, image]}"),
        (r"r\.yaml:7: fusion\.graph\.b\.inputs: an early node takes the features of modalities, but 'a' \(rcft\) is an "
        r"intermediate node"),
    ),
    "a late node before the last": (
        graph("a: {kind: vote, inputs: [eeg, audio]}, b: {kind: rcft, inputs: [a, image]}"),
        r"r\.yaml:7: fusion\.graph\.b\.inputs: a late node may only be last, but 'a' \(vote\) feeds 'b'",
    ),
    "an unknown input": (
        graph("a: {kind: vote, inputs: [eeg, audio, imagr]}"),
        r"r\.yaml:7: fusion\.graph\.a\.inputs: no modality or node named 'imagr'; did you mean 'image'\?; known: \[.*\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_breaks_a_rule_is_refused_with_its_line(lab, refusal, name):
    spoil, message = GRAPHS[name]
    spoil(lab)
    lines = refusal("train", "r.yaml")
    assert re.fullmatch(message, lines[0])
    assert not (lab / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", r"r\.yaml: a recipe must be a mapping \(name: \.\.\., data: \.\.\.\), but this is a list"),
        (b"hello\n", r"r\.yaml: a recipe must be a mapping .* but this is 'hello'"),
        (b"", r"r\.yaml: a recipe must be a mapping .* but this is nothing"),
        (b"a:\n\tb: 1\n", r"r\.yaml:2: a recipe must be YAML, but .*"),
        (b"\0\0", r"r\.yaml: a recipe must be YAML, but .*"),
        (b"\xff\xfe\xff", r"r\.yaml:1: a recipe must be UTF-8, but byte 0 is not"),
        (
            b"a: !!python/object/apply:os.system [ls]\n",
            r"r\.yaml:1: tags are not for recipes, but got !!python/object/.*",
        ),
        (b"a: &a [*a]\n", r"r\.yaml:1: an alias must follow its anchor, but \*a has none before it"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(lab, refusal, content, message):
    (lab / "r.yaml").write_bytes(content)
    (line,) = refusal("train", "r.yaml")
    assert re.fullmatch(message, line)


def laughs():
    """Nine levels of ten aliases: a billion values of a few hundred bytes."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for level in "bcdefghi":
        lines.append(f"{level}: &{level} [{', '.join(['*' + chr(ord(level) - 1)] * 10)}]")
    return "\n".join(lines) + "\n"


def test_aliases_that_expand_without_end_are_refused_at_once(lab, refusal):
    (lab / "r.yaml").write_text(laughs())
    began = time.monotonic()
    (line,) = refusal("train", "r.yaml")
    assert line == "r.yaml:4: a recipe may hold 10000 values, but its aliases expand to more"
    assert time.monotonic() - began < 2


def test_100_megabytes_of_aliases_are_not_even_read(lab):
    with (lab / "r.yaml").open("w") as file:
        file.write("a: &a [x, x]\nb: [")
        for _ in range(100):
            file.write("*a, " * 262_144)
        file.write("*a]\n")
    code = (
        "import resource, sys\n"
        "from fusionkit.recipe.yaml import read_file, RecipeError\n"
        "from pathlib import Path\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_file(Path('r.yaml'), 'r.yaml')\n"
        "except RecipeError as error: print(error, file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    began = time.monotonic()
    assert main(["check", "r.yaml"]) == 2
    assert time.monotonic() - began < 2
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == "r.yaml: a recipe may have 1048576 bytes, but this file has more\n"
    assert int(done.stdout) < 20_000  # kilobytes
