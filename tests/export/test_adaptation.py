"""A bundle for a new wearer: what it takes of a few labelled minutes, what it leaves alone, what it refuses."""

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusionkit.cli.frame import main
from fusionkit.core.recording import Recording
from fusionkit.data.features import CPU
from fusionkit.data.loading import Loader
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.study import Study
from fusionkit.evaluation.other_data import ask, open_trained
from fusionkit.export.adaptation import _retemper, _Said, adapt_run
from fusionkit.export.head_tuning import tune_heads
from fusionkit.export.minutes import divide, seconds_of
from fusionkit.export.run import export_run
from fusionkit.recipe.load import parse_recipe
from fusionkit.runtime import Session, read_bundle
from fusionkit.runtime.wearer import Wearer
from fusionkit.training.material import Material
from fusionkit.training.run import train
from fusionkit.training.trained import load_trained

RATE, SECONDS = 64, 1.0
RECIPE = """
name: gains
seed: 1
data:
  kind: manifest
  path: ???
  split: {kind: holdout, by: subject, test: 0.25, validation: 0.25, calibration: 0.2}
modalities:
  hand: {kind: signal, sample_rate: 64, normalise: {kind: subject}, encoder: {kind: mlp, hidden: 8}}
fusion: {kind: concat, dim: 8}
tasks:
  move: {kind: classification}
train: {epochs: 15, batch: 32, lr: 5e-3, single_sensors: false, device: cpu}
"""


def write_table(folder, name, subjects, *, gain=1.0, records=32, labels=("rest", "grip"), channels=2, seed=0):
    """Noise that is twice as strong in every other record; amplifiers differ by a gain."""
    folder.mkdir(exist_ok=True)
    rows, generator = [], np.random.default_rng(seed)
    for subject in subjects:
        own = gain * float(np.exp(generator.normal(0, 0.3)))
        scale = own * np.where(np.arange(records) % 2, 2.0, 1.0)
        noise = generator.normal(0, 1, (records, int(RATE * SECONDS), channels)) * scale[:, None, None]
        np.save(folder / f"{name}{subject}.npy", noise.reshape(-1, channels).astype(np.float32))
        rows += [
            {
                "subject": subject,
                "hand": f"{name}{subject}.npy",
                "hand_start": record * SECONDS,
                "hand_stop": (record + 1) * SECONDS,
                "move": labels[record % len(labels)],
            }
            for record in range(records)
        ]
    path = folder / f"{name}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gains")


@pytest.fixture(scope="module")
def run(folder):
    table = write_table(folder / "own", "train", [f"p{number}" for number in range(10)], seed=1)
    return train(parse_recipe(RECIPE, "gains.yaml", [f"data.path={table}", f"run.dir={folder / 'runs'}"]), fold=0)


@pytest.fixture(scope="module")
def minutes(folder):
    """Half a minute of somebody whose amplifier gains fifty times as much."""
    return write_table(folder / "new", "calibration", ["x"], gain=50.0, seed=2)


@pytest.fixture(scope="module")
def adapted(run, folder, minutes):
    path = folder / "new.fusion"
    made = adapt_run(run, [f"data.path={minutes}", f"run.dir={folder / 'runs'}"], path, heads=True, epochs=5)
    return made, path


def later(folder):
    """The same person and amplifier an hour later: windows, and what was right."""
    table = write_table(folder / "later", "calibration", ["x"], gain=50.0, seed=2)
    values = np.load(table.parent / "calibrationx.npy").reshape(32, -1, 2)
    return values.transpose(0, 2, 1) * 1.0, np.arange(32) % 2


@pytest.mark.slow
def test_somebody_with_another_gain_is_answered_better(run, folder, adapted):
    windows, right = later(folder)
    export_run(run, folder / "plain.fusion", fold=0)
    plain, fitted = Session.load(folder / "plain.fusion"), Session.load(adapted[1])
    column = fitted.tasks["move"].classes.index("grip")
    other = Wearer(plain)  # somebody of the training data
    with Study.open(run.study) as study:
        sensor = study.sensor("hand")
        other.normalise_by("hand", np.stack([sensor.slice(row).T for row in range(32)]))
    unfitted = plain.predict({"hand": windows}, statistics=other.statistics)["move"][:, column] > 0.5
    answered = fitted.predict({"hand": windows})["move"][:, column] > 0.5
    assert (unfitted == right).mean() < 0.6  # all is loud
    assert (answered == right).mean() > 0.9


