"""Calibration is fitted to groups that nothing else saw, and measured on others."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fusionkit.compare.findings import calibrated as module
from fusionkit.compare.findings.calibrated import UNFITTED, calibrations, sentence, write_calibrations
from fusionkit.data.splits import Fold
from fusionkit.evaluation.conformal import calibrate
from fusionkit.evaluation.temperature import fit_temperature
from fusionkit.recipe.load import load_recipe
from fusionkit.training.arm import Arm
from fusionkit.training.fold import FoldResult, train_fold
from fusionkit.training.material import Material, open_study
from fusionkit.training.records import divide

CLASSES = ("no", "yes")


class _Records:
    """Two folds of groups: of each the first half tests, a quarter calibrates in the other fold."""

    def __init__(self, target, group):
        self.labels = {"target": tuple(None if np.isnan(t) else CLASSES[int(t)] for t in target)}
        self._group = group

    def group(self, by):
        assert by == "subject"
        return self._group

    def group_names(self, by):
        return tuple(f"s{number}" for number in range(self._group.max() + 1))


def made(target, group, folds, answers, aside=True, labels=("one",)):
    """A setting whose cells answered ``answers[label][seed][fold](rows)``, probabilities of yes."""
    recipe = load_recipe("quickstart")
    (name,) = recipe.tasks
    rows = [Fold(f["train"], f["train"][:0], f["test"], f["calibration"] if aside else f["train"][:0]) for f in folds]
    split = SimpleNamespace(folds=rows, options=SimpleNamespace(by="subject"))
    setting = SimpleNamespace(recipe=recipe, strategies=[SimpleNamespace(label=label) for label in labels])
    records = _Records(target, group)
    records.labels = {recipe.tasks[name].column: records.labels["target"]}
    block = SimpleNamespace(setting=setting, split=split, study=SimpleNamespace(records=records))

    def result(label, seed, number):
        parts = {"test": rows[number].test, "calibration": rows[number].calibration}
        said = {part: answers(label, seed, number, at) for part, at in parts.items() if len(at)}
        decisions = {part: {"all": {name: np.log(np.stack([1 - p, p], -1))}} for part, p in said.items()}
        return FoldResult(parts, decisions, 0.0, 0, {name: {"classes": list(CLASSES), "counts": [1, 1]}})

    return block, name, result


def patched(monkeypatch, result, folds, seeds=2):
    monkeypatch.setattr(
        module,
        "_results",
        lambda block, experiment, label: [[result(label, s, n) for n in range(folds)] for s in range(seeds)],
    )


def drawn(seed=0, records=40, groups=40):
    """Targets drawn from the probabilities; the model says them four times as sure as they are."""
    generator = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), records)
    logit = generator.normal(0, 1.5, groups * records)
    target = (generator.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(float)
    halves = [group < groups // 2, group >= groups // 2]
    folds = [
        {
            "test": np.flatnonzero(half),
            "calibration": np.flatnonzero(~half & (group % 2 == 0)),
            "train": np.flatnonzero(~half & (group % 2 == 1)),
        }
        for half in halves
    ]
    return group, logit, target, folds


def over_sure(logit):
    return lambda label, seed, number, rows: 1 / (1 + np.exp(-4 * logit[rows]))


def test_a_model_that_is_four_times_too_sure_is_cooled_and_gains(monkeypatch):
    group, logit, target, folds = drawn()
    block, _, result = made(target, group, folds, over_sure(logit))
    patched(monkeypatch, result, 2)
    ((task,),) = [calibrations(block, None, repetitions=200)]
    (one,) = task.strategies
    np.testing.assert_allclose(one.temperatures, 4, rtol=0.15)
    assert len(one.temperatures) == 4 and task.note == ""
    for metric in ("ece", "brier", "nll"):
        assert one.gained[metric].low > 0
        assert one.gained[metric].value == pytest.approx(one.before[metric].value - one.after[metric].value)
    assert one.after["ece"].value < 0.03 and one.before["ece"].value > 0.1


def test_every_cell_is_fitted_to_its_own_calibration_groups(monkeypatch):
    group, logit, target, folds = drawn(groups=8)
    block, _, result = made(target, group, folds, over_sure(logit))
    patched(monkeypatch, result, 2, seeds=1)
    (task,) = calibrations(block, None, repetitions=20)
    (one,) = task.strategies
    p = 1 / (1 + np.exp(-4 * logit))
    log = np.log(np.maximum(np.stack([1 - p, p], -1), 1e-12))
    for fold, temperature in zip(folds, one.temperatures, strict=True):
        rows = fold["calibration"]
        assert temperature == pytest.approx(fit_temperature(log[rows], target[rows]), rel=1e-6)
    said = []
    for fold, temperature, bar in zip(folds, one.temperatures, one.thresholds["lac"], strict=True):
        cooled = np.exp(log / temperature) / np.exp(log / temperature).sum(-1, keepdims=True)
        expected = calibrate("lac", cooled[fold["calibration"]], target[fold["calibration"]], level=0.9)
        assert bar.threshold == pytest.approx(expected.threshold) and bar.records == len(fold["calibration"])
        sets = cooled[fold["test"]] >= 1 - bar.threshold - 1e-12
        said += [sets[i, int(target[row])] for i, row in enumerate(fold["test"])]
    assert one.sets["lac"].coverage.value == pytest.approx(np.mean(said))
    assert set(one.sets["lac"].by_subject) == {f"s{number}" for number in range(8)}
    assert f"hold it in {100 * np.mean(said):.1f} %" in sentence(one, task) and "8 new subjects'" in sentence(one, task)


def test_people_without_a_label_are_not_counted(monkeypatch):
    group, logit, target, folds = drawn(groups=8)
    target[group == 0] = np.nan
    block, _, result = made(target, group, folds, over_sure(logit))
    patched(monkeypatch, result, 2, seeds=1)
    (task,) = calibrations(block, None, repetitions=20)
    assert task.groups == 7 and "7 new subjects'" in sentence(task.strategies[0], task)


def test_test_labels_and_training_labels_have_no_say_in_what_is_fitted(monkeypatch):
    group, logit, target, folds = drawn(groups=8)
    fitted = []
    for flip in ("none", "test", "train", "calibration"):
        changed = target.copy()
        if flip != "none":
            changed[folds[0][flip]] = 1 - changed[folds[0][flip]]
        block, _, result = made(changed, group, folds[:1], over_sure(logit))
        patched(monkeypatch, result, 1, seeds=1)
        ((one,),) = [task.strategies for task in calibrations(block, None, repetitions=20)]
        fitted.append((one.temperatures[0], one.thresholds["aps"][0].threshold))
    assert fitted[0] == fitted[1] == fitted[2] != fitted[3]


def test_sets_cover_new_groups_as_often_as_asked_where_groups_are_alike(monkeypatch):
    held = {"lac": [], "aps": []}
    for seed in range(40):
        group, logit, target, folds = drawn(seed, records=10, groups=40)
        block, _, result = made(target, group, folds, over_sure(logit))
        patched(monkeypatch, result, 2, seeds=1)
        ((one,),) = [task.strategies for task in calibrations(block, None, level=0.8, repetitions=2)]
        for kind, found in one.sets.items():
            held[kind].append(found.coverage.value)
    assert np.mean(held["lac"]) == pytest.approx(0.8, abs=0.02)
    assert np.mean(held["aps"]) >= 0.79  # without random ties it covers more


def test_sets_do_not_cover_new_groups_that_are_unlike_and_that_is_reported(monkeypatch):
    group, logit, target, folds = drawn(records=40, groups=16)
    strange = np.isin(group, group[folds[0]["test"]])
    target = np.where(strange, 1 - target, target)  # people whose signs mean the opposite
    block, _, result = made(target, group, folds[:1], over_sure(logit))
    patched(monkeypatch, result, 1, seeds=1)
    ((one,),) = [task.strategies for task in calibrations(block, None, repetitions=200)]
    assert one.sets["lac"].coverage.high < 0.9


@pytest.mark.parametrize("unlabelled", [False, True])
def test_without_calibration_groups_nothing_is_fitted_and_it_says_how(monkeypatch, tmp_path, unlabelled):
    group, logit, target, folds = drawn(groups=8)
    if unlabelled:
        target[folds[0]["calibration"]] = np.nan
    block, _, result = made(target, group, folds[:1], over_sure(logit), aside=unlabelled)
    patched(monkeypatch, result, 1)
    (task,) = calibrations(block, None, repetitions=20)
    (one,) = task.strategies
    assert task.note == UNFITTED and "data.split.calibration=0.2" in UNFITTED
    assert one.temperatures == () and one.after == {} == one.gained and one.sets == {}
    assert set(one.before) == {"ece", "brier", "nll"}
    text = write_calibrations(SimpleNamespace(folder=tmp_path), {"": [task]})[0].read_text()
    assert "as trained" in text and "coverage" not in text


def test_a_failed_strategy_is_left_out_and_none_at_all_is_nothing(monkeypatch):
    group, logit, target, folds = drawn(groups=8)
    block, _, result = made(target, group, folds, over_sure(logit), labels=("one", "two"))
    monkeypatch.setattr(
        module, "_results", lambda b, e, label: None if label == "one" else [[result("", 0, n) for n in (0, 1)]]
    )
    (task,) = calibrations(block, None, repetitions=20)
    assert [one.strategy for one in task.strategies] == ["two"]
    monkeypatch.setattr(module, "_results", lambda b, e, label: None)
    assert calibrations(block, None) == []


def test_calibration_groups_change_not_a_bit_of_what_is_trained(tmp_path):
    small = ["data.subjects=8", "data.records=4", "train.epochs=2", "modalities=eeg,text", "data.split.calibration=0.3"]
    recipe = load_recipe("quickstart", [*small, f"run.dir={tmp_path}", "train.single_sensors=false"])
    study = open_study(recipe)
    (fold,) = divide(recipe, study.records).folds
    material = Material(recipe, study, torch.device("cpu"))
    with_them = train_fold(Arm("fused", recipe), material, fold, 0, tmp_path / "a")
    without = train_fold(
        Arm("fused", recipe), material, Fold(fold.train, fold.validation, fold.test), 0, tmp_path / "b"
    )
    assert len(fold.calibration) and "calibration" not in without.rows
    np.testing.assert_array_equal(with_them.rows["calibration"], fold.calibration)
    assert len(with_them.decisions["calibration"]["all"]["target"]) == len(fold.calibration)
    np.testing.assert_array_equal(
        with_them.decisions["test"]["all"]["target"], without.decisions["test"]["all"]["target"]
    )
