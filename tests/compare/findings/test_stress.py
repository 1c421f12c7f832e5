"""What is left when sensors fail, against plain loops; and what sensors are worth, against all orders of them."""

import csv
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

from fusionkit.compare.conditions.corruption import Condition, Faults
from fusionkit.compare.findings import stress as module
from fusionkit.compare.findings.stress import Case, stress, write_stress
from fusionkit.compare.report.stress_section import stress_section
from fusionkit.recipe.load import load_recipe

SENSORS = {"both": ("eeg", "audio"), "eeg alone": ("eeg",), "late mean": ("eeg", "audio")}
FAULTS = (Condition("noise", "eeg", 1.0), Condition("noise", "eeg", 3.0), Condition("bursts", "", 0.5))
ROWS = (np.array([0, 1, 2, 3, 8]), np.array([4, 5, 6, 7, 9]))
GROUP = np.array([0, 0, 1, 1, 2, 2, 3, 3, 1, 3])


def setting(monkeypatch, *, lost=(), fewer=None, seeds=2, regression=False):
    """Three strategies that answer at random; ``fewer`` of them has not answered the first record."""
    generator = np.random.default_rng(0)
    kind = "tasks={target: {kind: regression, column: label}}" if regression else "tasks.target.kind=classification"
    recipe = load_recipe("quickstart", [kind])
    (name,) = recipe.tasks
    target = generator.normal(size=10) if regression else generator.integers(0, 2, 10).astype(float)
    words = [str(value) if regression else ("no", "yes")[int(value)] for value in target]
    cells: dict[str, list[list[module._Asked]]] = {}
    for label, own in SENSORS.items():
        faults = tuple(one for one in FAULTS if one.sensor in ("", *own))
        cells[label] = []
        for _ in range(seeds):
            folds = []
            for rows in ROWS:
                kept = rows[1:] if label == fewer and 0 in rows else rows
                answers = generator.random((2 ** len(own) + len(faults), len(kept)))
                said = answers if regression else np.stack([1 - answers, answers], -1)
                folds.append(module._Asked(kept, own, faults, {name: said}))
            cells[label].append(folds)
    records = SimpleNamespace(labels={recipe.tasks[name].column: tuple(words)}, group=lambda by: GROUP)
    roles = {"both": "strategy", "eeg alone": "sensor", "late mean": "late mean"}
    strategies = [SimpleNamespace(label=label, role=roles[label]) for label in SENSORS]
    block = SimpleNamespace(
        setting=SimpleNamespace(recipe=recipe, strategies=strategies, reference="late mean", label=""),
        study=SimpleNamespace(records=records),
        split=SimpleNamespace(options=SimpleNamespace(by="subject")),
    )
    experiment = SimpleNamespace(asked=SimpleNamespace(faults=Faults(), seeds=seeds))
    monkeypatch.setattr(module, "_read", lambda b, e, label: f"no {label}" if label in lost else cells[label])
    state = (
        {"classes": [], "mean": 0.0, "deviation": 1.0} if regression else {"classes": ["no", "yes"], "counts": [1, 1]}
    )
    monkeypatch.setattr(module, "_state", lambda b, e, task: state)
    return block, experiment, cells, target, name


def accuracy(answers, target):
    return np.mean([(answer[1] > answer[0]) == bool(right) for answer, right in zip(answers, target, strict=True)])


def test_cases_are_every_set_of_sensors_absent_and_every_fault(monkeypatch):
    block, experiment, *_ = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=10)
    assert [case.label for case in found.cases] == [
        "all sensors", "no eeg", "no audio", "no audio + eeg", "noise eeg 1", "noise eeg 3", "bursts all 0.5",
    ]  # fmt: skip


