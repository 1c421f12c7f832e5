"""Generated records of a fold: of its training records alone, whoever tries to bring in others."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fusionkit.augment.generative.generator import GenerativeAugmenter, Made
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.generated import Generated
from fusionkit.data.splits import Fold, Split
from fusionkit.recipe.load import parse_recipe
from fusionkit.training import fitting, fold, generating
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material, open_study
from fusionkit.training.records import divide
from fusionkit.training.run import train
from tests.conftest import TINY

TRAINED = "{kind: cwgan_gp, hidden: 8, latent: 4, epochs: 3, batch: 8, add: 1.5}"
FILES = ("last", "best", "predictions")


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


class Spy(GenerativeAugmenter):
    """Writes down what it learns of, and makes nothing but its mean, a little moved."""

    kind = "spy"
    learned: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []
    share = 1.0

    def prepare(self, values, label):
        super().prepare(values, label)
        self.learned.append((values.clone(), label.clone()))

    def sample(self, label, generator):
        values = self.shift + 0.1 * self.scale * torch.randn(len(label), *self.item.shape, generator=generator)
        return Made(values, label, torch.full((len(label),), self.share))


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(registry.generators._classes, "spy", Spy)
    monkeypatch.setattr(Spy, "learned", [])
    return Spy


@pytest.fixture
def jobs(monkeypatch):
    """Every job that is trained."""
    found, real = [], fold.train_model

    def spied(job, **options):
        found.append(job)
        return real(job, **options)

    monkeypatch.setattr(fold, "train_model", spied)
    return found


def all_features(recipe):
    """Features of every record of the study, as they are loaded, and the split."""
    study = open_study(recipe)
    material = Material(recipe, study, torch.device("cpu"))
    only = replace(recipe, augment={})
    modalities = material.fit_modalities(only, np.arange(len(study.records)), [], 0)
    loader = material.loader(only, modalities, {})
    return loader.batch(np.arange(len(study.records))).inputs["eeg"].values


def folds(run):
    return Split.load(run.folder / "split.json", open_study(run.recipe).records).folds


def weights(run, arm="fused", number=0, files=FILES):
    tensors = {}
    for name in files:
        found, _ = load_tensors(run.arm_folder(number, arm) / f"{name}.safetensors")
        tensors |= {f"{name}.{key}": value for key, value in found.items()}
    return tensors


def equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(value.nan_to_num(-1), other[name].nan_to_num(-1)) for name, value in one.items()
    )


def known(recipe, rows):
    """Of some records those that have EEG and a label (the study leaves some out), and these labels."""
    study = open_study(recipe)
    names, here = study.records.labels["target"], study.sensors["eeg"].present
    rows = [row for row in rows.tolist() if names[row] and here[row]]
    return rows, [int(names[row][-1]) for row in rows]


def make(recipe, folder, listener=None):
    """The generated records of fold 0 alone, what their file says, and the fold."""
    study = open_study(recipe)
    material, split = Material(recipe, study, torch.device("cpu")), divide(recipe, study.records)
    generating.generate_fold(recipe, material, split, 0, folder, listener=listener)
    return *load_tensors(folder / "fold-0/generated/eeg/records.safetensors"), split.folds[0]


def labelled(run, number=0):
    """As `known`, of a fold's training part."""
    return known(run.recipe, folds(run)[number].train)


def records_of(run, number=0, sensor="eeg"):
    return run.folder / f"fold-{number}/generated/{sensor}/records.safetensors"


@pytest.mark.parametrize("overrides", [[], ["modalities.eeg.normalise.kind=subject"], ["data.labels.keep=7"]])
def test_a_generator_sees_labelled_training_records_and_no_other(tiny, spy, tmp_path, overrides):
    recipe = tiny("augment.eeg={kind: spy}", *overrides)
    _, _, part = make(recipe, tmp_path)
    ((values, label),), features = spy.learned, all_features(recipe)
    rows = [int((features.flatten(1) == value.flatten()).all(1).nonzero()) for value in values]  # each is one record
    there, classes = known(recipe, part.train)
    assert rows == sorted(set(rows)) and not set(rows) & {*part.validation.tolist(), *part.test.tolist()}
    if "data.labels.keep=7" in overrides:
        assert set(rows) < set(there) and len(rows) in (6, 7)  # one that keeps its label may lack EEG
    else:
        assert rows == there and label.tolist() == classes


