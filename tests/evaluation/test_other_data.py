"""What a trained model may be scored on: other data, or the records that it never saw."""

import numpy as np
import pytest

from fusionkit.core.errors import ConfigError
from fusionkit.data.study import Study
from fusionkit.evaluation.metrics import score
from fusionkit.evaluation.other_data import answer_held_out, ask, open_trained, score_answers
from fusionkit.evaluation.summary import summarise
from fusionkit.recipe.build import build_tasks
from fusionkit.training.run import train


def test_a_run_asked_about_its_own_data_scores_only_what_it_never_saw(tiny_run):
    answered = ask(open_trained(tiny_run.folder), absent=["eeg"])
    with Study.open(tiny_run.study) as study:
        names = np.array(study.records.id)
    tested = tiny_run.results("fused")[0].rows["test"]
    assert set(np.array(answered.study.records.id)[answered.scored]) == set(names[tested])


def test_without_a_sensor_a_run_scores_as_its_own_summary_says(tiny):
    run = train(tiny())
    asked, answered = answer_held_out(run.folder, absent=["eeg"])
    assert answered.scored.all()  # two folds test every record once
    wanted = next(row for row in summarise(run).tasks["target"].rows if row.name == "fused without eeg")
    found = score_answers(asked, answered)["target"]
    assert found["nll"].value == pytest.approx(wanted.scores["nll"].value, abs=1e-5)
    task = build_tasks(run.recipe)["target"]
    task.restore(run.results("fused")[0].states["target"])
    target = task.encode(answered.study.records.labels["target"], "target")
    assert score(task, answered.predictions["target"], target)["nll"] == pytest.approx(found["nll"].value)


def test_a_bundle_is_not_scored_on_the_data_it_was_made_from(tiny_run):
    asked = open_trained(tiny_run.folder / "model.fusion")
    with pytest.raises(ConfigError, match="a bundle was trained on part of its own data"):
        score_answers(asked, ask(asked))


def test_the_first_trained_fold_answers_by_default(tiny):
    run = train(tiny(), fold=1)
    answered = ask(open_trained(run.folder, ["data.seed=9"]))
    assert answered.scored.all() and np.isfinite(answered.predictions["target"]).all()
