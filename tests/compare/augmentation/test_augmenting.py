"""The study of augmenters on made-up EEG: what is shared, what is judged on what, how it goes on after a stop."""

import csv
import io
import json
import shutil
import signal

import numpy as np
import pytest
import torch

from fusionkit.compare.augmentation import judging
from fusionkit.compare.augmentation.augmenting import Augmentation, augment, find
from fusionkit.compare.augmentation.judging import COPIES, entry_of, strategies
from fusionkit.compare.augmentation.page import build_page
from fusionkit.compare.augmentation.scores import NONE
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.evaluation.classifiers import network
from fusionkit.recipe.load import parse_recipe
from fusionkit.training import generating
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.run import train
from tests.conftest import TINY

GENERATOR = "augment={eeg: {kind: cwgan_gp, add: 2.0, epochs: 2, batch: 16, hidden: 16, layers: 1, latent: 4}}"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Judges that learn for a moment."""
    monkeypatch.setattr(network, "STEPS", 10)


@pytest.fixture
def recipe(tiny):
    return lambda *more: tiny(GENERATOR, *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two folds and seeds; read only."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STEPS", 10)
        torch.set_num_threads(1)
        recipe = parse_recipe(TINY, "tiny.yaml", [f"run.dir={folder}", GENERATOR])
        return augment(recipe, sweep=[0, 1], seeds=2)


@pytest.fixture
def done(finished, tmp_path):
    """A copy of it, where the recipe's own studies lie."""
    folder = tmp_path / "runs" / "tiny" / "augment" / finished.folder.name
    shutil.copytree(finished.folder, folder)
    made = Augmentation(folder)
    (folder / "recipe.yaml").write_text(
        (folder / "recipe.yaml").read_text().replace(str(finished.folder.parents[2]), str(tmp_path / "runs"))
    )
    return made


class Heard(Listener):
    def __init__(self):
        self.lines, self.begun = [], []

    def say(self, text):
        self.lines.append(text)

    def begin(self, arm, fold, folds, epochs):
        self.begun.append((arm, fold))


def test_every_strategy_amount_judge_fold_and_seed_is_in_the_table(done):
    rows = list(csv.DictReader(io.StringIO((done.folder / "results.csv").read_text())))
    tried = 1 + 2 * len([*COPIES, "full", "selective"])
    assert len(rows) == len({tuple(row.values())[:7] for row in rows}) == 2 * 2 * 2 * 2 * tried
    assert {row["seed"] for row in rows} == {"3", "4"} and {row["amount"] for row in rows} == {"0.0", "1.0", "2.0"}
    for fold in "01":
        full = [row for row in rows if row["strategy"] == "full" and row["fold"] == fold]
        assert len({int(row["appended"]) / float(row["amount"]) for row in full}) == 1
    assert all(float(row["appended"]) <= float(row["wanted"]) for row in rows)


def test_scores_are_of_real_records_of_their_part_alone(recipe, monkeypatch):
    """Spy on what is read for judging, and on what the generator learns."""
    read, learned = [], []
    inner, lesson = judging.read_held_out, generating.read_lesson

    def spy(origin, lesson, rows):
        read.append(rows)
        return inner(origin, lesson, rows)

    def spy_lesson(origin):
        learned.append(origin.rows)
        return lesson(origin)

    monkeypatch.setattr(judging, "read_held_out", spy)
    monkeypatch.setattr(judging, "read_lesson", spy_lesson)
    made = augment(recipe(), seeds=1, fold=0)
    split = json.loads((made.folder / "split.json").read_text())["folds"][0]
    validation, test = read
    assert (len(validation), len(test)) == (len(split["validation"]), len(split["test"]))
    for rows in learned:
        assert not np.isin(rows, np.concatenate([validation, test])).any() and len(rows) <= len(split["train"])
    (records,) = {score.records for score in made.scores if score.part == "test"}
    assert len(test) / 2 < records <= len(test)  # those that have the sensor and a label


def test_appending_nothing_is_the_classifier_of_real_records_whatever_the_augmenter(recipe, done):
    other = augment(recipe("augment.eeg.kind=cvae", "augment.eeg.latent=2", "name=other"), seeds=2)
    none = [score for score in done.scores if score.strategy == NONE]
    assert none == [score for score in other.scores if score.strategy == NONE]


def test_amounts_and_uses_share_one_augmenter_and_one_cost(recipe, monkeypatch):
    tuned = []
    inner = judging.tune_classifier
    monkeypatch.setattr(judging, "tune_classifier", lambda kind, real: (tuned.append(kind), inner(kind, real))[1])
    heard = Heard()
    augment(recipe(), sweep=[0.5, 1, 3], seeds=1, fold=1, listener=heard)
    assert heard.begun == [("cwgan_gp of eeg", 1)] and tuned == ["svm", "network"]


