"""One step at a time is the whole window: torch against torch here, and the bundle against both."""

import itertools
import json
import time
import zipfile

import numpy as np
import onnx
import pytest
import torch

from fusionkit.cli.export import export
from fusionkit.cli.frame import main
from fusionkit.core.levels import Batch, Window
from fusionkit.core.recording import Stored
from fusionkit.data.synthetic import eeg as scalp
from fusionkit.export import step
from fusionkit.export.bundle import add_reference, draft_bundle, sensor_inputs
from fusionkit.export.graph import ExportError
from fusionkit.export.run import export_run
from fusionkit.export.step import StepModel, add_step_graph, made_windows, read_at, step_torch
from fusionkit.export.stepwise import plan_steps, refuse_steps
from fusionkit.recipe.build import build_modalities, build_model, build_tasks
from fusionkit.recipe.load import load_recipe, parse_recipe
from fusionkit.runtime import Session
from fusionkit.runtime.step import StepSession
from fusionkit.training.run import train
from fusionkit.training.trained import Trained

RECIPE = """
name: steps
data: {kind: synthetic}
modalities:
  eeg: {kind: eeg, features: {kind: dft, window: 0.25, bands: {theta: [4, 8], alpha: [8, 14]}}}
  audio: {kind: audio, sample_rate: 1000, level: keep, frame: 0.05, hop: 0.05, mel_bands: 4, encoder: {kind: mlp}}
  photo: {kind: image, encoder: {kind: image_cnn, width: 8, blocks: 1}}
fusion: {kind: rcft, dim: 8, layers: 2, heads: 2, kv_groups: 1, steps: 4}
tasks: {state: {kind: classification, classes: [calm, tense]}, level: {kind: regression}}
"""
STORED = {
    "eeg": Stored(64.0, ("C3", "Cz", "C4"), "V", (3,), "<f4", 64),
    "audio": Stored(1000.0, (), "", (), "<f4", 1000),
    "photo": Stored(None, (), "", (3, 8, 8), "|u1", 1),
    "words": Stored(None, (), "", (), "|u1", 40),
    "ecg": Stored(32.0, ("ECG",), "", (1,), "<f4", 32),
}
OVERLAP = "modalities.eeg.features={kind: dft, window: 0.25, step: 0.125, bands: {theta: [4, 8], alpha: [8, 14]}}"
RAW_ECG = "modalities.ecg={kind: signal, sample_rate: 32, features: {kind: raw}, encoder: {kind: mlp}}"
VARIANTS = {
    "plain": [],
    "lstm": ["fusion.temporal=lstm"],
    "no positions": ["fusion.positions=none", "fusion.residual=input", "fusion.tie_layers=true"],
    "shie": ["modalities.eeg.encoder.kind=shie"],
    "dgcnn": ["modalities.eeg.encoder.kind=dgcnn"],
    "channels": ["modalities.eeg.encoder={kind: transformer, over: channels, heads: 2}"],
    "gru": ["modalities.eeg.encoder={kind: gru, layers: 2}", "modalities.audio.encoder.kind=gru"],
    "overlap": [OVERLAP, "modalities.audio.hop=0.025"],
    "gru overlap": [OVERLAP, "modalities.audio.hop=0.025", "modalities.audio.encoder.kind=gru"],
    "longer than a step": [OVERLAP, "fusion.steps=8", "modalities=[eeg, photo]"],
    "statistics of a wearer": ["modalities.eeg.normalise.kind=subject", OVERLAP],
    "raw": [RAW_ECG, "modalities.eeg.features={kind: raw}"],
    "one sensor": ["modalities=eeg"],
}
ROWS = 3


def build(*overrides):
    """An untrained model, as if it were."""
    recipe = parse_recipe(RECIPE, "steps.yaml", list(overrides))
    torch.manual_seed(1)
    modalities, tasks = build_modalities(recipe), build_tasks(recipe)
    if "words" in modalities:
        said = [np.frombuffer(text.encode(), np.uint8) for text in ("a calm evening", "rain and wind", "calm rain")]
        modalities["words"].fit(said, np.random.default_rng(0))
    if "level" in tasks:
        tasks["level"].fit(np.array([0.0, 1.0, 3.0]), "level")
    tasks["state"].learn(["calm", "tense"], "state")
    tasks["state"].fit(np.array([0.0, 1.0]), "state")
    model = build_model(recipe, modalities, STORED, tasks).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Trained(recipe, model, modalities, tasks, STORED)


