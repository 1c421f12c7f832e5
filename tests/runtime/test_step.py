"""A stream step by step without torch: what may be given, what a state is, and what is refused."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fusionkit.core.levels import Batch
from fusionkit.export import step
from fusionkit.export.bundle import Draft, _manifest, sensor_inputs
from fusionkit.runtime import Bundle, BundleError, read_bundle
from fusionkit.runtime.explain import explain
from fusionkit.runtime.manifest import read_manifest
from fusionkit.runtime.step import StepSession
from tests.export.test_step import OVERLAP, build, make_windows

BATCH = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """EEG with overlapping features and a wearer's statistics, a photo and words; without the whole-window graph."""
    words = "modalities.words={kind: text, vocab_size: 270, width: 4, encoder: {kind: mlp, hidden: 8}}"
    trained = build(OVERLAP, words, "modalities=[eeg, photo, words]", "modalities.eeg.normalise.kind=subject")
    windows = make_windows(trained)
    path = tmp_path_factory.mktemp("steps") / "steps.fusion"
    manifest = _manifest(trained, sensor_inputs(trained, Batch(dict(windows))), windows, 20)
    files = {f"files/words/{name}": content for name, content in trained.modalities["words"].files().items()}
    draft = Draft(path, manifest, files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "_measure", lambda *_: (0.0, 0.0))
        step.add_step_graph(draft, trained, windows)
    manifest["tasks"]["state"]["temperature"] = 2.0
    draft.write()
    return read_bundle(path)


@pytest.fixture
def session(bundle):
    return StepSession(bundle)


STATISTICS = {"eeg": (np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32))}


def make_steps(count, batch=BATCH, seed=0):
    draw = np.random.default_rng(seed)
    return [{"eeg": draw.normal(0, 2e-5, (batch, 3, 16)).astype(np.float32)} for _ in range(count)]


def make_photo(batch=BATCH):
    return np.random.default_rng(9).random((batch, 3, 8, 8)).astype(np.float32)


def follow(session, steps, state, **options):
    answers = []
    for given in steps:
        found, state = session.push(given, state, statistics=STATISTICS, **options)
        answers.append(found["state"])
    return np.stack(answers), state


def test_streams_of_a_batch_do_not_know_each_other(session):
    together, _ = follow(session, make_steps(6), session.start(BATCH))
    for row in range(BATCH):
        alone = [{"eeg": one["eeg"][row]} for one in make_steps(6)]
        answers, _ = follow(session, alone, session.start())
        np.testing.assert_allclose(answers[:, 0], together[:, row], atol=1e-6)
    assert together.std(0).min() > 1e-4
    np.testing.assert_allclose(together.sum(-1), 1, atol=1e-6)


def test_a_state_is_not_written_to_and_can_be_gone_back_to(session):
    _, state = follow(session, make_steps(3), session.start(BATCH))
    kept = {name: part.copy() for name, part in state.items()}
    first, _ = follow(session, make_steps(4, seed=1), state)
    assert all(np.array_equal(state[name], part) for name, part in kept.items())
    again, _ = follow(session, make_steps(4, seed=1), kept)
    np.testing.assert_array_equal(first, again)


def test_what_has_no_time_is_given_once_and_held_until_it_is_taken_away(session):
    photo, steps = make_photo(), make_steps(4)
    once, state = follow(session, [{**steps[0], "photo": photo}, *steps[1:]], session.start(BATCH))
    always, _ = follow(session, [{**one, "photo": photo} for one in steps], session.start(BATCH))
    np.testing.assert_allclose(once, always, atol=1e-6)
    never, _ = follow(session, steps, session.start(BATCH))
    assert np.abs(once - never).max() > 1e-4
    _, gone = follow(session, [{**make_steps(1)[0], "photo": None}], state)
    assert not gone["photo_present"].any() and state["photo_present"].all()
    late, _ = follow(session, [*steps[:3], {**steps[3], "photo": photo}], session.start(BATCH))
    np.testing.assert_array_equal(late[:3], never[:3])