def test_scores_are_those_of_a_loop_pooled_over_folds_and_averaged_over_seeds(monkeypatch):
    block, experiment, cells, target, name = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=10)
    assert found.subjects == 4 and found.strategies == tuple(SENSORS)
    places = {  # which answer each strategy gives to which case: subsets count in bits, faults come after them
        "both": [3, 2, 1, 0, 4, 5, 6],
        "eeg alone": [1, 0, 1, 0, 2, 3, 4],
        "late mean": [3, 2, 1, 0, 4, 5, 6],
    }
    for i, (label, columns) in enumerate(places.items()):
        for k, column in enumerate(columns):
            seeds = []
            for seed, folds in enumerate(cells[label]):
                answers = np.concatenate([one.predictions[name][column] for one in folds])
                seeds.append(accuracy(answers, target[np.concatenate(ROWS)]))
                for fold, rows in enumerate(ROWS):
                    one = accuracy(folds[fold].predictions[name][column], target[rows])
                    assert found.single[i, seed, fold, k] == pytest.approx(one)
            assert found.scores[i, k] == pytest.approx(np.mean(seeds))


def test_shares_are_the_mean_over_all_orders_of_plugging_in(monkeypatch):
    block, experiment, cells, target, name = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=10)
    assert set(found.contributions) == {"both", "late mean"}  # one sensor alone has nothing to share
    rows = np.concatenate(ROWS)
    for label, contribution in found.contributions.items():
        values = [
            np.mean(
                [
                    accuracy(np.concatenate([o.predictions[name][n] for o in folds]), target[rows])
                    for folds in cells[label]
                ]
            )
            for n in range(4)
        ]
        for sensor in (0, 1):
            shares = []
            for order in permutations((0, 1)):
                before = sum(1 << other for other in order[: order.index(sensor)])
                shares.append(values[before | 1 << sensor] - values[before])
            assert contribution.shapley[SENSORS[label][sensor]].value == pytest.approx(np.mean(shares))
        assert contribution.added["eeg"].value == pytest.approx(values[3] - values[2])
        assert contribution.total.value == pytest.approx(values[3] - values[0])
        assert contribution.shapley["eeg"].low <= contribution.shapley["eeg"].high


def test_curves_start_without_the_fault_and_are_measured_against_the_late_mean(monkeypatch):
    block, experiment, *_ = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=50)
    assert set(found.curves) == {("noise", "eeg"), ("bursts", "")}
    curve = found.curves["noise", "eeg"]
    assert curve.levels == (0.0, 1.0, 3.0) and curve.reference == "late mean" and curve.struck == tuple(SENSORS)
    columns = [0, 4, 5]
    for i, label in enumerate(SENSORS):
        f = found.scores[i][columns]
        assert [one.value for one in curve.scores[label]] == pytest.approx(list(f))
        area = (f[0] + f[1]) / 2 + (f[1] + f[2]) / 2 * 2
        assert curve.robustness[label].relative.value == pytest.approx(area)
        assert curve.robustness[label].area.value == pytest.approx(area / 3)
        late = found.scores[2][columns]
        effective = sum(f[k] - (late[k] + f[0] - late[0]) for k in range(3))
        assert curve.robustness[label].effective.value == pytest.approx(effective)


def test_errors_are_shown_as_they_are_and_judged_with_their_sign_turned(monkeypatch):
    block, experiment, cells, target, name = setting(monkeypatch, regression=True)
    (found,) = stress(block, experiment, repetitions=20)
    rows = np.concatenate(ROWS)
    error = np.mean(
        [
            np.abs(np.concatenate([o.predictions[name][3] for o in folds]) - target[rows]).mean()
            for folds in cells["both"]
        ]
    )
    assert found.metric == "mae" and found.better == "lower" and found.scores[0, 0] == pytest.approx(error)
    curve = found.curves["bursts", ""]
    assert curve.scores["both"][0].value == pytest.approx(error) and curve.scores["both"][0].low <= error + 1e-9
    assert curve.robustness["both"].clean.value == pytest.approx(-error)
    gain = found.scores[0, 3] - found.scores[0, 0]  # the prior's error less the model's
    assert found.contributions["both"].total.value == pytest.approx(gain)
    assert "signs are turned" in "".join(stress_section(found))