def make_windows(trained):
    """Some records; EEG of tens of microvolts, statistics where they are wanted."""
    g, made = torch.Generator().manual_seed(2), {}
    for name in trained.recipe.graph.modalities:
        stored = STORED[name]
        if name == "words":
            ids = torch.randint(1, trained.model.front_end(name).vocabulary, (ROWS, 5), generator=g)
            made[name] = Window(ids, torch.tensor([5, 3, 4]), torch.ones(ROWS, dtype=torch.bool))
            continue
        shape = (
            (3, 8, 8) if name == "photo" else (stored.longest,) if name == "audio" else (*stored.item, stored.longest)
        )
        values = torch.randn(ROWS, *shape, generator=g) * (2e-5 if name == "eeg" else 1.0)
        values = values.sigmoid() if name == "photo" else values
        window = Window(values, torch.full((ROWS,), shape[-1]), torch.ones(ROWS, dtype=torch.bool))
        if trained.recipe.modalities[name].normalise.kind == "subject":
            features = trained.model.front_end(name).shape
            size = (ROWS, features.channel, features.subchannel)
            window = window._replace(shift=torch.randn(size, generator=g), scale=0.5 + torch.rand(size, generator=g))
        made[name] = window
    return made


def build_steps(*overrides):
    trained = build(*overrides)
    windows = make_windows(trained)
    plan = plan_steps(trained, sensor_inputs(trained, Batch(dict(windows))))
    return StepModel(trained.model, plan, trained.tasks).eval(), made_windows(plan, windows), trained


def part_of(window, timed, steps, here):
    """A window whose first steps are real; behind them lies what no answer may see."""
    window = window._replace(present=torch.full_like(window.present, here))
    if timed is None:
        return window
    values, length = window.values.clone(), steps * timed.samples
    values[..., length:] = torch.nan
    return window._replace(values=values, length=torch.full_like(window.length, length))


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_answers_as_the_window_so_far_for_every_subset_of_sensors(variant):
    stepped, windows, trained = build_steps(*VARIANTS[variant])
    plan, answers = stepped.plan, []
    for size in range(1, len(windows) + 1):
        for subset in itertools.combinations(windows, size):
            there, state = dict.fromkeys(subset, True), stepped.empty_state(ROWS)
            for number in range(plan.fusion.steps):
                got, state = step_torch(stepped, windows, number, ROWS, there, state)
                given = {n: part_of(w, plan.timed.get(n), number + 1, n in subset) for n, w in windows.items()}
                if set(subset) & set(plan.held) and number + 1 < plan.fusion.steps:
                    wanted = read_at(stepped, given, number + 1)
                else:
                    decisions = trained.model(given).decisions
                    wanted = [task.prediction(decisions[name]) for name, task in trained.tasks.items()]
                for one, other in zip(got, wanted, strict=True):
                    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
                answers.append(got[0])
    assert torch.stack(answers).std(0).max() > 1e-3  # the answers say something


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", "lstm", "raw"])
def test_two_hundred_steps_equal_rcft_step_while_sensors_vanish_and_return(variant):
    """Tokens of every step by the model's own way through a window of one step, then `RCFT.step`; readout by hand."""
    stepped, windows, trained = build_steps(*VARIANTS[variant])
    plan, fusion, draw = stepped.plan, stepped.plan.fusion, torch.Generator().manual_seed(3)
    state, cache, seen = stepped.empty_state(ROWS), None, []
    last = torch.zeros(ROWS, fusion.dim)
    empty_for = torch.zeros(ROWS, dtype=torch.int64)
    gone = 0
    for number in range(200):
        there = {n: bool(torch.rand((), generator=draw) < 0.5) for n in windows}
        if 100 <= number < 110:  # all of them, for longer than is remembered
            there = dict.fromkeys(windows, False)
        place = number % fusion.steps
        got, state = step_torch(stepped, windows, place, ROWS, there, state)
        one = {}
        for name, window in windows.items():
            timed = plan.timed.get(name)
            if timed is not None:
                cut = window.values[..., place * timed.samples : (place + 1) * timed.samples]
                window = window._replace(values=cut, length=torch.full_like(window.length, timed.samples))
            one[name] = window._replace(present=torch.full_like(window.present, there[name]))
        look = trained.model.look(one)
        tokens, cache = fusion.step({n: look.stream(n) for n in windows}, cache)
        last = torch.where(tokens.mask, tokens.values[:, 0], last)
        empty_for = torch.where(tokens.mask[:, 0], 0, empty_for + 1)
        readout = torch.where((empty_for < fusion.steps)[:, None], last, 0.0)
        decisions = trained.model.heads[plan.node](readout)
        for (name, task), value in zip(trained.tasks.items(), got, strict=True):
            torch.testing.assert_close(value, task.prediction(decisions[name]), atol=1e-5, rtol=1e-5)
        gone += int((empty_for >= fusion.steps).all())
        seen.append(got[0])
    assert gone > 4 and torch.stack(seen).std(0).min() > 1e-3


