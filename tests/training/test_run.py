"""Whole runs on a made study: what they leave behind, what they repeat, what they refuse."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import torch

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.evaluation.predict import predict
from fusionkit.evaluation.summary import summarise, write_summary
from fusionkit.recipe.load import load_recipe
from fusionkit.training import run as run_module
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.run import Run, train
from fusionkit.training.trained import load_trained


class Notes(Listener):
    def __init__(self):
        self.lines, self.trained = [], []

    def say(self, text):
        self.lines.append(text)

    def end(self, arm, fold, seconds):
        self.trained.append((fold, arm))


def best(run, fold, arm="fused"):
    return load_tensors(run.arm_folder(fold, arm) / "best.safetensors")[0]


def test_a_run_leaves_what_is_needed_to_believe_it(tiny):
    recipe = tiny()
    run = train(recipe)
    assert run.folds() == [0, 1]
    assert load_recipe(str(run.folder / "recipe.yaml")).resolved() == recipe.resolved()
    facts = run.facts
    assert facts["finished"] and facts["study"]["records"] == 48
    assert set(json.loads((run.folder / "environment.json").read_text())["packages"]) >= {"torch", "numpy", "mne"}
    for fold in (0, 1):
        folder = run.arm_folder(fold, "fused")
        assert {"last.safetensors", "best.safetensors", "history.csv"} <= {file.name for file in folder.iterdir()}
        assert (folder / "files" / "text" / "tokenizer.json").is_file()
    summary = summarise(run)
    write_summary(run, summary)
    table = pyarrow.parquet.read_table(run.folder / "predictions.parquet").to_pylist()
    own = [row for row in table if row["model"] == "fused" and row["task"] == "target"]
    assert len(own) == 48 and len({row["id"] for row in own}) == 48
    right = np.mean([row["target"] == row["predicted"] for row in own])
    assert json.loads((run.folder / "metrics.json").read_text())["tasks"]["target"]["rows"]["fused"]["accuracy"][
        "value"
    ] == pytest.approx(right)


def test_every_record_is_tested_once_by_a_model_that_never_saw_its_subject(tiny):
    run = train(tiny())
    split = json.loads((run.folder / "split.json").read_text())
    tested = [record for fold in split["folds"] for record in fold["test"]]
    assert len(tested) == len(set(tested)) == 48
    for fold in split["folds"]:
        people = {part: {name.split("-")[0] for name in fold[part]} for part in ("train", "validation", "test")}
        assert not people["train"] & people["test"] and not people["validation"] & people["test"]
        assert not people["train"] & people["validation"]


def test_the_same_seed_repeats_to_the_bit_and_another_does_not(tiny):
    one, two, other = train(tiny(), fold=0), train(tiny(), fold=0), train(tiny("seed=4"), fold=0)
    a, b, c = best(one, 0), best(two, 0), best(other, 0)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(a[name].shape != c[name].shape or not torch.equal(a[name], c[name]) for name in a)


def test_single_sensors_are_trained_beside_it_on_the_same_split(tiny):
    notes = Notes()
    run = train(tiny("train.single_sensors=true"), fold=1, listener=notes)
    assert notes.trained == [(1, "fused"), (1, "eeg"), (1, "text")]
    rows = {row.name: row for row in summarise(run).tasks["target"].rows}
    assert {"fused", "fused without eeg", "eeg alone", "text alone", "best single", "majority"} <= set(rows)
    assert rows["best single"].note.startswith("chosen on validation: ")


def test_absent_values_change_nothing(tiny):
    """Zeros, noise and NaN in an unplugged sensor give the same bits."""
    trained = load_trained(train(tiny(), fold=0), 0)
    from fusionkit.data.loading import Loader, LoaderInput
    from fusionkit.training.material import open_study

    recipe = trained.recipe
    study = open_study(recipe)
    loader = Loader(study, {n: LoaderInput(m) for n, m in trained.modalities.items()}, {}, torch.device("cpu"), False)
    batch = loader.batch(torch.arange(12))
    eeg = batch.inputs["eeg"]
    absent = torch.zeros(12, dtype=torch.bool)
    answers = []
    for values in (torch.zeros_like(eeg.values), torch.randn_like(eeg.values), torch.full_like(eeg.values, torch.nan)):
        inputs = {**batch.inputs, "eeg": eeg._replace(values=values, present=absent)}
        with torch.no_grad():
            answers.append(trained.model(inputs).decisions["target"])
    assert torch.isfinite(answers[0]).all()
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    everything = predict(trained.model, loader, np.arange(12), absent=["eeg", "text"])["target"]
    assert np.isfinite(everything).all() and np.ptp(everything, axis=0).max() == 0


def test_a_resumed_run_goes_on_where_it_was(tiny):
    whole = train(tiny())
    notes = Notes()
    first = train(tiny(), fold=0)
    assert first.folder != whole.folder
    again = train(tiny(), resume=True, listener=notes)
    assert again.folder == first.folder
    assert all(torch.equal(best(whole, 1)[name], value) for name, value in best(again, 1).items())
    assert again.facts["finished"]


def test_resume_refuses_another_recipe_and_nothing(tiny):
    with pytest.raises(ConfigError, match=r"--resume needs an earlier run, but .*tiny has none"):
        train(tiny(), resume=True)
    train(tiny("train.epochs=1"), fold=0)
    with pytest.raises(ConfigError, match="--resume needs the recipe that began the run"):
        train(tiny(), resume=True)


def test_a_fold_that_is_not_there_is_refused(tiny):
    with pytest.raises(ConfigError, match="--fold must be one of 0 to 1, but got 2"):
        train(tiny(), fold=2)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a run must be a folder with a recipe\.yaml"):
        Run.open(tmp_path)


def test_a_run_that_is_refused_before_it_trains_leaves_no_folder(tiny, tmp_path, monkeypatch):
    kept = train(tiny(), fold=0)

    def refuse(*_, **__):
        raise DataError("a file is cut")

    monkeypatch.setattr("fusionkit.training.run.open_study", refuse)
    with pytest.raises(DataError, match="a file is cut"):
        train(tiny())
    assert list((tmp_path / "runs" / "tiny").iterdir()) == [kept.folder]
    with pytest.raises(DataError, match="a file is cut"):
        train(tiny(), resume=True)
    assert load_trained(kept, 0)
    with pytest.raises(DataError, match="a file is cut"):
        train(tiny("name=other"))
    assert not (tmp_path / "runs" / "other").exists()


@pytest.mark.parametrize("error", [DataError("the loss must be finite"), Interrupted(15), KeyboardInterrupt()])
def test_what_has_begun_to_train_is_kept_to_be_resumed(tiny, monkeypatch, error):
    whole, real = train(tiny()), run_module.train_fold

    def stop(arm, material, fold, number, *more, **options):
        if number == 1:
            raise error
        return real(arm, material, fold, number, *more, **options)

    monkeypatch.setattr(run_module, "train_fold", stop)
    with pytest.raises(type(error)):
        train(tiny())
    monkeypatch.undo()
    again = train(tiny(), resume=True)
    assert again.folder != whole.folder and again.facts["finished"]
    assert all(torch.equal(best(whole, 1)[name], value) for name, value in best(again, 1).items())


def test_labels_are_checked_before_signals_are_read(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("fusionkit.training.run.open_study", None)
    with pytest.raises(DataError, match=r"synthetic: task 'target' row \d+: a label must be one of \['a', 'b'\]"):
        train(tiny("tasks.target.classes=[a, b]"))
    with pytest.raises(DataError, match=r"synthetic: data\.split: folds must not outnumber the groups"):
        train(tiny("data.split.folds=7"))
    assert not (tmp_path / "runs").exists()


def test_normalisation_by_subject_is_said_to_be_transductive(tiny):
    notes = Notes()
    train(tiny("modalities.eeg.normalise.kind=subject"), fold=0, listener=notes)
    assert any("transductive" in line for line in notes.lines)


def test_validation_without_a_label_chooses_no_epoch(tiny):
    """Nothing can be said there, so the last epoch is taken and training does not stop early."""
    from fusionkit.training import fold as module

    recipe = tiny("train.epochs=4", "train.patience=1")
    learn = module.learn_tasks

    def hide(read, records):
        tasks, targets = learn(read, records)
        split = run_module.divide(read, records)
        for values in targets.values():
            values[split.folds[0].validation] = np.nan
        return tasks, targets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "learn_tasks", hide)
        run = train(recipe, fold=0)
    assert run.results("fused")[0].best_epoch == 3


def test_a_vocabulary_that_a_kill_left_half_written_is_learned_again(tiny, monkeypatch):
    from fusionkit.training import files as module

    recipe = tiny()
    write = module.write_atomically

    class Killed(BaseException):
        pass

    def die(path, content):
        if path.name == "tokenizer.json":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.1").write_bytes(content[:9])
            raise Killed
        write(path, content)

    monkeypatch.setattr(module, "write_atomically", die)
    with pytest.raises(Killed):
        train(recipe, fold=0)
    monkeypatch.setattr(module, "write_atomically", write)
    assert train(recipe, fold=0, resume=True).folds() == [0]


def test_a_run_is_not_resumed_on_other_data(tiny):
    run = train(tiny(), fold=0)
    facts = run.facts
    facts["study"]["digest"] = "of other files"
    run.write_json("run.json", facts)
    with pytest.raises(DataError, match="--resume needs the data that began the run"):
        train(tiny(), resume=True)


def test_a_run_without_a_finished_fold_has_no_scores(tiny):
    run = train(tiny(), fold=0)
    (run.arm_folder(0, "fused") / "predictions.safetensors").unlink()
    with pytest.raises(DataError, match="a run must have a fold trained to the end"):
        summarise(run)


def test_calibration_that_covers_all_validation_records_leaves_the_best_single_to_chance(tiny):
    from fusionkit.training.fold import load_result, save_result

    run = train(tiny("train.single_sensors=true"), fold=0)
    for arm in ("fused", "eeg", "text"):
        result = load_result(run.arm_folder(0, arm))
        result.rows["validation"] = result.rows["validation"][:0]
        result.decisions["validation"] = {"all": {}}
        save_result(run.arm_folder(0, arm), result)
    assert "best single" in {row.name for row in summarise(run).tasks["target"].rows}


def test_a_task_may_be_called_like_a_method_of_torch(tiny):
    recipe = tiny("modalities=eeg", "fusion={kind: vote, dim: 8}")
    recipe = replace(recipe, tasks={"type": recipe.tasks["target"]})
    assert train(recipe, fold=0).folds() == [0]


def test_a_sensor_may_not_be_called_all(tiny):
    """Results without a sensor are filed under its name, and those with every sensor under ``all``."""
    with pytest.raises(ConfigError, match="this name belongs to all sensors together"):
        tiny("modalities.all={kind: eeg, column: eeg}")


def test_statistics_that_an_encoder_of_windows_would_ignore_are_refused(tiny):
    recipe = tiny("modalities.image={kind: image, encoder: {kind: image_cnn}, normalise: {kind: subject}}")
    with pytest.raises(ConfigError, match=r"modalities\.image\.normalise: .* its encoder takes windows"):
        train(recipe, fold=0)