def test_what_was_not_asked_is_left_out_by_name_and_records_are_those_of_all(monkeypatch):
    block, experiment, cells, target, name = setting(monkeypatch, lost=("eeg alone",), fewer="both")
    (found,) = stress(block, experiment, repetitions=10)
    assert found.strategies == ("both", "late mean") and found.left_out == {"eeg alone": "no eeg alone"}
    kept = np.concatenate([ROWS[0][1:], ROWS[1]])
    late = np.mean(
        [
            accuracy(np.concatenate([folds[0].predictions[name][3][1:], folds[1].predictions[name][3]]), target[kept])
            for folds in cells["late mean"]
        ]
    )
    assert found.scores[1, 0] == pytest.approx(late)
    block, experiment, *_ = setting(monkeypatch, lost=tuple(SENSORS))
    assert stress(block, experiment) == []
    experiment.asked.faults = None
    assert stress(block, experiment) == []


def test_people_without_a_label_are_not_counted_among_those_that_intervals_are_over(monkeypatch):
    block, experiment, *_ = setting(monkeypatch)
    labels = block.study.records.labels
    ((column, words),) = labels.items()
    labels[column] = tuple(None if who == 2 else word for who, word in zip(GROUP, words, strict=True))
    (found,) = stress(block, experiment, repetitions=10)
    assert found.subjects == 3
    assert "95 % intervals over 3 subjects" in "".join(stress_section(found))


def test_a_fault_that_a_strategys_sensor_cannot_suffer_has_no_score(monkeypatch):
    block, experiment, cells, *_ = setting(monkeypatch)
    for folds in cells["both"]:
        for place, one in enumerate(folds):
            predictions = {task: x[[0, 1, 2, 3, 6]] for task, x in one.predictions.items()}
            folds[place] = module._Asked(one.rows, one.sensors, (FAULTS[2],), predictions)
    (found,) = stress(block, experiment, repetitions=10)
    shown = dict(zip([case.label for case in found.cases], found.scores[0], strict=True))
    assert np.isnan([shown["noise eeg 1"], shown["noise eeg 3"]]).all() and not np.isnan(shown["bursts all 0.5"])
    assert set(found.curves["noise", "eeg"].scores) == {"eeg alone", "late mean"}
    assert "–" in "".join(stress_section(found))


def test_every_single_score_is_written(monkeypatch, tmp_path):
    block, experiment, *_ = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=10)
    made = write_stress(SimpleNamespace(folder=tmp_path), {"": [found]})
    assert [path.name for path in made] == ["robustness.csv", "robustness.parquet"]
    rows = list(csv.DictReader(made[0].read_text().splitlines()))
    assert len(rows) == 3 * 2 * 2 * 7
    (one,) = [
        row
        for row in rows
        if (row["strategy"], row["seed"], row["fold"], row["fault"], row["level"]) == ("both", "1", "0", "noise", "3")
    ]
    assert float(one["score"]) == pytest.approx(found.single[0, 1, 0, 5]) and one["sensor"] == "eeg"


def test_the_section_answers_whether_a_sensor_adds_anything(monkeypatch):
    block, experiment, *_ = setting(monkeypatch)
    (found,) = stress(block, experiment, repetitions=200)
    text = "".join(stress_section(found))
    for sensor, other in (("eeg", "audio"), ("audio", "eeg")):
        assert f"both: {sensor} " in text and f" to {other}" in text
    assert text.count("<svg") == 2 + 2 + 2  # shares of two strategies, two maps, two curves
    assert "late mean" in text and "Shapley" in text


def test_labels_of_cases():
    assert Case().label == "all sensors"
    assert Case(frozenset({"b", "a"})).label == "no a + b"
    assert Case(fault=Condition("drift", "eeg", 0.01)).label == "drift eeg 0.01"