@pytest.mark.slow
def test_the_bundle_says_what_it_was_fitted_to_and_holds_no_signal(adapted, minutes):
    made, path = adapted
    manifest = read_bundle(path).manifest
    assert manifest.adapted["records"] == made.records == 32
    assert (manifest.adapted["seconds"], manifest.adapted["sensors"]) == (32.0, ["hand"])
    assert len(manifest.adapted["sha256"]) == 64
    assert manifest.held_out is None  # whom it was fitted to may be one of the run's held-out people
    assert made.judged == 10  # the last 30 %
    samples = np.load(minutes.parent / "calibrationx.npy")
    with zipfile.ZipFile(path) as archive, archive.open("reference.npz") as file:
        assert not np.isin(np.load(file, allow_pickle=False)["input_hand"], samples).any()
    assert path.stat().st_size < samples.nbytes + 100_000
    assert Session.load(path).check() < 1e-5


@pytest.mark.slow
def test_statistics_are_those_of_the_wearer(adapted, minutes):
    values = np.load(minutes.parent / "calibrationx.npy").astype(np.float64)
    session = Session.load(adapted[1])
    shift, scale = session.wearer().statistics["hand"]
    assert session.wearer().lacks == []
    with_names = session.sensors["hand"].statistics
    assert shift.shape == tuple(with_names)
    plain = Wearer(session)
    plain.normalise_by("hand", values.reshape(32, -1, 2).transpose(0, 2, 1))
    np.testing.assert_allclose(shift, plain.statistics["hand"][0], rtol=1e-5)
    np.testing.assert_allclose(scale, plain.statistics["hand"][1], rtol=1e-5)


@pytest.mark.slow
def test_given_statistics_come_before_those_of_the_wearer(adapted, folder):
    windows, _ = later(folder)
    session = Session.load(adapted[1])
    own = session.predict({"hand": windows})["move"]
    np.testing.assert_array_equal(
        own, session.predict({"hand": windows}, statistics=session.wearer().statistics)["move"]
    )
    shape = session.sensors["hand"].statistics
    other = session.predict({"hand": windows}, statistics={"hand": (np.zeros(shape), np.ones(shape))})["move"]
    assert np.abs(own - other).max() > 0.1


@pytest.fixture
def tuning(run):
    """A model of the run, and its training records as a calibration."""
    trained = load_trained(run, 0)
    with Study.open(run.study) as study:
        material = Material(trained.recipe, study, CPU)
        targets = {"move": trained.tasks["move"].encode(study.records.known("move"), "move")}
        inputs = {"hand": material.windows("hand", trained.modalities["hand"])}

        def tune(target=targets["move"], **options):
            loader = Loader(study, inputs, {"move": target}, CPU, False)
            weights = {"move": 1.0}
            fit, judge = np.arange(0, 60), np.arange(60, 90)
            return tune_heads(trained.model, trained.tasks, weights, loader, fit, judge, **options)

        yield trained.model, targets["move"], tune


