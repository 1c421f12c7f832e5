"""What the README claims is so."""

import importlib.util
import re
from pathlib import Path

import pytest

from fusionkit.core import registry
from fusionkit.recipe.load import parse_recipe
from fusionkit.testing import check_fusion

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language, contains):
    """The code block of a language that holds some text."""
    return next(code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if contains in code)


@pytest.mark.parametrize(
    ("row", "family"),
    [
        ("sensors", "modalities"),
        ("fusion", "fusion"),
        ("encoders", "encoders"),
        ("tasks", "heads"),
        ("sources", "sources"),
        ("before training", "objectives"),
        ("few labels", "consistency"),
        ("buffers of a stream", "buffers"),
        ("generated records", "generators"),
    ],
)
def test_the_box_holds_what_is_registered(row, family):
    (line,) = re.findall(rf"^\| {row} \|(.*)\|$", README, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", line)) == set(registry.families[family].kinds())


def test_the_example_recipe_is_sound():
    recipe = parse_recipe(block("yaml", "physio"), "readme.yaml")
    assert [node.level for node in recipe.graph.nodes] == ["early", "intermediate"]


@pytest.mark.parametrize("example", ["quantity: true", "labels: {keep: 100}"])
def test_the_examples_of_tasks_and_pretraining_are_sound(example):
    sections = {
        "data": "data: {kind: npz, path: a.npz}",
        "modalities": "modalities: {one: {kind: signal}, two: {kind: signal}}",
    }
    sections |= {"tasks": "tasks: {y: {kind: classification}}"}
    fusion = "fusion: {graph: {physio: {kind: gated, inputs: [one, two]}, all: {kind: rcft, inputs: [physio, two]}}}"
    text = block("yaml", example)
    rest = [line for name, line in sections.items() if not re.search(rf"^{name}:", text, re.MULTILINE)]
    recipe = parse_recipe("\n".join([text, *rest, fusion]), "readme.yaml")
    assert recipe.train.consistency or recipe.heads.sharing == "soft"


def test_the_example_of_generated_records_is_sound():
    rest = "data: {kind: manifest, path: lab.csv}\nmodalities: {eeg: {kind: eeg}}\nfusion: {kind: vote}\n"
    recipe = parse_recipe(block("yaml", "cwgan_gp") + rest + "tasks: {state: {kind: classification}}\n", "readme.yaml")
    assert recipe.generators["eeg"].use == "selective"


def test_the_example_of_eeg_may_be_streamed():
    rest = "data: {kind: manifest, path: lab.csv}\ntasks: {state: {kind: classification}}\n"
    recipe = parse_recipe(block("yaml", "montage: seed_62") + rest, "readme.yaml")
    assert recipe.export.streaming and recipe.modalities["eeg"].align.kind == "euclidean"


def test_the_example_operation_passes_the_conformance_suite(tmp_path):
    path = tmp_path / "my_lab_fusion.py"
    path.write_text(block("python", "class Stack"))
    spec = importlib.util.spec_from_file_location("my_lab_fusion", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        assert check_fusion(module.Stack)
    finally:
        registry.fusion._classes.pop("stack")


def test_ci_runs_the_command_of_the_readme():
    ci = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert "<!-- tests -->" in ci and "python -m pytest -q -n 2" in block("sh", "pytest")