def test_a_study_that_was_stopped_goes_on_to_the_same_bits(recipe, done, monkeypatch, tmp_path):
    """A request in the second cell leaves the first; what is resumed does only what lacks."""
    inner, count = judging.fit_classifier, 0

    def stopping(*given, **more):
        nonlocal count
        count += 1
        if count == 30:
            signal.raise_signal(signal.SIGTERM)
        return inner(*given, **more)

    monkeypatch.setattr(judging, "fit_classifier", stopping)
    again = recipe("name=again")
    with pytest.raises(Interrupted) as stop:
        augment(again, sweep=[1], seeds=2)
    assert stop.value.exit_code == 143
    (folder,) = (tmp_path / "runs" / "again" / "augment").iterdir()
    kept = list((folder / "cells").iterdir())
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(kept) == 1 and not (folder / "results.csv").exists()
    resumed = augment(again, sweep=[1], seeds=2, resume=True)
    assert resumed.folder == folder and {path: path.stat().st_mtime_ns for path in kept} == before
    assert (folder / "results.csv").read_text() == (done.folder / "results.csv").read_text()
    assert (folder / "fold-1/seed-4/generated/eeg/generator.safetensors").is_file()


@pytest.mark.slow
def test_more_folds_and_seeds_join_a_study(recipe, done):
    first = augment(recipe("name=grown"), sweep=[1], seeds=1, fold=0)
    assert {(score.fold, score.seed) for score in first.scores} == {(0, 3)}
    grown = augment(recipe("name=grown"), sweep=[1], seeds=2, resume=True)
    assert grown.folder == first.folder and sorted(map(str, grown.scores)) == sorted(map(str, done.scores))


@pytest.mark.slow
def test_the_recipe_s_own_model_is_judged_by_its_own_training(recipe, tmp_path):
    small = recipe("train.epochs=1", "name=modelled", "augment.eeg.add=1")
    made = augment(small, sweep=[2], seeds=1, fold=0, model=True)
    own = {(s.strategy, s.amount): s for s in made.scores if s.judge == "model" and s.part == "test"}
    copies = {(name, 1.0) for name in ("noise_copies", "geometric_copies", "mixup", "selective")}
    assert set(own) == {(NONE, 0.0), ("full", 1.0), ("full", 2.0), *copies}
    assert own["mixup", 1.0].appended == 0 and own["full", 2.0].appended == 2 * own["full", 1.0].appended
    assert not list(made.folder.rglob("fold-0/seed-3/model/eeg/*"))
    plain = train(recipe("train.epochs=1", "augment={}", "name=plain"), fold=0).results("fused")[0]
    target = np.argmax(plain.decisions["test"]["all"]["target"], 1)
    assert len(target) == own[NONE, 0.0].records


@pytest.mark.slow
def test_none_of_the_model_is_the_run_without_augmenter_bit_for_bit(recipe):
    from fusionkit.evaluation.metrics import score
    from fusionkit.evaluation.predict import prediction
    from fusionkit.training.records import learn_tasks, read_records

    bare = recipe("train.epochs=1", "augment={}", "name=plain")
    result = train(bare, fold=0).results("fused")[0]
    tasks, targets = learn_tasks(bare, read_records(bare))
    tasks["target"].restore(result.states["target"])
    said = prediction(tasks["target"], result.decisions["test"]["all"]["target"])
    wanted = score(tasks["target"], said, targets["target"][result.rows["test"]])
    made = augment(recipe("train.epochs=1"), seeds=1, fold=0, model=True)
    (none,) = (s for s in made.scores if (s.judge, s.strategy, s.part) == ("model", NONE, "test"))
    assert dict(none.metrics) == wanted


def test_the_page_says_all_of_it(done):
    found = find(done)
    page = build_page(done, found)
    for wanted in (
        "cwgan_gp (full, 2 times)",
        "Gaussian noise",
        "geometric copies",
        "mixup",
        "cwgan_gp, selective",
        "No amount is chosen on test records",
        "best amount on validation",
        "comparisons have an interval without 0",
        "Records of cwgan_gp (full, 2 times, seed 3) beside real ones",
        "how cwgan_gp learned",
        "recipe.yaml",
    ):
        assert wanted in page, wanted
    assert page.count("<svg") >= 4 and "<script" not in page and "src=" not in page and "<link" not in page
    assert json.loads((done.folder / "findings.json").read_text())["sensors"]["eeg"]["sentences"] == found[0].sentences


