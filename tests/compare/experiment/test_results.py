"""Scores of cells against what is counted by hand from their answers."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from fusionkit.compare.cells.cell import Ended, open_run, run_cell
from fusionkit.compare.cells.executor import Executor
from fusionkit.compare.experiment import results
from fusionkit.compare.experiment.grid import Asked, compare
from fusionkit.compare.experiment.results import scores, write_results
from fusionkit.training.arm import FUSED

SMALL = ("data.subjects=4", "data.records=4", "data.seconds=1.0", "train.epochs=1", "train.device=cpu",
         "modalities=eeg,text", "modalities.eeg.encoder.kind=mlp", "fusion.kind=concat", "data.redundant=2.0",
         "data.split={kind: k_fold, by: subject, folds: 2, validation: 0.5}")  # fmt: skip
NAMES = ("quickstart", "eeg alone", "text alone", "late mean", "best single", "majority")


class Here(Executor):
    """Trains in this process."""

    def run(self, cells):
        for cell in cells:
            yield run_cell(cell)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return compare(Asked(("quickstart",), (f"run.dir={folder}", *SMALL), (), 1), Here())


@pytest.fixture(scope="module")
def counted(experiment):
    """Rows, classes answered and right classes of every cell's parts, from its files."""
    (block,) = experiment.blocks
    column = np.asarray(block.study.records.labels["target"])
    classes = np.unique(column)
    found = {}
    for (label, fold, _), cell in block.cells.items():
        result = open_run(experiment.ended[cell.key]).results(FUSED)[fold]
        for part in ("validation", "test"):
            said = result.decisions[part]["all"]["target"].argmax(1)
            found[label, fold, part] = (result.rows[part], classes[said], column[result.rows[part]])
    return found


def right(*parts):
    return np.mean(np.concatenate([said == truth for _, said, truth in parts]))


def test_scores_are_the_share_of_right_answers(experiment, counted):
    (one,) = scores(experiment.blocks[0], experiment)
    assert one.strategies == NAMES and one.sensors == ("eeg alone", "text alone")
    assert (one.metric, one.better, one.by) == ("accuracy", "higher", "subject")
    subject = np.asarray(experiment.blocks[0].study.records.subject)
    for i, label in enumerate(NAMES[:4]):
        parts = [counted[label, fold, "test"] for fold in (0, 1)]
        np.testing.assert_allclose(one.folds[i, 0], [right(part) for part in parts])
        assert one.pooled[i, 0] == pytest.approx(right(*parts))
        for j, name in enumerate(one.subjects):
            rows, said, truth = parts[one.fold[j]]
            np.testing.assert_allclose(one.by_subject[i, 0, j], (said == truth)[subject[rows] == name].mean())


def test_the_best_single_sensor_is_validations_and_the_prior_is_of_training(experiment, counted):
    (one,) = scores(experiment.blocks[0], experiment)
    column = np.asarray(experiment.blocks[0].study.records.labels["target"])
    for fold, parts in enumerate(experiment.blocks[0].split.folds):
        values = {label: right(counted[label, fold, "validation"]) for label in one.sensors}
        assert one.chosen[0][fold] == max(values, key=values.get)
        chosen = one.strategies.index(one.chosen[0][fold])
        assert one.folds[4, 0, fold] == one.folds[chosen, 0, fold]
        names, counts = np.unique(column[parts.train], return_counts=True)
        if len(set(counts)) == len(counts):
            assert one.folds[5, 0, fold] == pytest.approx((column[parts.test] == names[counts.argmax()]).mean())


def test_the_share_that_a_fold_tests(experiment):
    (one,) = scores(experiment.blocks[0], experiment)
    folds = experiment.blocks[0].split.folds
    assert all(len(fold.validation) for fold in folds)  # it teaches no weight, and is no training record
    ratio = np.mean([len(fold.test) / (len(fold.train) + len(fold.test)) for fold in folds])
    assert one.test_share == pytest.approx(ratio) and one.test_share > 0.5


def test_a_failed_cell_is_nan_and_the_others_keep_their_scores(experiment):
    block = experiment.blocks[0]
    (whole,) = scores(block, experiment)
    broken = block.cells["eeg alone", 1, block.setting.recipe.seed].key
    ended = {**experiment.ended, broken: Ended(broken, "", "no memory", 0.0)}
    (one,) = scores(block, replace(experiment, ended=ended))
    lost = one.strategies.index("eeg alone")
    assert np.isnan(one.folds[lost, 0, 1]) and np.isnan(one.pooled[lost, 0]) and np.isnan(one.by_subject[lost]).all()
    others = [i for i, name in enumerate(NAMES) if name not in ("eeg alone", "best single")]
    np.testing.assert_array_equal(one.by_subject[others], whole.by_subject[others])
    assert one.chosen[0][1] == "" and one.chosen[0][0] == whole.chosen[0][0]
    best = NAMES.index("best single")  # not the best of what is left: that would be easier to beat
    assert np.isnan(one.folds[best, 0, 1]) and np.isnan(one.pooled[best, 0])
    assert one.folds[best, 0, 0] == whole.folds[best, 0, 0]
    every = {key: Ended(key, "", "no memory", 0.0) for key in experiment.ended}
    assert scores(block, replace(experiment, ended=every)) == []


def test_only_records_that_all_strategies_answered_are_scored(experiment, monkeypatch):
    """One strategy leaves out the first test record of each fold: nobody is scored on it."""
    block, read = experiment.blocks[0], results._read
    gone = [int(fold.test[0]) for fold in block.split.folds]

    def fewer(*given):
        found = read(*given)
        for result in found["text alone"][0]:
            keep = ~np.isin(result.rows["test"], gone)
            result.rows["test"] = result.rows["test"][keep]
            result.decisions["test"]["all"]["target"] = result.decisions["test"]["all"]["target"][keep]
        return found

    monkeypatch.setattr(results, "_read", fewer)
    column = np.asarray(block.study.records.labels["target"])
    (one,) = scores(block, experiment)
    known = np.setdiff1d(np.arange(len(column)), gone)
    assert one.pooled[5, 0] * len(known) == pytest.approx(round(one.pooled[5, 0] * len(known)))
    assert all((one.pooled[i, 0] * len(known)) == pytest.approx(round(one.pooled[i, 0] * len(known))) for i in range(6))


def test_every_single_result_is_written_as_csv_and_parquet(experiment):
    (one,) = scores(experiment.blocks[0], experiment)
    made = write_results(experiment, {"": [one]})
    assert [path.name for path in made] == ["results.csv", "results.parquet"]
    rows = list(csv.DictReader(made[0].read_text().splitlines()))
    assert len(rows) == len(NAMES) * (4 + 2)
    value = {(row["strategy"], row["subject"], row["fold"]): float(row["score"]) for row in rows}
    for i, label in enumerate(NAMES):
        for fold in (0, 1):
            assert value[label, "", str(fold)] == pytest.approx(one.folds[i, 0, fold])
        for j, name in enumerate(one.subjects):
            assert value[label, name, str(one.fold[j])] == pytest.approx(one.by_subject[i, 0, j])
    assert pyarrow.parquet.read_table(made[1]).num_rows == len(rows)