@torch.no_grad()
def test_no_feature_spans_the_gap_of_a_sensor_that_was_away():
    """With overlap, the first step after a gap has the features of a stream that begins there."""
    stepped, windows, _ = build_steps(OVERLAP, "modalities=eeg")
    windows = {"eeg": windows["eeg"]}
    gap, fresh = stepped.empty_state(ROWS), stepped.empty_state(ROWS)
    _, gap = step_torch(stepped, windows, 0, ROWS, {"eeg": True}, gap)
    assert gap["eeg.run"].tolist() == [8] * ROWS and gap["eeg.tail"].abs().sum() > 0
    _, gap = step_torch(stepped, windows, 1, ROWS, {"eeg": False}, gap)
    assert gap["eeg.run"].tolist() == [0] * ROWS
    _, gap = step_torch(stepped, windows, 2, ROWS, {"eeg": True}, gap)
    _, fresh = step_torch(stepped, windows, 2, ROWS, {"eeg": True}, fresh)
    torch.testing.assert_close(
        gap["second"][0, :, :, :, -1], fresh["second"][0, :, :, :, -1]
    )  # layer 1 sees the step alone


@torch.no_grad()
def test_the_numbers_of_a_state_do_not_grow():
    stepped, windows, _ = build_steps(OVERLAP)
    state = stepped.empty_state(2)
    shapes = {name: part.shape for name, part in state.items()}
    for number in range(9):
        _, state = step_torch(stepped, windows, number % 4, 2, dict.fromkeys(windows, True), state)
        assert {name: part.shape for name, part in state.items()} == shapes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fusion.kind=bottleneck"], "fusion.kind: must be rcft to go step by step, but is bottleneck"),
        (
            ["fusion={dim: 8, graph: {a: {kind: rcft, inputs: [eeg, audio], heads: 2}, b: {kind: vote, inputs: [a, photo]}}}"],
            "fusion.graph: must be one rcft node to go step by step, but has a (rcft), b (vote)",
        ),
        (["fusion.positions=sinusoidal"], "fusion.positions: must be rotary or none"),
        (["modalities.eeg.preprocess={method: mne, low: 1}"], "modalities.eeg: must be causal to go step by step, but"),
        (["modalities.audio.level=equal"], "modalities.audio: each step's features must be made of its own samples, but level: equal"),
        (["modalities.audio.encoder={kind: cnn}"], "modalities.audio.encoder.kind: a token must be made of its own step"),
        (["modalities.eeg.encoder={kind: transformer, heads: 2}"], "by mlp, shie, dgcnn, gru or over: channels, but transformer sees more"),
        (["modalities.eeg.encoder={kind: transformer, heads: 2, causal: true}"], "modalities.eeg.encoder.kind"),
        (["modalities.eeg.smooth={kind: lds}"], "modalities.eeg.smooth.kind: must be none, for smoothing begins anew"),
        (["fusion.steps=3"], "fusion.steps: a step must have whole samples of every sensor, but 0.333333 s are 21.3333 of eeg"),
        (["fusion.steps=8"], "fusion.steps: a step must have whole features, but its 8 samples of eeg have not: one comes every 16"),
        (["modalities.audio.frame=0.06"], "modalities.audio: a feature must end in the step that its centre lies in"),
        (["modalities=photo"], "modalities: one must have time to go step by step, but none has"),
    ],
)  # fmt: skip
def test_what_does_not_go_step_by_step_is_refused_by_its_key(overrides, message):
    with pytest.raises(ExportError) as caught:
        refuse_steps(build(*overrides))
    assert str(caught.value).startswith("no step graph can be made of this run: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_key_that_forbids_it_is_named():
    with pytest.raises(ExportError, match=r"modalities\.eeg\.smooth\.kind: .*; modalities\.audio: .*level"):
        refuse_steps(build("modalities.eeg.smooth={kind: lds}", "modalities.audio.level=equal"))


@pytest.fixture(scope="module")
def drafted(tmp_path_factory):
    """Everything at once: overlap, a GRU, statistics of a wearer, a photo; the whole-window graph and that of a step."""
    options = [*VARIANTS["gru overlap"], *VARIANTS["statistics of a wearer"][:1]]
    trained = build(*options)
    windows = make_windows(trained)
    path = tmp_path_factory.mktemp("steps") / "steps.fusion"
    draft, _ = draft_bundle(trained, Batch(dict(windows)), path, opset=20, tolerance=1e-4)
    report = add_step_graph(draft, trained, windows)
    add_reference(draft, windows)
    draft.write()
    return trained, windows, report, path


@pytest.mark.slow
def test_the_bundle_answers_as_torch_does(drafted):
    _, _, report, _ = drafted
    assert report.largest < 1e-5
    subsets, steps, tasks = 7, 4, 2
    assert (
        report.cases == 2 * (subsets * steps + 3 * steps) * tasks
    )  # batch 1 and N; each window, then three of a stream
    assert report.samples == {"eeg": 16, "audio": 250} and report.seconds == 0.25
    assert report.step_ms > 0 and report.window_ms > 0
    assert report.say().startswith("step graph: 0.25 s a step (16 samples of eeg, 250 samples of audio), 4 remembered")


@pytest.mark.slow
def test_two_hundred_steps_of_the_bundle_equal_torch(drafted):
    trained, windows, _, path = drafted
    plan = plan_steps(trained, sensor_inputs(trained, Batch(dict(windows))))
    stepped, made = StepModel(trained.model, plan, trained.tasks).eval(), made_windows(plan, windows)
    session, draw = StepSession.load(path), np.random.default_rng(5)
    state, own = session.start(ROWS), stepped.empty_state(ROWS)
    for number in range(200):
        there = {name: bool(draw.random() < 0.5) for name in made}
        got, state = step.push(session, plan, made, number % 4, ROWS, there, state)
        wanted, own = step_torch(stepped, made, number % 4, ROWS, there, own)
        for (name, value), other in zip(got.items(), wanted, strict=True):
            np.testing.assert_allclose(value, other.numpy(), atol=1e-5 if name == "state" else 5e-5, err_msg=name)
    assert state["state.number"] == 200


@pytest.mark.slow
def test_the_last_step_of_a_window_answers_as_the_bundles_whole_window_graph(drafted):
    trained, windows, _, path = drafted
    plan = plan_steps(trained, sensor_inputs(trained, Batch(dict(windows))))
    made, session = made_windows(plan, windows), StepSession.load(path)
    state = session.start(ROWS)
    for number in range(4):
        got, state = step.push(session, plan, made, number, ROWS, dict.fromkeys(made, True), state)
    wanted = Session.load(path).predict(
        {name: window.values.numpy() for name, window in made.items()},
        statistics={"eeg": (made["eeg"].shift.numpy(), made["eeg"].scale.numpy())},
    )
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5)


