"""Tuning: one budget for all, and nothing of a test part is looked at."""

import math
from dataclasses import replace

import pytest

from fusionkit.compare.cells.cell import Cell, Ended, run_cell
from fusionkit.compare.cells.executor import Executor
from fusionkit.compare.experiment import tuning as module
from fusionkit.compare.experiment.grid import Asked, compare
from fusionkit.compare.experiment.strategy import Strategy, settings
from fusionkit.compare.experiment.tuning import tune
from fusionkit.core.errors import ConfigError
from fusionkit.recipe.load import parse_recipe
from fusionkit.training import run as runs

pytest.importorskip("optuna")

TINY = ["data.subjects=4", "data.records=4", "train.epochs=1", "train.device=cpu", "modalities=text"]
FOLDS = "data.split={kind: k_fold, by: subject, folds: 2, validation: 0.5}"


def search(trials, broken=()):
    """Tune two made strategies where the best learning rate is 3e-3 and nothing is trained."""
    (setting,) = settings(["quickstart"], ["modalities=eeg,audio"], ["fusion.kind=rcft,concat"])
    wanted = [one for one in setting.strategies if one.role == "strategy"]
    rates: dict[str, float] = {}

    def cell(one: Strategy, recipe, fold):
        key = f"{one.label} {fold} {recipe.train.lr!r} {recipe.graph.nodes[0].options.get('dropout')}"
        rates[key] = recipe.train.lr
        return Cell(key, one.label, "", fold, 0, "")

    def train(cells):
        assert all(isinstance(one, Cell) for one in cells)
        return {one.key: Ended(one.key, "", "no memory" if one.strategy in broken else "", 0.0) for one in cells}

    def score(ended, fold):
        return -abs(math.log10(rates[ended.key] / 3e-3))

    return wanted, *tune(wanted, 2, trials, cell=cell, train=train, score=score)


def test_every_strategy_gets_the_same_trials_its_own_values_first_and_the_best_wins():
    wanted, recipes, trials = search(12)
    for one in wanted:
        for fold in range(2):
            own = [t for t in trials if (t.strategy, t.fold) == (one.label, fold)]
            assert [t.number for t in own] == list(range(12))
            assert own[0].values["train.lr"] == one.recipe.train.lr
            rate, decay = one.recipe.train.lr, one.recipe.train.weight_decay
            assert all(rate / 10 <= t.values["train.lr"] <= rate * 10 for t in own)
            assert all(decay / 10 <= t.values["train.weight_decay"] <= decay * 10 for t in own)
            best = max(own, key=lambda t: t.score)
            assert recipes[one.label, fold].train.lr == best.values["train.lr"]
    assert "fusion.fused.dropout" in trials[0].values  # of rcft
    assert {len(t.values) for t in trials if t.strategy == "concat"} == {2}


def test_a_search_is_the_same_again_and_other_folds_seek_by_themselves():
    _, _, trials = search(7)
    assert trials == search(7)[2]
    rates = {fold: [t.values["train.lr"] for t in trials if (t.strategy, t.fold) == ("rcft", fold)] for fold in (0, 1)}
    assert rates[0][0] == rates[1][0] and rates[0][1:] != rates[1][1:]


def test_where_every_trial_fails_the_recipe_stays():
    wanted, recipes, trials = search(3, broken=("rcft",))
    assert recipes["rcft", 0] == wanted[0].recipe
    assert all(math.isnan(t.score) for t in trials if t.strategy == "rcft")


class Here(Executor):
    """Trains in this process."""

    def run(self, cells):
        for cell in cells:
            yield run_cell(cell)


class Closed(dict[str, object]):
    """Validation may be seen."""

    def __getitem__(self, part):
        assert part == "validation", f"looked at {part}"
        return super().__getitem__(part)


def test_nothing_of_a_test_part_is_seen_and_the_best_is_trained_with_all_seeds(tmp_path, monkeypatch):
    seen = []

    def closed(folder):
        result = runs_load(folder)
        seen.append(folder)
        return replace(result, rows=Closed(result.rows), decisions=Closed(result.decisions))

    runs_load = runs.load_result
    monkeypatch.setattr(runs, "load_result", closed)
    asked = Asked(("quickstart",), (*TINY, FOLDS, f"run.dir={tmp_path}"), ("train.batch=4,8",), 2, tune=3)
    done = compare(asked, Here())
    (block,) = done.blocks
    assert len(block.trials) == 2 * 2 * 3
    assert len(seen) == 12 + 12 + 4  # a trial ends and is scored; the best are trained with one seed more
    for fold in range(2):
        for label in ("4", "8"):
            own = [t for t in block.trials if (t.strategy, t.fold) == (label, fold)]
            best = max(own, key=lambda t: t.score)
            for seed in range(2):
                recipe = parse_recipe(block.cells[label, fold, seed].recipe, "test")
                assert recipe.train.lr == best.values["train.lr"] and recipe.seed == seed
    assert any("3 trials" in note for note in block.notes)
    trained = []
    monkeypatch.setattr(Here, "run", lambda self, cells: (one for one in trained.extend(cells) or ()))
    again = compare(asked, Here(), resume=True)
    assert trained == [] and again.blocks[0].trials == block.trials


def test_a_budget_of_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--tune must be 1 or more, but got 0"):
        compare(Asked(("quickstart",), (*TINY, f"run.dir={tmp_path}"), (), 1, tune=0), Here())


def test_without_optuna_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'fusionkit-torch\[tune\]'"):
        tune([], 1, 1, cell=None, train=None, score=None)
