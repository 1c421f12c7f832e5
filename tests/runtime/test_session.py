"""A session takes what the manifest says and nothing else; its answers are finite, as sure as asked, and checked."""

import io
import json
import time

import numpy as np
import pytest

from fusionkit.evaluation.conformal import ConformalSets
from fusionkit.evaluation.temperature import temper
from fusionkit.runtime import Bundle, BundleError, Session, read_bundle, read_manifest
from tests.runtime import little

ONE = np.ones((4, 1))


def opened(content=None, **changes):
    """A session of the little bundle; ``changes`` go to its manifest."""
    return Session(
        Bundle("little.fusion", read_manifest(little.manifest() | changes), little.files() | (content or {}))
    )


def with_sensor(**changed):
    described = little.manifest()
    described["sensors"]["eeg"] = little.sensor(**changed)
    return described


@pytest.fixture(scope="module")
def session():
    return opened()


@pytest.fixture
def eeg():
    return np.random.default_rng(0).normal(0, 1e-5, (3, 4, 60)).astype(np.float32)


def test_answers_are_those_of_numpy(session, eeg):
    shift, scale = np.random.default_rng(1).normal(size=(2, 3, 4, 1))
    length, present, said = np.array([60, 7, 0]), np.array([True, False, True]), np.array([True, True, False])
    ids, real = np.array([[5, 6, 7, 8], [9, 2, 3, 4], [1, 1, 1, 1]]), np.array([4, 2, 0])
    got = session.predict(
        {"eeg": eeg, "text": ids},
        lengths={"eeg": length, "text": real},
        present={"eeg": present, "text": said},
        statistics={"eeg": (shift, np.abs(scale))},
    )
    wanted = little.answer(eeg, length, present, shift, np.abs(scale), ids, real, said)
    for name, true in wanted.items():
        np.testing.assert_allclose(got[name], true, atol=1e-5)
        assert got[name].dtype == np.float32


def test_a_sensor_that_is_not_given_is_as_one_that_is_absent(session, eeg):
    alone = session.predict({"eeg": eeg}, statistics={"eeg": (0 * ONE, ONE)})
    words = {"text": np.full((3, 9), 5)}
    both = session.predict({"eeg": eeg, **words}, present={"text": False}, statistics={"eeg": (0 * ONE, ONE)})
    for task in alone:
        np.testing.assert_array_equal(alone[task], both[task])
    nobody = session.predict(words, present={"text": [False] * 3})
    np.testing.assert_allclose(nobody["target"], 0.5)


