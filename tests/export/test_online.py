"""What a closed loop needs of a bundle: aligned windows, smoothing inside, dead channels, statistics that go on."""

import json
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from fusionkit.cli.frame import main
from fusionkit.core.recording import Recording
from fusionkit.data.alignment import AlignOptions
from fusionkit.data.loading import Loader
from fusionkit.data.normalisation import NormaliseOptions
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.evaluation.other_data import ask, open_trained
from fusionkit.evaluation.worn import Worn
from fusionkit.export.bundle import sensor_inputs
from fusionkit.export.graph import Deployed
from fusionkit.export.parity import compare
from fusionkit.export.run import export_run
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.runtime import Session
from fusionkit.runtime.alignment import align, calibrate_alignment
from fusionkit.runtime.statistics import RunningStatistics
from fusionkit.training.material import Material, open_study
from fusionkit.training.run import train
from fusionkit.training.trained import load_trained

ONLINE = (
    "data.seconds=4",
    "modalities=eeg",
    "modalities.eeg.align={kind: euclidean, seconds: 4}",
    "modalities.eeg.smooth={kind: lds, process_variance: 0.1}",
    "modalities.eeg.normalise={kind: calibration, seconds: 4, update: true}",
    "export.streaming=true",
)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    """A run whose recipe a stream could follow, with its bundle."""
    from tests.conftest import TINY

    folder = tmp_path_factory.mktemp("online")
    run = train(parse_recipe(TINY, "tiny.yaml", [f"run.dir={folder}", *ONLINE]), fold=0)
    export_run(run, run.folder / "model.fusion")
    return run


@pytest.fixture(scope="module")
def parts(online):
    trained = load_trained(online, 0)
    study = open_study(trained.recipe)
    material = Material(trained.recipe, study, torch.device("cpu"))
    inputs = {"eeg": material.windows("eeg", trained.modalities["eeg"])}
    loader = Loader(study, inputs, {}, torch.device("cpu"), False)
    return trained, study, material, loader, Session.load(online.folder / "model.fusion")


def test_torch_and_bundle_agree_where_a_channel_is_dead(parts):
    trained, _, _, loader, session = parts
    batch = loader.batch(torch.arange(6))
    window = batch.inputs["eeg"]
    window.values[1, 3] = 0
    window.values[2] = 0
    sensors = sensor_inputs(trained, batch)
    deployed = Deployed(trained.model, sensors, trained.tasks).eval()
    features, _ = trained.model.front_end("eeg")(window.values, window.length)
    assert features[1, :, 3].isnan().all() and not features[1, :, :3].isnan().any() and features[2].isnan().all()
    parity = compare(deployed, session, batch.inputs, 1e-5)
    assert parity.largest < 1e-5


def test_a_loop_makes_of_raw_signal_what_training_saw(parts):
    """Windows, shift and scale from the runtime's own pieces equal what the loader gives, record by record."""
    trained, study, material, loader, session = parts
    sensor, told = study.sensors["eeg"], session.sensors["eeg"]
    assert asdict(told.align) == {
        "kind": "euclidean", "over": None, "seconds": 4.0, "recording": None, "samples": 512, "scale": 1e-5,
    }  # fmt: skip
    rows = np.flatnonzero((np.array(study.records.subject) == study.records.subject[0]) & sensor.present)
    segment = sensor.slice(int(rows[0])).T
    matrix = calibrate_alignment(segment, told.align.samples, told.align.scale)
    front_end = trained.model.front_end("eeg")

    def features(window):
        made, _ = front_end(torch.from_numpy(window)[None], torch.tensor([window.shape[-1]]))
        return made[0].numpy()

    statistics = RunningStatistics(tuple(told.statistics))
    statistics.update(features(align(matrix, segment)))
    assert material.excluded[rows].tolist() == [True] + [False] * (len(rows) - 1)
    for row in rows[1:]:
        window = align(matrix, sensor.slice(int(row)).T)
        wanted = loader.batch(torch.tensor([row])).inputs["eeg"]
        np.testing.assert_allclose(window, wanted.values[0], rtol=1e-4, atol=1e-11)
        np.testing.assert_allclose(statistics.shift, wanted.shift[0], atol=1e-4)
        np.testing.assert_allclose(statistics.scale, wanted.scale[0], atol=1e-4)
        online = session.predict({"eeg": window}, statistics={"eeg": (statistics.shift, statistics.scale)})
        with torch.no_grad():
            offline = trained.model({"eeg": wanted}).decisions["target"].exp()
        np.testing.assert_allclose(online["target"], offline.numpy(), atol=1e-4)
        statistics.update(features(window))


