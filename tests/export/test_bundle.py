"""A bundle answers as torch does, or is not written."""

import io
import itertools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fusionkit.data.loading import Loader, LoaderInput
from fusionkit.evaluation.other_data import ask, open_trained, score_answers
from fusionkit.export.bundle import Draft, add_reference, sensor_inputs
from fusionkit.export.features import compare_features
from fusionkit.export.graph import Deployed, ExportError, flatten
from fusionkit.export.latency import measure_latency
from fusionkit.export.parity import compare
from fusionkit.runtime import Session
from fusionkit.training.material import Material, open_study
from fusionkit.training.trained import load_trained


@pytest.fixture(scope="module")
def parts(tiny_run):
    """The trained model, some windows with statistics, and the session of its bundle."""
    trained = load_trained(tiny_run, 0)
    study = open_study(trained.recipe)
    material = Material(trained.recipe, study, torch.device("cpu"))
    inputs = {name: LoaderInput(modality, material.statistics(name)) for name, modality in trained.modalities.items()}
    loader = Loader(study, inputs, {}, torch.device("cpu"), False)
    return trained, loader.batch(torch.arange(7)), Session.load(tiny_run.folder / "model.fusion")


def test_every_subset_of_sensors_answers_as_torch_does(parts):
    trained, batch, session = parts
    sensors = sensor_inputs(trained, batch)
    parity = compare(Deployed(trained.model, sensors, trained.tasks).eval(), session, batch.inputs, 1e-5)
    assert parity.cases == 2 * 3  # batch 1 and 7, three subsets, one task
    assert parity.largest < 1e-5


def test_parity_notices_another_model(parts):
    trained, batch, session = parts
    sensors = sensor_inputs(trained, batch)
    deployed = Deployed(trained.model, sensors, trained.tasks).eval()
    bias = trained.model.heads["fused"].heads[0].linear.bias
    with torch.no_grad():
        bias[0] += 0.1
    try:
        with pytest.raises(ExportError, match=r"the bundle must answer as torch does to 0\.0001, but differs by"):
            compare(deployed, session, batch.inputs, 1e-4)
    finally:
        with torch.no_grad():
            bias[0] -= 0.1


def test_absent_values_change_no_bit_of_the_bundle(parts):
    _, batch, session = parts
    windows = {name: window.values.numpy() for name, window in batch.inputs.items()}
    eeg = batch.inputs["eeg"]
    statistics = {"eeg": (eeg.shift.numpy(), eeg.scale.numpy())}
    absent = {"eeg": np.zeros(7, bool)}
    answers = []
    for values in (np.zeros_like(windows["eeg"]), np.full_like(windows["eeg"], np.nan)):
        found = session.predict({**windows, "eeg": values}, present=absent, statistics=statistics)
        answers.append(found["target"])
    without = session.predict({"text": windows["text"]})["target"]
    assert np.isfinite(answers[0]).all()
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], without)
    np.testing.assert_allclose(answers[0].sum(-1), 1, atol=1e-6)


def test_longer_windows_are_answered_too(parts):
    trained, batch, session = parts
    eeg = batch.inputs["eeg"]
    longer = torch.cat([eeg.values, eeg.values], -1)
    window = eeg._replace(values=longer, length=2 * eeg.length)
    inputs = {**batch.inputs, "eeg": window}
    sensors = sensor_inputs(trained, batch)
    with torch.no_grad():
        (wanted,) = Deployed(trained.model, sensors, trained.tasks)(*flatten(inputs, sensors))
    got = session.predict(
        {name: w.values.numpy() for name, w in inputs.items()},
        lengths={name: w.length.numpy() for name, w in inputs.items()},
        statistics={"eeg": (eeg.shift.numpy(), eeg.scale.numpy())},
        present={name: w.present.numpy() for name, w in inputs.items()},
    )
    np.testing.assert_allclose(got["target"], wanted.numpy(), atol=1e-5)


def test_sentences_become_tokens_in_the_runtime(parts):
    trained, _, session = parts
    sentence = "a calm evening by the lake"
    stored = trained.modalities["text"].from_cell(sentence).values
    ids = trained.modalities["text"].window(stored)
    np.testing.assert_allclose(
        session.predict({"text": sentence})["target"], session.predict({"text": ids})["target"], atol=1e-7
    )