@pytest.mark.slow
def test_the_manifest_says_what_a_step_takes_and_gives(drafted):
    path = drafted[-1]
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("manifest.json"))["step_graph"]
        graph = onnx.load_from_string(archive.read("step.onnx")).graph
    types = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL}
    inputs = {value.name: value.type.tensor_type for value in graph.input}
    assert set(inputs) == {*told["inputs"], *(part["input"] for part in told["state"])}
    assert {value.name for value in graph.output} == {"state", "level", *(part["output"] for part in told["state"])}
    for part in told["state"]:
        taken = inputs[part["input"]]
        assert taken.elem_type == types[part["dtype"]]
        sizes = [None if axis.dim_param else axis.dim_value for axis in taken.shape.dim]
        assert sizes == part["shape"] and part["initial"] == "zeros"
    assert told["sensors"] == {
        "eeg": {"samples": 16, "shape": [3, 16]},
        "audio": {"samples": 250, "shape": [250]},
        "photo": {"samples": None, "shape": [8]},
    }


@pytest.mark.slow
def test_a_step_costs_the_same_however_many_came_before(drafted):
    """Arrays of a state keep their sizes, and the thousandth step takes no longer than the tenth."""
    session = StepSession.load(drafted[-1])
    steps = {n: np.ones(s.shape, np.float32) * 1e-5 for n, s in session.graph.sensors.items() if s.samples}
    identity = {"eeg": (np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))}
    state, times = session.start(), []
    size = sum(part.nbytes for part in state.values())
    for _ in range(1000):
        began = time.perf_counter()
        _, state = session.push(steps, state, statistics=identity)
        times.append(time.perf_counter() - began)
    assert sum(part.nbytes for part in state.values()) == size
    assert np.quantile(times[-200:], 0.2) < 1.5 * np.quantile(times[10:210], 0.2)