def test_batches_of_other_sizes_follow_each_other(session):
    """What stands for absent sensors is kept from call to call, and must not be that of another batch."""
    for size in (1, 3, 2, 1, 5, 3, 4, 9, 1):
        assert session.predict({"text": ["by the lake"] * size})["target"].shape == (size, 2)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"eeg": np.zeros((4, 50), np.int16)}, "eeg: a window must hold floating-point numbers in V, but got int16: scale"),
        ({"eeg": np.zeros((4, 50), bool)}, "eeg: a window must hold floating-point numbers in V, but got bool"),
        ({"eeg": np.zeros((4, 50), complex)}, "eeg: a window must hold floating-point numbers in V, but got complex128"),
        ({"eeg": [[0.0], [1.0, 2.0]]}, "eeg: a window must be an array"),
        ({"eeg": None}, "eeg: a window must hold floating-point numbers in V, but got object"),
        ({"eeg": np.zeros((5, 50))}, r"eeg: a window must have shape \[4, None\] \(channel, time\), but got \[5, 50\]"),
        ({"eeg": np.zeros((4, 0))}, r"eeg: there must be a window with samples, but got \[1, 4, 0\]"),
        ({"eeg": np.zeros((0, 4, 50))}, "eeg: there must be a window with samples"),
        ({"text": np.zeros(5)}, "text: a window must hold token ids, whole numbers, but got float64"),
        ({"text": np.array([1, little.SIZE])}, "text: a window must hold numbers from 0 to 279, but token 2 of window 1 has 280"),
        ({"text": np.array([-1])}, "text: a window must hold numbers from 0 to 279, but token 1 of window 1 has -1"),
        ({"text": "half \ud800 a pair"}, "text: a text must be valid Unicode"),
        ({"text": ["a", 5]}, "text: a window must hold token ids"),
        ({"eeg": np.zeros((2, 4, 50)), "text": "one"}, "text: a batch must have 2 windows like the others, but has 1"),
    ],
)  # fmt: skip
def test_windows_that_are_none_are_refused(session, windows, message):
    with pytest.raises(BundleError, match=message) as raised:
        session.predict(windows, statistics={"eeg": (0 * ONE, ONE)})
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lengths": {"eeg": [61]}}, "eeg: a length must be from 0 to the 60 samples of its window, but got 61"),
        ({"lengths": {"eeg": -1}}, "eeg: a length must be from 0 to the 60 samples of its window, but got -1"),
        ({"lengths": {"eeg": 1.5}}, "eeg: lengths must be whole numbers, but got float64"),
        ({"present": {"eeg": 1.0}}, "eeg: present must be true or false, but got float64"),
        ({"statistics": {"eeg": (ONE, 0 * ONE)}}, "eeg: shift must be finite and scale above 0"),
        ({"statistics": {"eeg": (ONE * np.nan, ONE)}}, "eeg: shift must be finite and scale above 0"),
        ({"statistics": {"eeg": (np.ones((2, 4, 1)), ONE)}}, r"eeg: shift and scale must have shape \[1, 4, 1\]"),
        ({"statistics": None}, r"eeg: shift and scale \[4, 1\] of the wearer must be given"),
        ({"units": {"eeg": "uV"}}, "eeg: windows must be in V, but are said to be in 'uV': multiply by 1e-06"),
        ({"units": {"eeg": "T"}}, "eeg: windows must be in V, but are said to be in 'T'$"),
        ({"units": {"text": "V"}}, "text: windows must be numbers without a unit, but are said to be in 'V'"),
        ({"rates": {"eeg": 200}}, "eeg: windows must have 100 Hz, but are said to have 200 Hz"),
        ({"rates": {"eeg": float("nan")}}, "eeg: windows must have 100 Hz"),
        ({"rates": {"text": 1}}, "text: windows must have no rate, for the sensor has no time"),
        ({"channels": {"eeg": ["Fz", "Pz", "Cz", "Oz"]}}, "eeg: channel 2 must be 'Cz', but is said to be 'Pz'"),
        ({"channels": {"eeg": ["Fz"]}}, "eeg: windows must have 4 channels, but are said to have 1"),
        ({"units": {"ecg": "V"}}, r"sensors must be among \['eeg', 'text'\], but got \['ecg'\]"),
    ],
)  # fmt: skip
def test_what_is_said_of_windows_is_checked(session, eeg, given, message):
    with pytest.raises(BundleError, match=message) as raised:
        session.predict({"eeg": eeg[0]}, **{"statistics": {"eeg": (0 * ONE, ONE)}, **given})
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_rightly_said_changes_nothing(session, eeg):
    said = {"units": {"eeg": "V"}, "rates": {"eeg": 100.05}, "channels": {"eeg": little.CHANNELS}}
    statistics = {"eeg": (0 * ONE, ONE)}
    plain = session.predict({"eeg": eeg}, statistics=statistics)
    told = session.predict({"eeg": eeg.astype(np.float64)}, statistics=statistics, **said)
    np.testing.assert_array_equal(plain["target"], told["target"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_channel_that_was_not_measured_is_left_to_the_graph_or_refused(session, eeg, bad):
    statistics = {"eeg": (0 * ONE, ONE)}
    spoiled = eeg.astype(np.float64)
    spoiled[1, 2, 5] = bad
    missing = eeg.copy()
    missing[1, 2, 5] = np.nan
    got = session.predict({"eeg": spoiled}, statistics=statistics)["target"]
    np.testing.assert_array_equal(got, session.predict({"eeg": missing}, statistics=statistics)["target"])
    strict = Session(Bundle("x", read_manifest(with_sensor(lacks=False)), little.files()))
    message = r"eeg: a window must hold finite numbers, but channel Pz, sample 6 of window 2 has (nan|-?inf); leave the"
    with pytest.raises(BundleError, match=message):
        strict.predict({"eeg": spoiled}, statistics=statistics)
    for given in ({"lengths": {"eeg": 5}}, {"present": {"eeg": [True, False, True]}}):  # nobody looks at it
        assert np.isfinite(strict.predict({"eeg": spoiled}, statistics=statistics, **given)["target"]).all()


def test_large_numbers_are_finite(session):
    huge = np.full((4, 50), 1e25, np.float32)
    strict = Session(Bundle("x", read_manifest(with_sensor(lacks=False)), little.files()))
    assert np.isfinite(strict.predict({"eeg": huge}, statistics={"eeg": (0 * ONE, ONE)})["target"]).all()


def test_numbers_beyond_the_limits_are_named():
    bounded = Session(Bundle("x", read_manifest(with_sensor(limits=[-1, 1])), little.files()))
    values = np.zeros((4, 50))
    values[3, 7] = 30
    with pytest.raises(BundleError, match="numbers from -1 to 1, but channel Oz, sample 8 of window 1 has 30"):
        bounded.predict({"eeg": values}, statistics={"eeg": (0 * ONE, ONE)})
    bounded.predict({"eeg": values}, lengths={"eeg": 7}, statistics={"eeg": (0 * ONE, ONE)})


def test_an_answer_is_never_nan(session):
    """A scale that divides to infinity, and the value task is no number any more."""
    eeg = {"eeg": np.full((4, 50), 1e32, np.float32)}
    with pytest.raises(
        BundleError, match=r"the graph must answer \[1, [12]\] finite numbers, but gave .* some that are not"
    ):
        session.predict(eeg, statistics={"eeg": (0 * ONE, np.full((4, 1), 1e-30))})


def test_text_is_cut_where_the_vocabulary_says(session):
    """The longest text of training had 9 bytes; what a sentence may have is 12 tokens."""
    sentence = "zebra quiz vex jumped"
    got = session.predict({"text": sentence})["target"]
    tokens = session._vocabularies["text"]("text", [sentence], None)[0]
    assert tokens.shape == (1, 12)
    np.testing.assert_array_equal(got, session.predict({"text": tokens})["target"])
    assert np.abs(got - session.predict({"text": tokens[:, :9]})["target"]).max() > 1e-4


def test_a_blank_text_is_absent(session):
    got = session.predict({"text": ["by the calm lake", " \n", ""]})["target"]
    np.testing.assert_allclose(got[1:], 0.5)
    np.testing.assert_array_equal(got[:1], session.predict({"text": "by the calm lake"})["target"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.update(decoder={"type": "WordPiece"}), "decoder must be what fusionkit writes"),
        (
            lambda one: one.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
            "pre_tokenizer must be",
        ),
        (lambda one: one.update(padding={"strategy": {"Fixed": 2**40}}), "padding must be what fusionkit writes"),
        (lambda one: one.update(truncation=None), "truncation must be to the right of so many tokens"),
        (lambda one: one["truncation"].update(max_length=2**40), "truncation must be"),
        (lambda one: one["model"].update(type="Unigram"), "model must be a plain BPE"),
        (
            lambda one: one["model"].update(merges=[["x", "no token"]]),
            "merges must be pairs of tokens that make a token",
        ),
        (lambda one: one["model"]["vocab"].update(a=2**40), "ids of vocab must be 0 to 279"),
        (lambda one: one["model"]["vocab"].clear(), "vocab must be an object of 1 to"),
        (lambda one: one.update(extra=1), "must have the keys"),
        (lambda one: one.clear(), "must have the keys"),
    ],
)
def test_a_vocabulary_of_somebody_else_is_refused(change, message):
    document = json.loads(json.dumps(little.TOKENIZER))
    change(document)
    session = opened({"files/text/tokenizer.json": json.dumps(document).encode()})
    with pytest.raises(BundleError, match=rf"little.fusion: files/text/tokenizer.json: {message}"):
        session.predict({"text": "a calm evening"})
    session.predict({"text": np.array([5, 6])})  # ids need no vocabulary


def test_calibrated_answers_are_those_of_the_offline_temperature(session):
    plain = session.predict({"text": ["by the calm lake", "a"]})
    got = session.predict({"text": ["by the calm lake", "a"]}, calibrated=True)
    np.testing.assert_allclose(got["target"], temper(np.log(plain["target"].astype(float)), 2.0), atol=1e-6)
    np.testing.assert_array_equal(got["effort"], plain["effort"])  # a value has no temperature


def test_nine_to_one_at_temperature_two_is_three_to_one():
    from fusionkit.runtime.calibrated import temper as ours

    np.testing.assert_allclose(ours(np.array([[0.9, 0.1], [1.0, 0.0]]), 2.0), [[0.75, 0.25], [1.0, 1e-6]], atol=1e-6)


def test_calibration_that_nobody_made_is_refused():
    described = little.manifest()
    described["tasks"]["target"] |= {"temperature": None, "conformal": {}}
    bare = Session(Bundle("x", read_manifest(described), little.files()))
    with pytest.raises(
        BundleError, match="target: calibrated answers need a temperature, but the run put no calibration"
    ):
        bare.predict({"text": "a"}, calibrated=True)
    with pytest.raises(BundleError, match="sets need calibration groups"):
        bare.sets(bare.predict({"text": "a"}))


def test_sets_are_those_of_the_offline_bar(session):
    answers = session.predict({"text": ["by the calm lake", "a", "loud loud", "quiz"]})
    calibrated = session.predict({"text": ["by the calm lake", "a", "loud loud", "quiz"]}, calibrated=True)
    for coverage, bar in ((0.8, 0.3), (0.9, 0.6), (0.99, np.inf)):
        wanted = ConformalSets("lac", bar, coverage, 10)(calibrated["target"].astype(float))
        np.testing.assert_array_equal(session.sets(answers, coverage)["target"], wanted)
        np.testing.assert_array_equal(session.sets(calibrated, coverage, calibrated=True)["target"], wanted)
    assert list(session.sets(answers)) == ["target"] and session.sets(answers, 0.99)["target"].all()
    with pytest.raises(BundleError, match=r"target: sets must be of a coverage in \[0.8, 0.9, 0.99\], but got 0.5"):
        session.sets(answers, 0.5)
    with pytest.raises(BundleError, match="no task named 'x'"):
        session.sets({"x": answers["target"]})


def references(**changed):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in (little.arrays() | changed).items() if array is not None})
    return {"reference.npz": buffer.getvalue()}