def test_what_other_records_are_changes_no_generated_bit(tiny, monkeypatch, tmp_path):
    """All of validation and test is replaced by noise, far away."""
    recipe = tiny(f"augment.eeg={TRAINED}", "augment.eeg.use=selective", "augment.eeg.keep.min_confidence=0.4")
    one, _, part = make(recipe, tmp_path / "one")
    real = Material.features

    def spoiled(self, name, modality):
        found = real(self, name, modality)
        values = np.array(found.values)
        for rows in (part.validation, part.test):
            values[rows] = 1e4 * np.random.default_rng(0).normal(size=values[rows].shape)
        return replace(found, values=values)

    monkeypatch.setattr(Material, "features", spoiled)
    other, _, _ = make(recipe, tmp_path / "other")
    assert len(one["values"]) and equal(one, other)
    assert all_features(recipe).abs().max() > 1e4  # they were replaced


def test_nothing_added_is_the_training_without_a_generator_to_the_bit(tiny):
    plain = train(tiny(), fold=0)
    none = train(tiny(f"augment.eeg={TRAINED}", "augment.eeg.add=0"), fold=0)
    assert equal(weights(plain), weights(none))
    assert not (none.folder / "fold-0/generated").exists()
    some = train(tiny(f"augment.eeg={TRAINED}"), fold=0)
    assert not equal(weights(plain, files=["best"]), weights(some, files=["best"]))


def test_one_set_of_records_for_all_models_of_the_sensor_and_none_for_others(tiny, spy, jobs):
    plain = train(tiny("train.single_sensors=true"), fold=0)
    jobs.clear()
    run = train(tiny("train.single_sensors=true", "augment.eeg={kind: spy, add: 2}"), fold=0)
    assert len(spy.learned) == 1
    fused, eeg, text = jobs
    assert torch.equal(fused.generated[0].values, eeg.generated[0].values) and not text.generated
    assert len(eeg.generated[0]) == 2 * len(labelled(run)[0])
    assert equal(weights(plain, "text"), weights(run, "text"))
    assert not equal(weights(plain, "eeg", files=["best"]), weights(run, "eeg", files=["best"]))


def test_the_engine_learns_of_them_and_nothing_else_does(tiny, spy, jobs, monkeypatch):
    count, learned, validated, asked, fitted = 48, [], [], [], []

    class Engine(fitting.Engine):
        def __init__(self, objective, load, rows, *given, **options):
            learned.extend(rows.tolist())
            super().__init__(objective, load, rows, *given, **options)

    class Validation(fitting.Validation):
        def __init__(self, objective, loader, rows, *given):
            validated.extend(rows.tolist())
            assert loader.real is loader
            super().__init__(objective, loader, rows, *given)

    real, fit = fold.predict, fitting.FusionModel.fit

    def predict(model, loader, rows, **options):
        assert loader.real is loader  # it knows no generated record
        asked.extend(rows.tolist())
        return real(model, loader, rows, **options)

    def spied(self, batches, generator):
        fitted.extend(row for batch in batches() for row in batch.index.tolist())
        return fit(self, batches, generator)

    monkeypatch.setattr(fitting, "Engine", Engine)
    monkeypatch.setattr(fitting, "Validation", Validation)
    monkeypatch.setattr(fold, "predict", predict)
    monkeypatch.setattr(fitting.FusionModel, "fit", spied)
    run = train(tiny("augment.eeg={kind: spy, add: 2}"), fold=0)
    (part, (job,)) = folds(run)[0], jobs
    made = 2 * len(labelled(run)[0])
    assert sorted(learned) == [*part.train.tolist(), *range(count, count + made)]
    assert set(validated) == set(part.validation.tolist())
    assert set(asked) == {*part.validation.tolist(), *part.test.tolist()}
    assert job.train.tolist() == part.train.tolist() == sorted(set(fitted))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_generated_row_in_another_part_is_no_record(tiny, part):
    recipe = tiny()
    study = open_study(recipe)
    material = Material(recipe, study, torch.device("cpu"))
    rows = {"train": np.arange(8), "validation": np.arange(8, 16), "test": np.arange(16, 24)}
    rows[part] = np.append(rows[part], len(study.records))
    made = Generated("eeg", "features", torch.zeros(4, 1, 19, 5), {"target": np.zeros(4)})
    with pytest.raises(IndexError):
        fold.train_fold(fold.Arm("fused", recipe), material, Fold(**rows), 0, recipe_folder(recipe), generated=[made])


