"""What a trained model may be scored on: other data, or the records that it never saw."""

from dataclasses import replace

import numpy as np
import pytest

from fusionkit.core.errors import ConfigError
from fusionkit.data.study import Study
from fusionkit.evaluation.metrics import score
from fusionkit.evaluation.other_data import answer_held_out, ask, open_trained, score_answers
from fusionkit.evaluation.summary import summarise
from fusionkit.export.run import export_run
from fusionkit.recipe.build import build_tasks
from fusionkit.runtime.manifest import HeldOut
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


@pytest.mark.parametrize("absent", ["eeg", "text"])
def test_a_sensor_is_unplugged_where_another_is_normalised_by_its_wearer(absent, tiny, tmp_path):
    run = train(tiny("modalities.eeg.normalise={kind: subject}"))
    export_run(run, tmp_path / "model.fusion")
    found = []
    for where in (run.folder, tmp_path / "model.fusion"):
        asked = open_trained(where)
        found.append(score_answers(asked, ask(asked, absent=[absent]))["target"]["nll"].value)
    assert np.isfinite(found).all() and found[0] == pytest.approx(found[1], abs=1e-5)
    assert answer_held_out(run.folder, absent=[absent])[1].scored.all()


def test_a_bundle_is_scored_on_what_it_never_saw_of_the_data_it_was_made_from(tiny_run):
    bundle, run = (open_trained(where) for where in (tiny_run.folder / "model.fusion", tiny_run.folder))
    answered, wanted = ask(bundle), ask(run)
    assert 0 < answered.scored.sum() < len(answered.scored)
    assert np.array_equal(answered.scored, wanted.scored)
    assert answered.notes[-1] == (
        f"the bundle was made from these data: scored are the {wanted.scored.sum()} records that it never saw"
    )
    found, right = (score_answers(*pair)["target"]["nll"] for pair in ((bundle, answered), (run, wanted)))
    assert found.value == pytest.approx(right.value, abs=1e-5)


def test_a_bundle_is_not_scored_where_its_data_can_no_longer_be_divided(tiny_run):
    asked = open_trained(tiny_run.folder / "model.fusion", ["data.split.folds=99"])
    with pytest.raises(ConfigError, match="a bundle was trained on part of its own data"):
        score_answers(asked, ask(asked))


@pytest.mark.parametrize(
    "told", [None, {"fold": 0, "split": "0" * 64}, {"fold": 9, "split": None}], ids=["unknown", "another", "no fold"]
)
def test_a_bundle_whose_split_is_not_that_of_its_data_is_not_scored_on_them(told, tiny_run):
    asked = open_trained(tiny_run.folder / "model.fusion")
    assert asked.session is not None and asked.session.manifest.held_out is not None
    if told is not None:
        told = HeldOut(told["fold"], told["split"] or asked.session.manifest.held_out.split)
    asked.session.manifest = replace(asked.session.manifest, held_out=told)
    with pytest.raises(ConfigError, match="a bundle was trained on part of its own data"):
        score_answers(asked, ask(asked))


def test_the_first_trained_fold_answers_by_default(tiny):
    run = train(tiny(), fold=1)
    answered = ask(open_trained(run.folder, ["data.seed=9"]))
    assert answered.scored.all() and np.isfinite(answered.predictions["target"]).all()
