"""Cells trained together in this process: each ends as if alone, and what does not fit goes to the other executor."""

from pathlib import Path

import pytest

from fusionkit.cli import main
from fusionkit.compare.cells.batched import BatchedExecutor
from fusionkit.compare.cells.cell import LOG, make_cell, read_ended, run_cell
from fusionkit.compare.cells.executor import Executor
from fusionkit.recipe.load import load_recipe
from fusionkit.training import ensemble
from fusionkit.training.arm import FUSED
from fusionkit.training.run import Run

TINY = ["data.subjects=6", "data.records=6", "data.seconds=1.0", "train.epochs=2", "train.device=cpu", "train.batch=8"]
TINY += ["modalities=eeg", "train.single_sensors=false", "fusion={kind: vote, dim: 16}"]
GENERATED = "augment={eeg: [{kind: cgan, latent: 4, epochs: 1, batch: 8, add: 0.5}]}"
TINY += ["data.split={kind: k_fold, by: subject, folds: 2, validation: 0.3}"]


class Other(Executor):
    """Trains alone in this process, and remembers what it was given."""

    def __init__(self, jobs=1):
        self.given = []

    def run(self, cells):
        self.given += cells
        for cell in cells:
            yield run_cell(cell)


@pytest.fixture(autouse=True)
def any_gain(monkeypatch):
    monkeypatch.setattr(ensemble, "LEAST_GAIN", 0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cells(tmp_path, cache):
    def make(folder, *changes, seeds=2):
        recipe = load_recipe("quickstart", [*TINY, f"run.dir={tmp_path}", f"data.cache={cache}", *changes])
        return [
            make_cell("mine", recipe, fold, seed, study="", split="", cells=tmp_path / folder)
            for seed in range(seeds)
            for fold in range(2)
        ]

    return make


def run(wanted):
    said, other = [], Other()
    ended = {one.key: one for one in BatchedExecutor(other, said.append).run(wanted) if one is not None}
    return ended, said, [cell.key for cell in other.given]


def test_cells_trained_together_answer_what_each_answers_alone(cells):
    together, alone = cells("together"), cells("alone")
    ended, said, given = run(together)
    assert not given and len(said) == 1 and "4 trained together, gradients" in said[0] and "times faster" in said[0]
    for one, two in zip(together, alone, strict=True):
        assert read_ended(one) == ended[one.key] and ended[one.key].problem == "" and ended[one.key].seconds > 0
        assert "trained in" in (Path(one.folder) / LOG).read_text()
        found = Run.open(Path(ended[one.key].run)).results(FUSED)[one.fold]
        wanted = Run.open(Path(run_cell(two).run)).results(FUSED)[two.fold]
        assert found.best_epoch == wanted.best_epoch
        for task, values in wanted.decisions["test"]["all"].items():
            assert found.decisions["test"]["all"][task] == pytest.approx(values, abs=1e-4)


def test_what_does_not_fit_and_what_is_alone_goes_to_the_other(cells):
    mixed = cells("one", "train.mixup=0.2", seeds=1)
    single = cells("one", "train.lr=0.5", seeds=1)[:1]
    ended, said, given = run([*mixed, *single])
    assert set(given) == set(ended) == {cell.key for cell in [*mixed, *single]}
    assert len(said) == 1 and "mine: one after another, for mixup" in said[0]
    assert all(one.problem == "" for one in ended.values())


def test_generated_records_are_learned_from_together_as_alone(cells):
    """Each cell trains its own generator first, which draws nothing in a step; one appends fewer records than others."""
    together, alone = cells("together", GENERATED), cells("alone", GENERATED)
    ended, said, given = run(together)
    assert len(given) == 1 and "mine: 1 alone, for no other has as many records" in said[0]
    assert len(said) == 2 and "3 trained together" in said[1]
    for one, two in zip(together, alone, strict=True):
        found = Run.open(Path(ended[one.key].run)).results(FUSED)[one.fold]
        wanted = Run.open(Path(run_cell(two).run)).results(FUSED)[two.fold]
        for task, values in wanted.decisions["test"]["all"].items():
            assert found.decisions["test"]["all"][task] == pytest.approx(values, abs=1e-4)


def test_generated_records_with_an_augmentation_are_learned_from_alone(cells):
    both = GENERATED.replace("[{kind: cgan", "[{kind: time_reverse}, {kind: cgan")
    wanted = cells("one", both, seeds=1)
    ended, said, given = run(wanted)
    assert set(given) == {cell.key for cell in wanted} and all(one.problem == "" for one in ended.values())
    assert len(said) == 1 and "mine: one after another, for mixup, augmentation" in said[0]


def test_a_fault_of_one_is_met_again_alone(cells):
    wild = cells("one", "train.lr=1e30", "train.clip=0", seeds=1)
    ended, said, given = run(wild)
    assert set(given) == {cell.key for cell in wild}
    assert all("finite" in one.problem for one in ended.values())
    assert "together they ended with" in said[0]


def test_a_mistake_in_one_recipe_is_its_end(cells):
    ended, _, given = run(cells("one", "data.split={kind: fixed, test: [nobody]}", seeds=1))
    assert not given and all("nobody" in one.problem for one in ended.values())


def test_leaving_stops_it_and_what_was_trained_is_taken_up(cells):
    wanted = cells("one", "train.epochs=200", seeds=1)
    running = BatchedExecutor(Other(), lambda text: None).run(wanted)
    assert next(running) is None
    running.close()
    assert [read_ended(cell) for cell in wanted] == [None, None]


def test_the_command_says_how_much_faster_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fusionkit.compare.cells.executor.LocalExecutor", Other)
    words = [
        "compare",
        "quickstart",
        f"run.dir={tmp_path}",
        *TINY[:-1],
        "data.split={kind: k_fold, by: subject, folds: 2, validation: 0.3}",
    ]
    assert main([*words, "--vary", "train.lr=1e-3,2e-3", "--seeds", "2", "--no-report", "--batched", "auto"]) == 0
    assert capsys.readouterr().out.count("4 trained together") == 2