def recipe_folder(recipe):
    return Path(recipe.run.dir) / "by-hand"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of both folds; read only."""
    folder = tmp_path_factory.mktemp("generated")
    return train(parse_recipe(TINY, "tiny.yaml", [f"run.dir={folder}", f"augment.eeg={TRAINED}"]))


@pytest.fixture
def again(finished, tmp_path):
    """Fold 0 of that run is asked for again: of the files in a folder that holds what the test puts there."""
    study = open_study(finished.recipe)
    material = Material(finished.recipe, study, torch.device("cpu"))
    split = Split.load(finished.folder / "split.json", study.records)

    def ask(**files):
        for name, source in files.items():
            shutil.copy(source, tmp_path / f"{name}.safetensors")
        return generating.generate(generating.find_origin(finished.recipe, material, split, 0, "eeg"), tmp_path)

    return ask


def test_a_finished_file_is_read_and_a_lost_one_is_made_again(finished, again, tmp_path):
    own = records_of(finished)
    tensors, _ = load_tensors(own)
    for files in ({"records": own}, {"generator": own.with_name("generator.safetensors")}, {}):
        made = again(**files)
        assert torch.equal(made.values, tensors["values"])
        assert made.targets["target"].tolist() == tensors["label"].tolist()
        for path in tmp_path.glob("*.safetensors"):
            path.unlink()


@pytest.mark.parametrize("name", ["records", "generator", "last"])
def test_a_file_of_another_fold_is_refused(finished, again, name):
    other = records_of(finished, 1).with_name(f"{name}.safetensors")
    with pytest.raises(
        DataError, match=rf"{name}\.safetensors: fold must be 0, but is 1: the file is of another train"
    ):
        again(**{name: other})


def test_a_run_is_not_resumed_with_records_of_another_fold(tiny):
    run = train(tiny(f"augment.eeg={TRAINED}"))
    shutil.rmtree(run.folder / "fold-0/fused")
    shutil.copy(records_of(run, 1), records_of(run))
    with pytest.raises(DataError, match=r"records\.safetensors: fold must be 0, but is 1"):
        train(run.recipe, resume=True, fold=0)
    assert not (run.folder / "fold-0/fused").exists()


@pytest.mark.parametrize("fact", ["sensor", "settings", "entry", "classes", "study", "split", "training", "seed"])
@pytest.mark.parametrize("name", ["records", "generator", "last"])
def test_a_file_that_says_anything_else_of_its_origin_is_refused(finished, again, tmp_path, name, fact):
    tensors, facts = load_tensors(records_of(finished).with_name(f"{name}.safetensors"))
    save_tensors(tmp_path / "planted", tensors, {**facts, fact: "another"})
    with pytest.raises(DataError, match=rf"{name}\.safetensors: {fact} must be .*, but is 'another'"):
        again(**{name: tmp_path / "planted"})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("values", lambda x: x * torch.nan, "generated records must be finite float32 values"),
        ("values", lambda x: x[1:], "generated records must be finite float32 values"),
        ("values", lambda x: x.double(), "generated records must be finite float32 values"),
        ("label", lambda x: x + 5, "labels must be numbers of 2 classes"),
    ],
)
def test_a_file_that_holds_anything_else_is_refused(finished, again, tmp_path, name, change, message):
    tensors, facts = load_tensors(records_of(finished))
    save_tensors(tmp_path / "planted", {**tensors, name: change(tensors[name])}, facts)
    with pytest.raises(DataError, match=rf"records\.safetensors: {message}"):
        again(records=tmp_path / "planted")


def test_a_file_of_fewer_labels_is_refused(tiny):
    """Another draw of labels that are hidden is another training part."""
    run = train(tiny(f"augment.eeg={TRAINED}", "data.labels.keep=8"), fold=0)
    other = train(tiny(f"augment.eeg={TRAINED}", "data.labels.keep=8", "data.labels.seed=9", "name=other"), fold=0)
    shutil.rmtree(run.folder / "fold-0/fused")
    shutil.copy(records_of(other), records_of(run))
    with pytest.raises(DataError, match="training must be"):
        train(run.recipe, resume=True, fold=0)


def test_the_file_says_what_was_made_of_what(finished):
    tensors, facts = load_tensors(records_of(finished))
    counts = np.bincount(labelled(finished)[1])
    assert facts["wanted"] == facts["tried"] == facts["kept"] == generating.wanted_records(counts.tolist(), 1.5)
    assert torch.bincount(tensors["label"]).tolist() == facts["kept"] and tensors["confidence"].isnan().all()
    assert tensors["values"].shape[1:] == (1, 19, 5) and tensors["values"].dtype == torch.float32
    assert (facts["fold"], facts["level"], facts["classes"]) == (0, "features", ["level_0", "level_1"])
    assert facts["entry"]["kind"] == "cwgan_gp" and facts["entry"]["task"] == "target"
    assert facts["training"] != load_tensors(records_of(finished, 1))[1]["training"]


def test_a_run_that_stops_in_a_generator_goes_on_to_the_same_bits(tiny, monkeypatch, tmp_path):
    whole = train(tiny(f"augment.eeg={TRAINED}"), fold=0)
    recipe = tiny(f"augment.eeg={TRAINED}", f"run.dir={tmp_path / 'cut'}")

    class After(generating.GeneratorTraining):
        def _close_epoch(self):
            if self.stop is not None and self._epoch == 1:
                self.stop.signal = 15
            super()._close_epoch()

    with monkeypatch.context() as patched:
        patched.setattr(generating, "GeneratorTraining", After)
        with pytest.raises(Interrupted):
            train(recipe, fold=0)
    cut = train(recipe, resume=True, fold=0)
    assert equal(load_tensors(records_of(whole))[0], load_tensors(records_of(cut))[0])
    assert equal(weights(whole), weights(cut))


def test_records_follow_from_the_seed(tiny, tmp_path):
    recipe = tiny(f"augment.eeg={TRAINED}")
    one, other = (make(recipe, tmp_path / name)[0] for name in ("one", "other"))
    assert equal(one, other)
    third, _, _ = make(replace(recipe, seed=4), tmp_path / "third")
    assert not torch.equal(one["values"], third["values"])


def test_selective_usage_keeps_what_a_classifier_is_sure_of_and_says_how_many(tiny, spy, tmp_path):
    for least, candidates in ((0.55, 2), (1.0, 1)):
        notes = Notes()
        keep = f"{{min_confidence: {least}, candidates: {candidates}}}"
        recipe = tiny(f"augment.eeg={{kind: spy, add: 2, use: selective, keep: {keep}}}")
        tensors, facts, _ = make(recipe, tmp_path / str(least), notes)
        assert (tensors["confidence"] >= least).all()
        assert facts["kept"] == torch.bincount(tensors["label"], minlength=2).tolist()
        short = [kept < want for kept, want in zip(facts["kept"], facts["wanted"], strict=True)]
        assert any("fewer records are appended than wanted" in line for line in notes.lines) == any(short)
        assert all(tried <= candidates * want for tried, want in zip(facts["tried"], facts["wanted"], strict=True))
    assert all(short)  # nobody is as sure as that


def test_where_none_is_kept_training_is_that_without_a_generator(tiny, spy):
    none = "{kind: spy, use: selective, keep: {min_confidence: 1.0, candidates: 1}}"
    assert equal(weights(train(tiny(f"augment.eeg={none}"), fold=0)), weights(train(tiny(), fold=0)))


def test_windows_are_made_where_a_model_takes_windows(tiny, spy, jobs):
    flip = "[{kind: eeg_sign_flip}, {kind: spy}]"
    run = train(tiny(f"augment.eeg={flip}", "train.single_sensors=true"), fold=0)
    assert load_tensors(records_of(run))[1]["level"] == "window"
    assert spy.learned[0][0].shape[1:] == (19, 128) and len(jobs[1].generated[0]) == len(labelled(run)[0])
    with pytest.raises(
        ConfigError, match=r"^augment\.eeg: records are loaded as windows, which statistics of a subject"
    ):
        train(tiny(f"augment.eeg={flip}", "modalities.eeg.normalise.kind=subject"), fold=0)


def test_windows_are_made_where_one_model_of_the_run_needs_them(tiny, spy, tmp_path):
    """Corruption covers windows of the whole model alone; the sensor's own must take the same records."""
    both = tiny("augment.eeg={kind: spy}", "train.sensor_corruption=0.5", "train.single_sensors=true")
    assert make(both, tmp_path)[1]["level"] == "window"


