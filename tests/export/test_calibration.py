"""The manifest's temperature and bars are those of the run's calibration groups."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from fusionkit.evaluation.recalibration import recalibrate
from fusionkit.export.calibration import LEVELS, calibrate_tasks, describe_calibration
from fusionkit.export.run import ask_session, export_run, open_fold
from fusionkit.heads.classification import Classification
from fusionkit.heads.regression import Regression
from fusionkit.runtime import Session
from fusionkit.training.fold import FoldResult
from fusionkit.training.run import train


@pytest.fixture
def answered():
    """Log-probabilities of 60 records that are too sure, and their classes; two labels are missing."""
    generator = np.random.default_rng(0)
    target = generator.integers(0, 3, 100).astype(float)
    logits = generator.normal(0, 3, (60, 3))
    rows = generator.permutation(100)[:60]
    logits[np.arange(60), target[rows].astype(int)] += 2
    target[rows[:2]] = np.nan
    decisions = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    task, value = Classification(classes=["a", "b", "c"]), Regression()
    result = FoldResult(
        rows={"test": np.arange(5), "calibration": rows},
        decisions={"calibration": {"all": {"state": decisions, "score": np.zeros((60, 1))}}},
        seconds=0.0,
        best_epoch=1,
    )
    return {"state": task, "score": value}, result, {"state": target, "score": np.zeros(100)}


def test_temperature_and_bars_are_those_of_the_definitions(answered):
    tasks, result, targets = answered
    made = calibrate_tasks(tasks, result, targets)
    assert list(made) == ["state"]  # a value has no probabilities
    decisions, right = (
        result.decisions["calibration"]["all"]["state"][2:],
        targets["state"][result.rows["calibration"][2:]],
    )
    chosen = np.arange(58), right.astype(int)

    def loss(inverse):
        rows = decisions * inverse
        return -(rows[chosen] - np.log(np.exp(rows).sum(1))).mean()

    best = 1 / minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert made["state"].temperature == pytest.approx(best, rel=1e-4)
    shares = np.exp(decisions / best)
    strange = np.sort(1 - (shares / shares.sum(1, keepdims=True))[chosen])
    told = describe_calibration(made["state"])
    assert told["temperature"] == made["state"].temperature > 1.5
    assert list(told["conformal"]) == [f"{level:g}" for level in LEVELS]
    for level in LEVELS:
        assert told["conformal"][f"{level:g}"] == pytest.approx(strange[math.ceil(59 * level) - 1], abs=1e-4)


def test_too_few_records_for_a_level_have_no_bar(answered):
    tasks, result, targets = answered
    rows = result.rows["calibration"]
    targets["state"][rows[12:]] = np.nan  # ten are left: 0.9 takes the largest, 0.95 needs 19
    told = describe_calibration(calibrate_tasks(tasks, result, targets)["state"])
    assert told["conformal"]["0.9"] is not None
    assert told["conformal"]["0.95"] is None


def test_without_groups_or_labels_there_is_none(answered):
    tasks, result, targets = answered
    assert calibrate_tasks(tasks, result, {**targets, "state": np.full(100, np.nan)}) == {}
    del result.rows["calibration"]
    assert calibrate_tasks(tasks, result, targets) == {}


def test_another_graph_is_calibrated_by_its_own_answers(answered):
    tasks, result, targets = answered
    decisions = result.decisions["calibration"]["all"]["state"]
    sharper = np.exp(2 * decisions) / np.exp(2 * decisions).sum(1, keepdims=True)
    own, other = (calibrate_tasks(tasks, result, targets, a)["state"] for a in (None, {"state": sharper}))
    assert other.temperature == pytest.approx(2 * own.temperature, rel=1e-3)


@pytest.mark.slow
def test_eight_bits_are_calibrated_by_what_they_answer(tiny, tmp_path):
    run = train(tiny("modalities=text", "data.split.calibration=0.34", "data.split.validation=0.34"), fold=0)
    made = export_run(run, tmp_path / "m.fusion", int8=True)
    held, session = open_fold(run, 0), Session.load(made.path)
    rows = held.result.rows["calibration"]
    again = recalibrate(
        ask_session(session, held, rows)["target"], held.targets["target"][rows], kinds=("lac",), levels=LEVELS
    )
    assert session.tasks["target"].temperature == pytest.approx(again.temperature, rel=1e-6)
    assert session.tasks["target"].conformal == describe_calibration(again)["conformal"]
    plain = calibrate_tasks(held.trained.tasks, held.result, held.targets)["target"]
    assert describe_calibration(plain)["conformal"] != session.tasks["target"].conformal