@pytest.mark.slow
def test_a_bundle_whose_steps_answer_otherwise_is_not_written(tiny, tmp_path, monkeypatch):
    recipe = tiny("modalities=eeg", "modalities.eeg.features={kind: dft, window: 0.5}", "train.epochs=1")
    run, path = train(recipe, fold=0), tmp_path / "wrong.fusion"
    real = step.read_at
    monkeypatch.setattr(step, "read_at", lambda *given: tuple(value + 0.01 for value in real(*given)))
    with pytest.raises(
        ExportError, match=r"target: a step must answer as torch does to 0\.0001, but differs by 0\.01 \(step 1"
    ):
        export_run(run, path, extend=lambda *parts: void(add_step_graph(*parts)))
    assert not path.exists()


def void(_):
    return None


def test_the_command_refuses_a_run_that_does_not_go_step_by_step(tiny_run, tmp_path, capsys):
    path = tmp_path / "model.fusion"
    assert main(["export", str(tiny_run.folder), "-o", str(path), "--streaming"]) == 2
    told = capsys.readouterr().err
    assert "no step graph can be made of this run: fusion.steps: a step must have whole features" in " ".join(
        told.split()
    )
    assert list(tmp_path.iterdir()) == []


def test_the_example_of_the_help_goes_step_by_step():
    line = next(line for line in (export.__doc__ or "").splitlines() if "fusionkit train quickstart" in line)
    recipe = load_recipe("quickstart", line.split()[3:])
    stored = {"eeg": Stored(128.0, scalp.CHANNELS, "V", (19,), "<f4", round(recipe.data.options["seconds"] * 128))}
    tasks = build_tasks(recipe)
    tasks["target"].learn(["a", "b"], "target")
    tasks["target"].fit(np.array([0.0, 1.0]), "target")
    modalities = build_modalities(recipe)
    trained = Trained(recipe, build_model(recipe, modalities, stored, tasks), modalities, tasks, stored)
    window = Window(torch.zeros(2, 19, 512), torch.full((2,), 512), torch.ones(2, dtype=torch.bool))
    plan = plan_steps(trained, sensor_inputs(trained, Batch({"eeg": window})))
    assert (plan.seconds, plan.fusion.steps, plan.timed["eeg"].samples) == (0.5, 8, 64)


@pytest.mark.slow
def test_the_command_writes_both_graphs_and_says_what_a_step_costs(tiny, tmp_path, capsys):
    recipe = tiny("modalities=eeg", "modalities.eeg.features={kind: dft, window: 0.5}", "train.epochs=1")
    run, path = train(recipe, fold=0), tmp_path / "model.fusion"
    capsys.readouterr()
    assert main(["export", str(run.folder), "-o", str(path), "--streaming", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["step_graph"]
    assert told["largest"] < 1e-5 and told["samples"] == {"eeg": 64} and told["steps"] == 2
    session = StepSession.load(path)
    window = np.random.default_rng(0).normal(0, 2e-5, (19, 128)).astype(np.float32)
    state = session.start()
    for half in np.split(window, 2, 1):
        answers, state = session.push({"eeg": half}, state)
    np.testing.assert_allclose(answers["target"], Session.load(path).predict({"eeg": window})["target"], atol=1e-6)