def test_ids_and_mixed_classes_are_refused(tiny, spy, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"^augment\.text: records must be numbers to be generated"):
        make(tiny("augment.text={kind: spy}"), tmp_path)
    with pytest.raises(
        ConfigError, match=r"^augment\.eeg: mixup_copies makes records of mixed classes.*give train\.mixup"
    ):
        train(tiny("augment.eeg={kind: mixup_copies}"))
    assert not (tmp_path / "runs/tiny").exists()


@pytest.mark.parametrize(("what", "message"), [("short", "has 0 of 1 steps"), ("nan", "has values that are no finite")])
def test_records_that_are_not_whole_are_refused_by_name(tiny, spy, tmp_path, monkeypatch, what, message):
    recipe, real = tiny("augment.eeg={kind: spy}"), Material.features
    row = known(recipe, divide(recipe, open_study(recipe).records).folds[0].train)[0][3]
    name = open_study(recipe).records.id[row]

    def spoiled(self, sensor, modality):
        found = real(self, sensor, modality)
        values, steps = np.array(found.values), np.array(found.steps)
        steps[row], values[row, 0, 0, 0] = (0, 0) if what == "short" else (steps[row], np.nan)
        return replace(found, values=values, steps=steps)

    monkeypatch.setattr(Material, "features", spoiled)
    with pytest.raises(DataError, match=rf"^augment\.eeg: records must all be whole.*'{name}' {message}"):
        make(recipe, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_class_without_a_record_of_the_sensor_is_refused(tiny, spy, monkeypatch):
    recipe = tiny("augment.eeg={kind: spy}")
    study = open_study(recipe)
    lacking = np.array([name == "level_1" for name in study.records.labels["target"]])
    sensor = study.sensors["eeg"]
    study.sensors["eeg"] = replace(sensor, offset=np.where(lacking, -1, sensor.offset))
    material = Material(tiny(), study, torch.device("cpu"))
    split = divide(recipe, study.records)
    with pytest.raises(DataError, match=r"every class must have a labelled .* in fold 1 \['level_1'\] have none"):
        generating.find_origin(recipe, material, split, 1, "eeg")


STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 1, batch: 8}"