def test_a_stream_of_a_batch_may_bring_something_that_the_other_does_not(session):
    photo, steps = make_photo(), make_steps(3)
    own = {"photo": [True, False], "eeg": [False, True]}
    first, state = session.push({**steps[0], "photo": photo}, session.start(BATCH), present=own, statistics=STATISTICS)
    alone, _ = session.push({"photo": photo[0]}, session.start(), statistics=STATISTICS)
    other, _ = session.push({"eeg": steps[0]["eeg"][1]}, session.start(), statistics=STATISTICS)
    np.testing.assert_allclose(first["state"], np.concatenate([alone["state"], other["state"]]), atol=1e-6)
    assert state["photo_present"].tolist() == [True, False] and state["state.eeg.run"].tolist() == [0, 8]


def test_values_of_an_absent_sensor_reach_nothing(session):
    steps = make_steps(2)
    states = []
    for filling in (0.0, 1.0, np.nan):
        wrong = {"eeg": np.full_like(steps[1]["eeg"], filling)}
        _, state = follow(session, steps[:1], session.start(BATCH))
        answers, state = session.push(wrong, state, present={"eeg": False}, statistics=STATISTICS)
        states.append({**answers, **state})
    for other in states[1:]:
        assert all(np.array_equal(part, other[name]) for name, part in states[0].items())


def test_sentences_and_ids_say_the_same(session):
    (said, _), state = follow(session, [{"words": "a calm evening"}, {"words": "rain"}], session.start())
    ids, real = session._tokens("words", session._steps["words"], ["a calm evening"])
    answers, _ = session.push({"words": ids}, session.start(), lengths={"words": real})
    np.testing.assert_array_equal(answers["state"], said)
    blank, _ = session.push({"words": " "}, state)
    assert not session.push({"words": " "}, session.start())[1]["words_present"].any()
    assert np.isfinite(blank["state"]).all()


def test_without_any_sensor_the_answer_is_that_of_an_empty_stream(session):
    nothing = session.push({}, session.start(BATCH))[0]["state"]
    assert np.isfinite(nothing).all()
    answers, _ = follow(session, [*make_steps(2), *[{}] * 4], session.start(BATCH))
    np.testing.assert_array_equal(answers[2], answers[1])  # the last real step is still remembered
    np.testing.assert_array_equal(answers[4], answers[1])
    np.testing.assert_array_equal(answers[5], nothing)  # four empty steps later nothing is


def test_calibrated_answers_are_at_the_temperature(session):
    plain, _ = follow(session, make_steps(1), session.start(BATCH))
    soft, _ = follow(session, make_steps(1), session.start(BATCH), calibrated=True)
    root = np.sqrt(plain)
    np.testing.assert_allclose(soft, root / root.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"ecg": np.zeros((1, 8), np.float32)}, {}, r"sensors must be among \['eeg', 'photo', 'words'\], but got \['ecg'\]"),
        ({"eeg": np.zeros((BATCH, 3, 64), np.float32)}, {}, r"eeg: a window must have shape \[3, 16\] .*, but got \[3, 64\]"),
        ({"eeg": np.zeros((3, 16), np.float32)}, {}, "eeg: there must be a step for each of 2 streams, but got 1"),
        ({"eeg": np.zeros((BATCH, 3, 16), np.int16)}, {}, "eeg: a window must hold floating-point numbers in V"),
        ({"eeg": np.zeros((BATCH, 3, 16), np.float32)}, {"statistics": None}, r"eeg: shift and scale \[3, 2\] of the wearer"),
        ({}, {"statistics": {"eeg": (np.zeros((2, 2)), np.ones((2, 2)))}}, r"eeg: shift and scale must have shape \[2, 3, 2\]"),
        ({"eeg": np.zeros((BATCH, 3, 16), np.float32)}, {"present": {"eeg": [True] * 3}}, "eeg: present must be one for each"),
        ({"photo": np.full((BATCH, 3, 8, 8), np.nan, np.float32)}, {}, "photo: a window must hold finite numbers"),
    ],
)  # fmt: skip
def test_what_is_no_step_is_refused(session, given, options, message):
    with pytest.raises(BundleError, match=message):
        session.push(given, session.start(BATCH), **{"statistics": STATISTICS, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("state.real"), "a state must be what start or push gave, but has other names"),
        (
            lambda state: state.update({"state.readout": np.zeros((3, 8), np.float32)}),
            r"state.readout of a state must be",
        ),
        (lambda state: state.update({"state.real": np.zeros((3, 2, 4))}), r"must be bool \[3, 2, 4\], but is float64"),
        (lambda state: state.update({"photo": np.zeros((1, 8), np.float32)}), "photo of a state must be of 2 streams"),
    ],
)
def test_what_is_no_state_is_refused(session, change, message):
    state = session.start(BATCH)
    change(state)
    with pytest.raises(BundleError, match=message):
        session.push({}, state)


