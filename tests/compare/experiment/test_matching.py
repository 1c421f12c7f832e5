"""Strategies of one size, counted by building what is trained."""

import re

import pytest

from fusionkit.compare.experiment.matching import CLOSE, match_parameters
from fusionkit.compare.experiment.strategy import settings
from fusionkit.core.errors import ConfigError
from fusionkit.recipe.build import build_modalities, build_model, build_tasks
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.listener import Listener
from fusionkit.training.material import open_study
from fusionkit.training.records import divide, read_records

TINY = ["data.subjects=6", "data.records=4", "modalities=eeg,audio", "train.device=cpu"]


def matched(tmp_path, vary, *changes):
    (setting,) = settings(["quickstart"], [*TINY, f"data.cache={tmp_path}", *changes], vary)
    split = divide(setting.recipe, read_records(setting.recipe))
    return setting, *match_parameters(setting, split, Listener())


def parameters(recipe):
    """Of the recipe as a cell reads it from its file."""
    recipe = parse_recipe(dump_recipe(recipe), "test")
    study = open_study(recipe, Listener().prepare)
    tasks = build_tasks(recipe)
    for name, task in tasks.items():
        labels = study.records.labels[recipe.tasks[name].column]
        task.learn(labels, name)
        task.fit(task.encode(labels, name), name)
    stored = {name: sensor.stored for name, sensor in study.sensors.items()}
    return sum(one.numel() for one in build_model(recipe, build_modalities(recipe), stored, tasks).parameters())


def test_all_come_within_5_percent_of_the_first_or_say_that_they_do_not(tmp_path):
    before, setting, notes = matched(tmp_path, ["fusion.kind=rcft,additive,self_attention,vote"])
    first = setting.strategies[0]
    assert first.recipe == before.strategies[0].recipe
    wanted = parameters(first.recipe)
    assert f"{wanted:,}" in notes[0]
    for strategy, note in zip(setting.strategies[1:4], notes[1:], strict=True):
        has = parameters(strategy.recipe)
        assert f"{has:,} parameters" in note and strategy.label in note
        assert ("not within" in note) == (abs(has - wanted) > CLOSE * wanted)
    assert sum("not within" in note for note in notes) <= 1


def test_an_operations_own_width_leaves_the_encoders_alone(tmp_path):
    _, setting, notes = matched(tmp_path, ["fusion.kind=rcft,additive"])
    additive = setting.strategies[1].recipe
    assert additive.graph.dim == setting.recipe.graph.dim
    assert re.search(r"fused\.width \d+ for 64", notes[1]) and "not within" not in notes[1]
    assert additive.resolved()["modalities"] == setting.recipe.resolved()["modalities"]


def test_sensors_alone_and_the_late_mean_are_those_of_the_first(tmp_path):
    _, setting, _ = matched(tmp_path, ["fusion={kind: rcft, dim: 32},{kind: vote, rule: mean, dim: 32}"])
    (mean,) = [one for one in setting.strategies if one.role == "late mean"]  # the strategy is another size now
    assert mean.recipe.graph.dim == 32 and setting.reference == mean.label
    assert all(one.recipe.graph.dim == 32 for one in setting.strategies if one.role == "sensor")


def test_strategies_that_differ_only_in_size_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="differ in nothing but their size"):
        matched(tmp_path, ["fusion.dim=32,64"])
