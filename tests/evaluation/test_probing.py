"""`fusionkit probe` of small runs: what is measured, of whom, and what it must not see."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError, DataError, UnknownNameError
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation import fine_tuning as fine_tuning_module
from fusionkit.evaluation import probing
from fusionkit.evaluation.embeddings import embed, linear_probe
from fusionkit.evaluation.fine_tuning import FineTuning
from fusionkit.evaluation.predict import predict
from fusionkit.evaluation.probing import TOGETHER, _Answer, _together, probe
from fusionkit.heads.classification import Classification
from fusionkit.training.fitting import train_model
from fusionkit.training.labels import hide_labels
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.records import learn_tasks
from fusionkit.training.run import Run, pretrain, train
from fusionkit.training.start import read_pretrained, read_start

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 2, batch: 16}"


@pytest.fixture
def pretrained(tiny):
    return pretrain(tiny(STAGE))


def test_every_sensor_is_measured_over_all_test_records_beside_its_untrained_encoder(pretrained) -> None:
    probed = probe(pretrained, epochs=1)
    assert (
        probed.weights == "pretrained" and probed.part == "test" and probed.folds == [0, 1] and probed.by == "subject"
    )
    with Study.open(pretrained.study) as study:
        sensors = study.sensors
    kinds = ["recall@1", "recall@5", "neighbours", "linear"]
    tuned = ["fine-tuned 1 %", "fine-tuned 10 %", "fine-tuned 100 %"]
    found = [(one.sensor, one.measure) for one in probed.measured]
    assert found == [(s, m) for s in ("eeg", "text") for m in [*kinds, *tuned]] + [
        (TOGETHER, m) for m in [*kinds, *tuned]
    ]
    for one in probed.measured:
        if one.sensor != TOGETHER:
            assert one.records == int((sensors[one.sensor].offset >= 0).sum())  # every record is tested in some fold
        assert 0 <= one.learned.low <= one.learned.value <= one.learned.high <= 1
        assert one.metric == ("recall" if one.measure.startswith("recall") else "accuracy")
    either = (sensors["eeg"].offset >= 0) | (sensors["text"].offset >= 0)
    assert probed.measured[-1].records == int(either.sum())
    assert any(one.learned != one.untrained for one in probed.measured)
    again = probe(pretrained, shares=())
    assert [one for one in probed.measured if not one.measure.startswith("fine")] == again.measured


def test_all_sensors_that_were_tuned_answer_by_the_product_of_those_that_a_record_has() -> None:
    task = Classification()
    task.learn(["a", "b", "a"], "y")
    one = _Answer("y", "eeg", "fine-tuned 10 %", "learned", np.array([3, 5]), np.array([[0.6, 0.4], [0.9, 0.1]]))
    two = replace(one, sensor="text", rows=np.array([5, 8]), said=np.array([[0.3, 0.7], [0.0, 1.0]]))
    (both,) = _together([one, two], {"y": task})
    assert (both.sensor, both.measure, both.side) == (TOGETHER, "fine-tuned 10 %", "learned")
    assert both.rows.tolist() == [3, 5, 8]
    assert both.said == pytest.approx(np.array([[0.6, 0.4], [0.27 / 0.34, 0.07 / 0.34], [0.0, 1.0]]))
    assert _together([one], {"y": task}) == []
    assert _together([one, replace(two, measure="fine-tuned 1 %")], {"y": task}) == []


def test_settings_are_chosen_on_validation_records_without_a_look_at_the_test_part(pretrained, monkeypatch) -> None:
    asked = []

    def watch(model, loader, rows, sensors):
        asked.append(rows)
        return embed(model, loader, rows, sensors)

    def look(model, loader, rows):
        asked.append(rows)
        return predict(model, loader, rows)

    monkeypatch.setattr(probing, "embed", watch)
    monkeypatch.setattr(fine_tuning_module, "predict", look)
    probed = probe(pretrained, part="validation", shares=(1.0,), epochs=1, fold=0)
    with Study.open(pretrained.study) as study:
        fold = Split.load(pretrained.folder / "split.json", study.records).folds[0]
    assert probed.part == "validation" and {one.records for one in probed.measured} <= set(
        range(len(fold.validation) + 1)
    )
    seen = set(np.concatenate(asked))
    assert seen <= {*fold.train, *fold.validation} and not seen & set(fold.test)


def test_a_trained_run_is_measured_as_trained_and_says_that_it_knew_the_labels(tiny) -> None:
    run = train(tiny("fusion={kind: vote, dim: 8}"), fold=0)
    probed = probe(run, sensors=["eeg"], shares=())
    assert probed.weights == "trained" and probed.folds == [0]
    assert {one.sensor for one in probed.measured} == {"eeg"}
    assert any("were trained with all labels that training" in note for note in probed.notes)
    assert read_start(run.folder, 0).sensors == ["eeg", "text"]


def fine_tuning(run, share, sensor="eeg"):
    study = Study.open(run.study)
    split = Split.load(run.folder / "split.json", study.records)
    material = Material(run.recipe, study, torch.device("cpu"))
    tasks, targets = learn_tasks(run.recipe, study.records)
    for name, task in tasks.items():
        task.fit(targets[name][split.folds[0].train], name)
    return FineTuning(run.recipe, sensor, material, split.folds[0], 0, share, 1), tasks, targets


def test_fine_tuning_takes_some_training_records_of_every_class_and_begins_with_the_encoder(
    pretrained, monkeypatch
) -> None:
    jobs = []

    def stop(job, listener):
        jobs.append(job)
        raise StopIteration

    monkeypatch.setattr("fusionkit.evaluation.fine_tuning.train_model", stop)
    start = read_pretrained(pretrained.folder, 0)
    for share in (0.01, 0.25, 1.0):
        tuning, tasks, targets = fine_tuning(pretrained, share)
        with pytest.raises(StopIteration):
            tuning(start, tasks, targets, Listener())
    fold = tuning.fold
    labelled = fold.train[~np.isnan(targets["target"][fold.train])]
    for job, share in zip(jobs, (0.01, 0.25, 1.0), strict=True):
        rows = np.unique(job.train)
        assert set(rows) <= set(labelled) and not set(rows) & (set(fold.test) | set(fold.validation))
        assert len(rows) == max(2, int(np.ceil(share * len(labelled))))
        assert set(targets["target"][rows]) == {0.0, 1.0}
        assert abs(len(job.train) - len(labelled)) <= len(rows) / 2  # as many steps whatever the share
        assert job.start is start and not len(job.validation) and not job.recipe.train.consistency
    assert set(np.unique(jobs[0].train)) <= set(np.unique(jobs[2].train))


def test_frozen_probes_learn_from_training_records_alone(pretrained, monkeypatch) -> None:
    seen = []

    def watch(model, loader, rows, sensors):
        seen.append(rows)
        return embed(model, loader, rows, sensors)

    monkeypatch.setattr(probing, "embed", watch)
    probe(pretrained, shares=(), fold=1)
    with Study.open(pretrained.study) as study:
        fold = Split.load(pretrained.folder / "split.json", study.records).folds[1]
    assert [rows.tolist() for rows in seen] == [fold.train.tolist(), fold.test.tolist()] * 2  # learned, untrained


def test_labels_that_the_run_hides_teach_nothing(tiny, monkeypatch) -> None:
    """Six training records have a label in every probe, and the test records all of theirs."""
    known, tuned = [], []

    def watch(values, labels, queries, classes):
        known.append((len(values), len(labels)))
        return linear_probe(values, labels, queries, classes)

    def train_few(job, *, listener):
        tuned.append(np.unique(job.train))
        assert (~np.isnan(job.targets["target"][job.train])).all()
        return train_model(job, listener=listener)

    monkeypatch.setattr(probing, "linear_probe", watch)
    monkeypatch.setattr(fine_tuning_module, "train_model", train_few)
    run = pretrain(tiny(STAGE, "data.labels.keep=6", "modalities=text"), fold=0)
    probed = probe(run, shares=(1.0,), epochs=1)
    with Study.open(run.study) as study:
        fold = Split.load(run.folder / "split.json", study.records).folds[0]
        here = study.sensors["text"].offset >= 0
        tasks, targets = learn_tasks(run.recipe, study.records)
        left = hide_labels(run.recipe, study.records, tasks, targets, fold.train, 0)["target"]
    rows = fold.train[here[fold.train] & ~np.isnan(left[fold.train])]
    assert 3 <= len(rows) <= 6 < here[fold.train].sum()
    assert known == [(len(rows), len(rows))] * 2 and [found.tolist() for found in tuned] == [sorted(rows)] * 2
    assert any("has those that are kept, 6 in fold 0" in note for note in probed.notes)
    assert {one.records for one in probed.measured} == {int(here[fold.test].sum())}


def test_untrained_is_where_pretraining_began(tiny) -> None:
    run = pretrain(tiny(STAGE.replace("batch: 16", "batch: 16, lr: 1e-30, weight_decay: 0")), fold=0)
    probed = probe(run, shares=())
    assert all(one.learned == one.untrained for one in probed.measured)


def test_heads_that_a_run_took_from_another_are_not_fine_tuned_with(tiny) -> None:
    """A probe asks what encoders have learned: its heads begin anew on both sides, and train."""
    late = "fusion={kind: vote, dim: 8}"
    before = train(tiny(late, "name=before"), fold=0)
    run = pretrain(tiny(late, STAGE, f"init={{from: '{before.folder}', heads: {{eeg: eeg}}}}"), fold=0)
    probed = probe(run, sensors=["eeg"], shares=(1.0,), epochs=1)
    assert "fine-tuned 100 %" in {one.measure for one in probed.measured}


def test_refusals_say_what_is_wrong(tiny, pretrained, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="no sensor with an encoder of its own named 'audio'"):
        probe(pretrained, sensors=["audio"])
    with pytest.raises(ConfigError, match=r"--fold must be one that is done, \[0, 1\], but got 7"):
        probe(pretrained, fold=7)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "recipe.yaml").write_text((pretrained.folder / "recipe.yaml").read_text())
    with pytest.raises(DataError, match="trained or pretrained to the end, but none is"):
        probe(Run.open(empty))
    facts = json.loads((pretrained.folder / "run.json").read_text())
    facts["study"]["digest"] = "other"
    (pretrained.folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"a probe needs the data that began the run, but .* have changed since"):
        probe(pretrained)


def test_a_fold_without_the_part_is_not_asked_about_it(pretrained, monkeypatch) -> None:
    load = Split.load

    def without(path, records):
        split = load(path, records)
        return replace(split, folds=tuple(replace(fold, validation=fold.validation[:0]) for fold in split.folds))

    monkeypatch.setattr(Split, "load", without)
    with pytest.raises(
        DataError, match="fold 0: a fold must have validation records to be asked about, but this one has"
    ):
        probe(pretrained, part="validation", shares=())


def test_the_verb_prints_a_table_and_writes_its_numbers(pretrained, capsys) -> None:
    folder = str(pretrained.folder)
    assert main(["probe", folder, "--labels", "0", "--fold", "0", "--sensor", "eeg"]) == 0
    printed = capsys.readouterr().out
    assert "pretrained encoders on held-out records, 95 % over subjects" in printed and "recall@5" in printed
    written = json.loads((pretrained.folder / "probe.json").read_text())
    assert written["folds"] == [0] and len(written["measured"]) == 4
    assert main(["probe", folder, "--labels", "0", "--fold", "0", "--sensor", "eeg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert main(["probe", folder, "--sensor", "sonar"]) == 2
    assert "error: no sensor with an encoder of its own named 'sonar'" in capsys.readouterr().err