@pytest.mark.parametrize("sensors", ["{text: {kind: spy}}", "{eeg: {kind: spy}, text: {kind: spy}}"])
def test_what_cannot_be_generated_is_refused_before_anything_is_trained(tiny, spy, tmp_path, sensors):
    with pytest.raises(ConfigError, match=r"^augment\.text: records must be numbers"):
        train(tiny(f"augment={sensors}", STAGE))
    assert not spy.learned and not list((tmp_path / "runs").glob("tiny/*"))


def test_a_later_fold_is_refused_before_the_first_is_trained(tiny, spy, tmp_path, monkeypatch):
    real = generating.find_origin

    def lacking(recipe, material, split, number, *more):
        if number == 1:
            raise DataError("in fold 1 a class has none")
        return real(recipe, material, split, number, *more)

    monkeypatch.setattr(generating, "find_origin", lacking)
    with pytest.raises(DataError, match="in fold 1"):
        train(tiny("augment.eeg={kind: spy}"))
    assert not spy.learned and not list((tmp_path / "runs").glob("tiny/*"))


def test_steps_with_labels_hidden_have_generated_records_among_the_labelled(tiny, spy, jobs):
    train(tiny("augment.eeg={kind: spy, add: 3}", "data.labels.keep=6"), fold=0)
    (job,) = jobs
    steps = fitting._steps(job)
    plan = fitting._plan(job, steps)(0)
    made = set(range(48, 48 + 18))
    assert len(plan) == steps == 3  # 6 and 18 by 8, more than 15 by 8
    assert made <= {row for step in plan for row in step.rows.tolist()}


def test_random_tasks_take_generated_records_for_the_task_that_they_have(tiny, spy, jobs):
    run = train(tiny("augment.eeg={kind: spy, add: 2}", "train.task_mode=random"), fold=0)
    (job,), (rows, _) = jobs, labelled(run)
    plan = fitting._plan(job, fitting._steps(job))
    assert set(plan.labelled["target"].tolist()) == {*job.train.tolist(), *range(48, 48 + 2 * len(rows))}


def test_inner_trainings_do_without_them(tiny, spy, monkeypatch):
    from fusionkit.training import out_of_fold

    inner, real = [], out_of_fold.train_model

    def spied(job, **options):
        inner.append(job)
        return real(job, **options)

    monkeypatch.setattr(out_of_fold, "train_model", spied)
    notes = Notes()
    train(tiny("augment.eeg={kind: spy}", "fusion={kind: stacking, dim: 8}"), fold=0, listener=notes)
    assert inner and not any(job.generated for job in inner)
    assert any("inner trainings, which have no generated records" in line for line in notes.lines)