def test_a_bundle_checks_itself(session):
    assert session.check() < 1e-6
    columns = {"input_eeg": np.asfortranarray(little.arrays()["input_eeg"])}  # kept column by column
    assert opened(references(**columns)).check() < 1e-6
    twice = {"shift_eeg": np.full((2, 4, 1), 1.0), "scale_eeg": np.full((2, 4, 1), 2.0)}
    with pytest.raises(
        BundleError, match=r"must be answered as where the bundle was made to 0\.0001, but differs by 0"
    ):
        opened(references(**twice)).check()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output_target": None}, "must have inputs and an answer of every task"),
        ({"output_target": np.zeros((3, 2))}, r"target must be \[2, 2\], but is \[3, 2\]"),
        ({"output_target": np.full((2, 2), np.nan)}, "differs by nan"),
        ({"evil": np.zeros(2)}, "names must begin with one of"),
        ({"input_ecg": np.zeros(2)}, r"sensors must be among \['eeg', 'text'\]"),
        ({"input_eeg": np.array(["a"])}, "must be an array of numbers"),
        ({"input_eeg": np.array([{}], object)}, "must be an array of numbers"),
    ],
)
def test_references_that_are_none_are_refused(changed, message):
    with pytest.raises(BundleError, match=message):
        opened(references(**changed)).check()