@pytest.mark.parametrize(
    "normalise",
    [
        {"kind": "subject"},
        {"kind": "recording"},
        {"kind": "calibration", "seconds": 4},
        {"kind": "calibration", "seconds": 3.5, "update": True},
        {"kind": "calibration", "seconds": 4, "over": "recording"},
    ],
)
@pytest.mark.parametrize("align", [{"kind": "none"}, {"kind": "euclidean"}, {"kind": "euclidean", "seconds": 4}])
def test_the_runtime_takes_the_statistics_that_torch_takes(parts, normalise, align):
    """Of every record: shift and scale, which are calibration's, and what a report says of it."""
    trained, study, _, _, session = parts
    entry = trained.recipe.modalities["eeg"].model_copy(
        update={"normalise": NormaliseOptions(**normalise), "align": AlignOptions(**align)}
    )
    recipe = replace(trained.recipe, modalities={"eeg": entry})
    material, worn = Material(recipe, study, torch.device("cpu")), Worn(session, recipe, study, trained.modalities)
    wanted, got = material.statistics("eeg"), worn.windows("eeg", trained.modalities["eeg"]).statistics
    np.testing.assert_allclose(got.shift, wanted.shift, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.scale, wanted.scale, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(worn.excluded, material.excluded)
    assert worn.notes == material.notes
    assert np.ptp(got.shift, axis=0).max() > 0.01  # people differ


def test_the_bundle_answers_as_the_run_with_no_torch_in_its_statistics(online, monkeypatch):
    asked = [open_trained(where, ["data.seed=9"]) for where in (online.folder, online.folder / "model.fusion")]
    run = ask(asked[0])

    def refuse(*args, **kwargs):
        raise AssertionError("torch made features")

    monkeypatch.setattr("fusionkit.data.normalisation.run_front_end", refuse)
    monkeypatch.setattr("fusionkit.data.features.run_front_end", refuse)
    bundle = ask(asked[1])
    np.testing.assert_allclose(bundle.predictions["target"], run.predictions["target"], atol=1e-5)
    np.testing.assert_array_equal(bundle.scored, run.scored)
    assert 0 < bundle.scored.sum() < len(bundle.scored)


def test_notes_say_what_was_calibrated(online):
    notes = online.facts["notes"]
    assert any("eeg: aligned by the first 4 s of a recording of each subject" in note for note in notes)
    assert any("and every record before, whose 6 records are not scored" in note for note in notes)
    with zipfile.ZipFile(online.folder / "model.fusion") as archive:
        assert json.loads(archive.read("manifest.json"))["sensors"]["eeg"]["normalise"]["update"] is True


def test_smoothing_across_records_trains_and_answers_without_a_bundle(tiny, tmp_path, capsys):
    over = "modalities.eeg.smooth={kind: lds, over: recording, causal: false}"
    recipe = tiny("data.seconds=4", "modalities=eeg", over)
    file = tmp_path / "smooth.yaml"
    file.write_text(dump_recipe(recipe))
    assert main(["train", str(file), "--fold", "0", "--no-report"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "note: no bundle: modalities.eeg.smooth.causal: must be true for a bundle or a stream" in said
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    assert not (folder / "model.fusion").exists()
    assert main(["export", str(folder), "-o", str(tmp_path / "m.fusion")]) == 2
    assert "modalities.eeg.smooth.causal" in capsys.readouterr().err
    answered = ask(open_trained(folder, ["data.seed=9"]))
    assert answered.predictions["target"].shape == (48, 2)
    assert any("each recording is smoothed by its future too" in note for note in answered.notes)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "modalities.eeg.smooth={kind: lds}",
            r"modalities\.eeg\.smooth: over must be trial or recording, for every record has",
        ),
        (
            "modalities.image={kind: image, smooth: {kind: lds}, encoder: {kind: image_cnn}}",
            "only features can be smoothed",
        ),
    ],
)
def test_smoothing_that_nobody_would_see_is_refused(override, message, tiny):
    with pytest.raises(ValueError, match=message):
        train(tiny("modalities=" + override.split("=")[0].split(".")[1], override), fold=0)