def test_a_batch_has_one_stream_or_more(session):
    with pytest.raises(BundleError, match="a batch must have one stream or more, but got 0"):
        session.start(0)


def test_a_bundle_without_a_step_graph_is_refused_by_what_it_lacks(bundle):
    plain = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, step_graph=None))
    with pytest.raises(BundleError, match="must be exported with --streaming to go step by step, but was not"):
        StepSession(plain)
    lacking = dataclasses.replace(bundle, files={k: v for k, v in bundle.files.items() if k != "held/photo.onnx"})
    with pytest.raises(BundleError, match=r"must have 'held/photo\.onnx', for it has a step graph"):
        StepSession(lacking)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["sensors"].pop("photo"), "step_graph.sensors must be those of the bundle"),
        (
            lambda told: told["sensors"]["eeg"].update(samples=8),
            "step_graph.sensors.eeg.shape must be that of a window",
        ),
        (lambda told: told["inputs"].remove("eeg_shift"), "step_graph.inputs must be those of its sensors"),
        (lambda told: told["state"][0].update(output="next.real"), "step_graph must have names that differ"),
        (lambda told: told["state"][0].update(shape=[2**20, 2**20]), "of at most 134217728 numbers"),
        (
            lambda told: told["state"][0].update(initial="ones"),
            r"step_graph.state\[0\].initial must be one of \['zeros'\]",
        ),
        (
            lambda told: [part.update(shape=[2]) for part in told["state"]],
            "step_graph.state must be tensors of which one has the batch",
        ),
        (lambda told: told.update(steps=0), "step_graph.steps must be a whole number from 1"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle, change, message):
    with zipfile.ZipFile(bundle.path) as archive:
        described = json.loads(archive.read("manifest.json"))
    change(described["step_graph"])
    with pytest.raises(BundleError, match=message):
        read_manifest(described)


def test_a_graph_that_takes_something_else_than_the_manifest_says_is_refused(bundle):
    graph = bundle.manifest.step_graph
    state = tuple(dataclasses.replace(part, dtype="float32") for part in graph.state)
    wrong = dataclasses.replace(bundle.manifest, step_graph=dataclasses.replace(graph, state=state))
    with pytest.raises(BundleError, match=r"step\.onnx: 'state\.eeg\.run' must be tensor\(float\)"):
        StepSession(Bundle(bundle.path, wrong, bundle.files))


def test_what_a_bundle_says_of_itself_tells_of_steps(bundle):
    said = explain(bundle.manifest, len(bundle.files), 0)
    assert "step.onnx goes on by steps of 0.25 s and remembers 4; one took 0.00 ms" in said


def test_a_step_needs_no_torch(bundle):
    code = (
        "import sys; from fusionkit.runtime.step import StepSession;"
        f"session = StepSession.load({str(bundle.path)!r}); session.push({{'words': 'rain'}}, session.start());"
        "assert not any(name.split('.')[0] in ('torch', 'scipy') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