def test_tuning_touches_heads_alone(tuning, run):
    model, _, tune = tuning
    made = tune(epochs=4, lr=1e-3)
    fresh = load_trained(run, 0).model.state_dict()
    changed = {name for name, value in model.state_dict().items() if not value.equal(fresh[name])}
    assert made.kept and made.after < made.before
    assert changed and all(name.startswith("heads.") for name in changed)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_heads_that_later_records_do_not_like_stay_as_they_were(tuning, run):
    model, target, tune = tuning
    turned = target.copy()
    turned[60:] = 1 - turned[60:]  # what was learned of the first part is wrong of the last
    made = tune(turned, epochs=3, lr=1e-2)
    fresh = load_trained(run, 0).model.state_dict()
    assert not made.kept and made.after == made.before
    assert all(value.equal(fresh[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_evaluate_takes_all_records_for_those_of_the_wearer(adapted, folder):
    table = write_table(folder / "next", "next", ["x"], gain=500.0, records=12, seed=3)  # ten times as loud again
    answered = ask(open_trained(adapted[1], [f"data.path={table}", f"data.cache={folder / 'cache'}"]))
    windows = np.load(table.parent / "nextx.npy").reshape(12, -1, 2).transpose(0, 2, 1)
    own = Session.load(adapted[1]).predict({"hand": windows})["move"]
    np.testing.assert_allclose(answered.predictions["move"], own, atol=1e-6)
    assert any("by whom the bundle was adapted to" in note for note in answered.notes)


@pytest.mark.slow
def test_a_bundle_is_not_scored_on_what_it_was_adapted_to(adapted, minutes, folder, capsys):
    where = [str(adapted[1]), f"data.path={minutes}", f"data.cache={folder / 'cache'}"]
    assert main(["evaluate", *where]) == 2
    assert "adapted to these very records" in capsys.readouterr().err
    assert main(["predict", *where]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 33


def said(sureness, right):
    """Answers to class 1 with that probability, of records that are right as often as said."""
    target = np.ones(40)
    target[: round(40 * (1 - right))] = 0
    return _Said(np.tile([1 - sureness, sureness], (40, 1)), target)


def test_a_new_temperature_is_taken_where_later_records_say_so():
    found = _retemper(1.0, [said(0.99, 0.75), said(0.99, 0.75)])
    assert found.kept and found.loss_after < found.loss_before
    assert 2.5 < found.after < np.log(99) / np.log(3)  # near where 0.99 becomes 0.75, and nearer to before


def test_a_new_temperature_is_left_where_later_records_say_otherwise():
    found = _retemper(1.0, [said(0.9, 1.0), said(0.9, 0.9)])  # all right at first: surer than that nobody is
    assert not found.kept and found.after == found.before == 1.0
    assert found.loss_after > found.loss_before


def test_records_that_judge_are_the_end_of_each_recording_and_share_no_sample(tmp_path):
    whole = [Recording(np.zeros((100, 1), np.float32), 10.0, ("a",), "")] * 2
    made = NewSensor.of(whole)
    start = np.tile(np.arange(9) * 10, 2)  # windows of 2 s every second, of two recordings
    sensor = replace(
        made,
        recording=np.repeat([0, 1], 9),
        start=start,
        count=np.full(18, 20),
        stored=replace(made.stored, longest=20),
        recording_digest=["a", "b"],
    )
    rows = [{"id": str(row), "subject": "x", "state": "ab"[row % 2]} for row in range(18)]
    save_study(tmp_path / "s.h5", Records.of(rows, ["state"]), {"hand": sensor}, settings="")
    with Study.open(tmp_path / "s.h5") as study:
        fit, judge = divide(study, {"state": np.arange(18) % 2.0})
        assert judge.tolist() == [6, 7, 8, 15, 16, 17]
        assert fit.tolist() == [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]  # 5 and 14 reach into the next
        assert seconds_of(study, np.array([0, 1, 9])) == 5.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"labels": ("rest",)}, "must have labels of two classes or more of a task, but has 'rest' alone"),
        ({"labels": ("",)}, "must have labels of two classes or more of a task, but has none"),
        ({"records": 6}, "must have 8 labelled records or more, but has 6"),
        ({"subjects": ["x", "y"]}, "must be to one person, but there are 2: x, y"),
        ({"channels": 3}, "hand"),
        ({"labels": ("rest", "jump")}, "jump"),
    ],
)
def test_what_nobody_can_be_fitted_by_is_refused_in_a_line(run, tmp_path, capsys, table, message):
    path = write_table(tmp_path / "bad", "bad", **{"subjects": ["x"], **table})
    output = tmp_path / "bad.fusion"
    code = main(["adapt", str(run.folder), f"data.path={path}", f"data.cache={tmp_path}", "-o", str(output)])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(said) == 1 and message in said[0], said
    assert not output.exists() and not list(tmp_path.glob("*.fusion*"))


def test_adapt_needs_other_data(run, capsys):
    assert main(["adapt", str(run.folder)]) == 2
    assert "give data.path=" in capsys.readouterr().err
    assert main(["adapt", str(run.folder), "train.epochs=3"]) == 2
    assert "only data.* and run.* may be changed" in capsys.readouterr().err


def test_adapt_knows_the_data_of_the_run_under_another_name(folder, run, tmp_path, capsys):
    copy = folder / "own" / "copy.csv"
    copy.write_text(Path(run.recipe.data.options["path"]).read_text())
    output = tmp_path / "m.fusion"
    assert main(["adapt", str(run.folder), f"data.path={copy}", f"data.cache={tmp_path}", "-o", str(output)]) == 2
    assert "but these are the signals it was made from" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_adapt_says_what_it_did(run, folder, minutes, capsys):
    output = folder / "said.fusion"
    assert main(["adapt", str(run.folder), f"data.path={minutes}", "-o", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["records"], told["sensors"], told["heads"]) == (32, ["hand"], None)
    assert output.exists()