def test_smoothing_before_training_forbids_augmented_windows(tiny):
    recipe = tiny("modalities=eeg", "data.seconds=4", "modalities.eeg.smooth={kind: lds, over: trial}",
                  "augment={eeg: [{kind: eeg_sign_flip}]}")  # fmt: skip
    with pytest.raises(ValueError, match="done before training, but an augmentation or encoder of eeg takes windows"):
        train(recipe, fold=0)


def test_windows_of_filtered_recordings_are_not_read_at_random(tiny):
    """Each would cost a whole recording; held in memory they are filtered once, in order."""
    filtered = [
        "modalities=eeg",
        "modalities.eeg.features={kind: bandpass}",
        "augment={eeg: [{kind: eeg_channel_dropout}]}",
    ]
    with pytest.raises(
        ValueError, match=r"modalities\.eeg: windows of recordings that are filtered as a whole must fit into"
    ):
        train(tiny(*filtered, "data.resident=false"), fold=0)


def test_the_guard_hears_of_smoothing(tiny, tmp_path):
    """Trials of one recording may part, unless the recording is smoothed as one sequence."""
    generator = np.random.default_rng(0)
    rows = [
        {"id": f"{person}{trial}{part}", "subject": person, "trial": str(trial), "recording": person, "state": "xy"[trial % 2]}
        for person in "ab" for trial in range(6) for part in range(2)
    ]  # fmt: skip
    whole = [Recording(1e-5 * generator.normal(size=(24 * 128, 4)).astype(np.float32), 128.0, tuple("abcd"), "V")] * 2
    made = NewSensor.of(whole)
    sensor = replace(
        made,
        recording=np.repeat([0, 1], 12),
        start=np.tile(np.arange(12) * 256, 2),
        count=np.full(24, 256),
        stored=replace(made.stored, longest=256),
        recording_digest=["a", "b"],
    )
    save_study(tmp_path / "s.h5", Records.of(rows, ["state"]), {"eeg": sensor}, settings="")
    recipe = f"""
name: guarded
data: {{kind: study, path: {tmp_path / "s.h5"}, split: {{kind: k_fold, by: trial, folds: 2, validation: 0.34}}}}
modalities: {{eeg: {{kind: eeg, smooth: {{kind: lds, over: trial}}}}}}
fusion: {{kind: vote, dim: 8}}
tasks: {{state: {{kind: classification}}}}
train: {{epochs: 1, device: cpu}}
run: {{dir: {tmp_path / "runs"}}}
"""
    train(parse_recipe(recipe, "guarded.yaml"), fold=0)
    smoothed = "modalities.eeg.smooth.over=recording"
    with pytest.raises(
        ValueError, match=r"smoothed as one sequence may not straddle a split, but records '\w+' \(train\)"
    ):
        train(parse_recipe(recipe, "guarded.yaml", [smoothed]), fold=0)
    run = train(parse_recipe(recipe, "guarded.yaml", [smoothed, "data.allow_leakage=a demonstration"]), fold=0)
    assert any("are smoothed together (eeg)" in note for note in run.facts["notes"])