def test_explain_says_what_an_engineer_needs(session):
    text = session.explain()
    for line in (
        "little: made by fusionkit 0.1.0",
        "in  eeg (eeg): channel, time [4, any], float32, 100 Hz, V",
        "channels Fz, Cz, Pz, Oz",
        "trained on windows of up to 50 samples, 0.5 s",
        "a stream of 200 Hz goes through resample",
        "needs shift and scale [4, 1], of the first 10 s of each subject, going on with every window",
        "in  text (text): token [any], int64",
        "out target (classification): probabilities of calm, loud",
        "calibrated at temperature 2",
        "sets of coverage 0.8 (bar 0.3), 0.9 (bar 0.6), 0.99 (bar none)",
        "out effort (regression): a value",
        "a decision every 0.25 s, about the last 0.5 s",
        "p50 0.10 ms, p99 0.20 ms",
        "made with onnx 1.20",
    ):
        assert line in text, line


def test_explain_does_nothing_to_a_terminal():
    described = little.manifest()
    described["tasks"]["target"]["classes"] = ["\x1b[2Jcalm", "loud\r"]
    assert all(one.isprintable() or one == "\n" for one in Session(
        Bundle("x", read_manifest(described), little.files())).explain())  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["tasks"]["target"]["classes"].append("third"), "'target' must be tensor"),
        (lambda one: one["tasks"].pop("effort"), "must have the outputs of the manifest, but 'effort' is not in both"),
        (lambda one: one["sensors"].update(eeg=little.sensor(shape=[5, None], channels=[])), "'eeg' must be tensor"),
        (lambda one: one["sensors"]["eeg"].update(statistics=[4, 2]), "'eeg_shift' must be tensor"),
        (lambda one: one["sensors"]["text"].update(dtype="float32", layout="time"), "'text' must be tensor"),
        (lambda one: one["inputs"].remove("text_length"), "must have the inputs of the manifest, but 'text_length'"),
    ],
)
def test_a_graph_that_is_not_what_its_manifest_says_is_refused(change, message):
    described = little.manifest()
    change(described)
    with pytest.raises(BundleError, match=rf"x: model.onnx:? {message}"):
        Session(Bundle("x", read_manifest(described), little.files()))