def test_strategies_ask_for_the_same_task_with_their_own_defaults(recipe):
    own = recipe().generators["eeg"]
    assert strategies(own) == ["noise_copies", "geometric_copies", "mixup", "full", "selective"]
    for strategy in strategies(own):
        entry = entry_of(own, strategy, 0.5)
        assert (entry.add, entry.task) == (0.5, "target")
        assert (entry.keep is not None) == (strategy == "selective")
    copying = recipe("augment={eeg: {kind: noise_copies}}").generators["eeg"]
    assert "noise_copies" not in strategies(copying) and copying.options == entry_of(copying, "full", 1).options


def test_copies_that_cannot_be_made_are_left_out_and_said(recipe, monkeypatch):
    inner = judging.train_generator

    def refusing(origin, *given, **more):
        if origin.entry.kind == "geometric_copies":
            raise ConfigError("augment.eeg: fold 0: it has no places")
        return inner(origin, *given, **more)

    monkeypatch.setattr(judging, "train_generator", refusing)
    made = augment(recipe(), seeds=1)
    (found,) = find(made)
    assert "geometric_copies" not in {one.strategy for one in found.compared}
    assert any(note.startswith("geometric_copies is left out: it has no places (") for note in found.notes)


def test_refusals_leave_nothing(recipe, tiny, tmp_path):
    for given, more, message in (
        (tiny(), {}, "augment: must name a generative augmenter for a sensor, but the recipe has none"),
        (recipe("augment.eeg.add=0"), {}, "augment.eeg.add: must be above 0"),
        (recipe(), {"fold": 2}, "--fold must be one of 0 to 1, but got 2"),
        (recipe(), {"resume": True}, "--resume needs an earlier study"),
        (
            recipe("pretrain={objectives: [{kind: nt_xent}]}"),
            {"model": True},
            "--model trains .* which pretrain contradicts",
        ),
        (recipe("augment.eeg={kind: mixup_copies}"), {"model": True}, "mixup_copies makes records of mixed classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            augment(given, **more)
    assert not list((tmp_path / "runs").glob("*/augment"))


def test_a_fold_without_a_record_to_judge_by_is_refused_and_one_that_validates_nothing_is_not(
    recipe, tmp_path, monkeypatch
):
    inner = judging.read_held_out
    empty: list[int] = []

    def reading(origin, lesson, rows):
        """Validation is read first."""
        empty.append(1)
        return inner(origin, lesson, rows[:0] if len(empty) == lacking else rows)

    monkeypatch.setattr(judging, "read_held_out", reading)
    lacking = 1
    made = augment(recipe(), sweep=[1], seeds=1, fold=0)
    (found,) = find(made)
    assert {score.part for score in made.scores} == {"test"} and found.chosen == []
    assert "Nothing validates here" in build_page(made, [found])
    empty.clear()
    lacking = 2
    with pytest.raises(DataError, match=r"augment\.eeg: .* no test record has eeg and a label of target"):
        augment(recipe("name=other"), seeds=1, fold=0)
    assert not list((tmp_path / "runs").glob("other/augment/*"))
    empty.clear()
    made = augment(recipe("name=other"), seeds=1)  # the other fold is judged
    (found,) = find(made)
    assert {score.fold for score in made.scores} == {1} and {one.gain.finding for one in found.compared} == {"unknown"}
    assert any(note.startswith("a fold is left out: no test record of it has eeg") for note in found.notes)
    assert "1 of 2 folds" in build_page(made, [found])


def test_what_is_resumed_must_be_what_was_begun(recipe, done, tmp_path):
    with pytest.raises(ConfigError, match=r"needs the amounts that began the study, \{'eeg': \[1.0, 2.0\]\}"):
        augment(recipe(), sweep=[5], seeds=2, resume=True)
    with pytest.raises(ConfigError, match="needs the recipe that began the study"):
        augment(recipe("augment.eeg.epochs=3"), sweep=[1], seeds=2, resume=True)
    cell = next((done.folder / "cells").iterdir())
    cell.write_text(cell.read_text()[:100])
    with pytest.raises(DataError, match=r"must be a whole JSON file of scores.*remove it to do it again"):
        augment(recipe(), sweep=[1], seeds=2, resume=True)
    cell.unlink()
    shutil.rmtree(done.folder / "fold-0" / "seed-3")
    again = augment(recipe(), sweep=[1], seeds=2, resume=True)
    assert cell.exists() and len(again.scores) == len(done.scores)


def test_an_augmenter_that_fails_leaves_no_folder(recipe, tmp_path, monkeypatch):
    def broken(*given, **more):
        raise DataError("augment.eeg: fold 0: loss_critic is nan")

    monkeypatch.setattr(judging, "train_generator", broken)
    with pytest.raises(DataError, match="is nan"):
        augment(recipe(), seeds=1)
    assert not list((tmp_path / "runs").glob("tiny/augment/*"))
