"""Strategies of one pace: a made pace is met, real steps are measured, and whoever resumes measures nothing."""

import json
import math
import re

import pytest

from fusionkit.compare.experiment import matching_time as module
from fusionkit.compare.experiment.grid import Asked, compare
from fusionkit.compare.experiment.matching_time import CLOSE, closest, match_step_time
from fusionkit.compare.experiment.step import time_in_turn
from fusionkit.compare.experiment.strategy import settings
from fusionkit.core.errors import ConfigError
from fusionkit.training.listener import Listener
from fusionkit.training.records import divide, read_records

TINY = ["data.subjects=6", "data.records=4", "modalities=eeg,audio", "train.device=cpu"]


def setting(tmp_path, vary):
    (found,) = settings(["quickstart"], [*TINY, f"data.cache={tmp_path}"], vary)
    return found, divide(found.recipe, read_records(found.recipe))


def recipe(kind, tmp_path):
    (found,) = settings(["quickstart"], [*TINY, f"fusion.kind={kind}"], [])
    return found.recipe


def width(recipe):
    return recipe.resolved()["fusion"]["width"]


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.0145, 0.05, 0.5])
def test_a_width_is_found_whose_pace_is_1(cost, tmp_path):
    """A step of 0.05 and cost times the width; 64 as it is, of which 1 is asked."""
    asked = []

    def pace(recipe):
        asked.append(width(recipe))
        return 0.05 + cost * asked[-1]

    found = closest(recipe("additive", tmp_path), pace)
    wanted = 0.95 / cost
    if abs(pace(recipe("additive", tmp_path)) - 1) <= CLOSE:
        assert found.knob == ""
    else:
        assert found.knob.endswith("width") and abs(0.05 + cost * found.value - 1) <= CLOSE + cost / 2
        assert abs(found.value - wanted) <= 0.1 * wanted + 1
    assert len(asked) < 20


def test_what_no_width_changes_stays_and_what_goes_half_the_way_is_taken(tmp_path):
    additive = recipe("additive", tmp_path)
    assert closest(additive, lambda recipe: 3.0).knob == ""
    assert closest(additive, lambda recipe: 0.3).knob == ""
    part = closest(additive, lambda recipe: 1.5 if width(recipe) < 64 or recipe.graph.dim < 32 else 4.0)
    assert part.knob  # log 1.5 is less than half of log 4
    none = closest(additive, lambda recipe: 3.0 if width(recipe) < 64 or recipe.graph.dim < 32 else 4.0)
    assert none.knob == ""


def test_of_all_that_are_close_the_least_change_is_taken(tmp_path):
    found = closest(recipe("additive", tmp_path), lambda recipe: 0.95 if width(recipe) >= 100 else 0.5)
    assert 64 < found.value <= 128


def test_a_value_that_cannot_be_built_is_passed_over(tmp_path):
    def pace(recipe):
        if width(recipe) > 100:
            raise ConfigError("too wide")
        return 0.01 * width(recipe)

    found = closest(recipe("additive", tmp_path), pace)
    assert 90 <= found.value <= 100


def test_real_steps_come_close_and_are_told_before_and_after(tmp_path):
    before, split = setting(tmp_path, ["fusion.kind=rcft,additive"])
    matched, notes = match_step_time(before, split, Listener(), tmp_path / "matched.json")
    assert matched.strategies[0].recipe == before.strategies[0].recipe
    assert re.fullmatch(r"steps of training are matched to those of 'rcft': [\d.]+ ms on cpu", notes[0])
    found = re.fullmatch(
        r"'additive': [\d.]+ ms \((-\d+)%\) before, [\d.]+ ms \(([+-]\d+)%\) with fused\.width (\d+) for 64.*", notes[1]
    )
    assert found, notes[1]
    was, now, value = map(int, found.groups())
    assert was < -30 and abs(now) < abs(was) / 2 and value > 64
    assert ("not within" in notes[1]) == (abs(now) > 100 * CLOSE)
    assert width(matched.strategies[1].recipe) == value
    assert {one.recipe.graph.dim for one in matched.strategies} == {before.recipe.graph.dim}


def test_whoever_resumes_measures_nothing_unless_the_recipes_are_others(tmp_path, monkeypatch):
    before, split = setting(tmp_path, ["fusion.kind=rcft,additive"])
    measured = []

    def measure(first, others, split, listener):
        measured.append(first.label)
        return {one.label: module.Turned("fusion.dim", 48) for one in others}, ("a note",)

    monkeypatch.setattr(module, "_measure", measure)
    kept = tmp_path / "matched.json"
    once = match_step_time(before, split, Listener(), kept)
    assert once == match_step_time(before, split, Listener(), kept) and measured == ["rcft"]
    assert once[0].strategies[1].recipe.graph.dim == 48 and once[1] == ("a note",)
    other, _ = setting(tmp_path, ["fusion.kind=rcft,additive", "train.lr=1e-3,2e-3"])
    match_step_time(other, split, Listener(), kept)
    assert len(measured) == 2
    kept.write_text(kept.read_text()[:-9])
    match_step_time(other, split, Listener(), kept)
    assert len(measured) == 3


def test_a_comparison_keeps_what_was_turned_and_says_it(tmp_path, monkeypatch):
    def measure(first, others, split, listener):
        return {one.label: module.Turned("fusion.dim", 48) for one in others}, ("a note",)

    monkeypatch.setattr(module, "_measure", measure)

    class Nobody:
        def run(self, cells):
            yield from ()

    words = (*TINY[:2], "modalities=text", "train.epochs=1", f"run.dir={tmp_path}")
    asked = Asked(("quickstart",), words, ("fusion.kind=concat,additive",), 1, match="step_time")
    found = compare(asked, Nobody())
    assert "a note" in found.blocks[0].notes
    assert [one.recipe.graph.dim for one in found.blocks[0].setting.strategies] == [32, 48]
    assert json.loads((found.folder / "matched.json").read_text())["turned"]["additive"]["value"] == 48
    monkeypatch.setattr(module, "_measure", None)
    again = compare(asked, Nobody(), resume=True)
    assert again.folder == found.folder and again.blocks[0].cells == found.blocks[0].cells


def test_calls_are_timed_in_turn_and_the_first_ones_do_not_count():
    order, clock = [], iter(range(1000))
    taken = time_in_turn(
        [lambda: order.append("a"), lambda: order.append("b")],
        5,
        fewest=2,
        seconds=math.inf,
        clock=lambda: float(next(clock)),
    )
    assert order == ["a", "b"] * 7 and taken == [[1.0] * 5, [1.0] * 5]
    assert len(time_in_turn([lambda: None], 50, fewest=3, seconds=0)[0]) == 3