@pytest.mark.slow
def test_a_prediction_costs_little_more_than_the_graph(tiny_run):
    """Processor time, both in turn; by the clock the machine's other work would count."""
    session = Session.load(tiny_run.folder / "model.fusion")
    eeg = np.random.default_rng(0).normal(0, 1e-5, (19, 128)).astype(np.float32)
    given = {"windows": {"eeg": eeg}, "statistics": {"eeg": (np.zeros((19, 5)), np.ones((19, 5)))}}
    fed = session.feed(**given)
    times = {"session": [], "graph": []}
    for turn in range(400):
        for name, call in (
            ("session", lambda: session.predict(**given)),
            ("graph", lambda: session.graph.run(["target"], fed)),
        ):
            began = time.process_time()
            call()
            if turn > 20:
                times[name].append(time.process_time() - began)
    session_ms, graph_ms = (1e3 * float(np.median(times[name])) for name in ("session", "graph"))
    assert session_ms < 1.3 * graph_ms + 0.1, (session_ms, graph_ms)  # 0.1: this graph is an eighth of a useful one


def test_a_bundle_without_a_graph_is_refused(tmp_path):
    path = tmp_path / "x.fusion"
    path.write_bytes(little.pack(little.manifest(), {"recipe.yaml": b""}))
    with pytest.raises(BundleError, match=r"x.fusion: a bundle must have a model.onnx, but has none"):
        Session(read_bundle(path))