def test_the_bundle_carries_no_signal_of_anybody(tiny_run, parts):
    _, batch, _ = parts
    with zipfile.ZipFile(tiny_run.folder / "model.fusion") as archive:
        assert {"model.onnx", "manifest.json", "recipe.yaml", "reference.npz"} < set(archive.namelist())
        with archive.open("reference.npz") as file:
            reference = np.load(file, allow_pickle=False)
            assert not np.isin(reference["input_eeg"][0, 0, :8], batch.inputs["eeg"].values.numpy()).any()
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["sensors"]["eeg"]["sample_rate"] == 128
    assert manifest["sensors"]["eeg"]["unit"] == "V"
    assert manifest["tasks"]["target"]["classes"]
    assert manifest["window"] == {"seconds": 1.0, "step": 1.0}
    assert manifest["sensors"]["eeg"]["window"] == {"samples": 128, "seconds": 1.0}
    assert manifest["sensors"]["eeg"]["stream"]["sample_rate"] == 128
    assert manifest["tasks"]["target"].get("temperature") is None  # no groups were put aside
    assert manifest["macs"] > 0 and manifest["latency_ms"]["p50"] <= manifest["latency_ms"]["p99"]


def test_latency_is_of_windows_that_differ_from_call_to_call(parts, monkeypatch):
    _, batch, session = parts
    asked = []
    monkeypatch.setattr("fusionkit.export.latency.answer", lambda session, windows: asked.append(windows))
    found = measure_latency(session, batch.inputs)
    assert found.p50 <= found.p99
    assert all(len(window.present) == 1 and window.present.all() for one in asked for window in one.values())
    for one, other in itertools.pairwise(asked):
        assert not torch.equal(one["eeg"].values, other["eeg"].values)


def test_references_are_numbers_though_a_channel_was_not_measured(tiny_run, parts):
    _, batch, session = parts
    window = batch.inputs["eeg"]
    values = window.values.clone()
    values[0, 1] = torch.nan
    with zipfile.ZipFile(tiny_run.folder / "model.fusion") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    draft = Draft(Path("m.fusion"), manifest, {n: c for n, c in session.files.items() if n != "reference.npz"})
    add_reference(draft, {**batch.inputs, "eeg": window._replace(values=values)})
    reference = np.load(io.BytesIO(draft.files["reference.npz"]), allow_pickle=False)
    made = reference["input_eeg"]
    assert np.isfinite(made).all()
    assert made.std() == pytest.approx(np.nanstd(values[:2].numpy()), rel=0.1)
    assert draft.session().check() < 1e-6


def test_features_of_the_bundle_are_those_of_torch_or_it_is_refused(parts):
    trained, batch, session = parts
    graphs = {"eeg": session.files["features/eeg.onnx"]}
    alone, several = compare_features(trained, graphs, batch.inputs, 1e-4)
    assert (alone.batch, several.batch) == (1, 7)
    assert max(alone.largest, several.largest) < 1e-4
    louder = batch.inputs["eeg"]._replace(values=3 * batch.inputs["eeg"].values)
    doubled = onnx.load_from_string(graphs["eeg"])
    for node in doubled.graph.node:
        node.output[:] = ["made" if name == "features" else name for name in node.output]
        node.input[:] = ["made" if name == "features" else name for name in node.input]
    doubled.graph.node.append(onnx.helper.make_node("Add", ["made", "made"], ["features"]))
    with pytest.raises(ExportError, match=r"features of eeg must be as torch's to 0\.0001, but differ by"):
        compare_features(trained, {"eeg": doubled.SerializeToString()}, {"eeg": louder}, 1e-4)


def test_the_runtime_imports_no_torch(tiny_run):
    code = (
        "import sys; from fusionkit.runtime import Session;"
        f"Session.load({str(tiny_run.folder / 'model.fusion')!r}).predict({{'text': 'a calm evening'}});"
        "assert not any(name.split('.')[0] == 'torch' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_run_and_its_bundle_score_other_data_alike(tiny_run):
    scores = []
    for where in (tiny_run.folder, tiny_run.folder / "model.fusion"):
        asked = open_trained(where, ["data.seed=9", f"run.dir={tiny_run.folder.parent}"])
        scores.append(score_answers(asked, ask(asked))["target"]["nll"].value)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_other_data_can_be_asked_without_a_sensor(tiny_run):
    asked = open_trained(tiny_run.folder / "model.fusion", ["data.seed=9", f"run.dir={tiny_run.folder.parent}"])
    answered = ask(asked, absent=["eeg"])
    assert answered.predictions["target"].shape == (48, 2)
