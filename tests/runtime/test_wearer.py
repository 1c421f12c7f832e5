"""What a bundle must know of a person: taken by its own graphs, kept in a file, refused where it does not fit."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusionkit.runtime.alignment import MeanCovariance, alignment_matrix, calibrate_alignment
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Align, Normalise, Sensor, StoredSensor
from fusionkit.runtime.statistics import RunningStatistics
from fusionkit.runtime.wearer import Wearer

RATE, CHANNELS = 10.0, 3


def squares() -> bytes:
    """A graph of features: the square of every sample of every channel, real up to the window's length."""
    nodes = [
        helper.make_node("Mul", ["eeg", "eeg"], ["squared"]),
        helper.make_node("Transpose", ["squared"], ["steps"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["steps", "last"], ["features"]),
        helper.make_node("Shape", ["eeg"], ["time"], start=2, end=3),
        helper.make_node("Squeeze", ["time"], ["stop"]),
        helper.make_node("Range", ["zero", "stop", "one"], ["number"]),
        helper.make_node("Unsqueeze", ["eeg_length", "last1"], ["length"]),
        helper.make_node("Less", ["number", "length"], ["mask"]),
    ]
    constants = {"last": np.array([3]), "last1": np.array([1]), "zero": np.array(0), "one": np.array(1)}
    graph = helper.make_graph(
        nodes,
        "squares",
        [
            helper.make_tensor_value_info("eeg", TensorProto.FLOAT, ["batch", CHANNELS, "time"]),
            helper.make_tensor_value_info("eeg_length", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "step", CHANNELS, 1]),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", "step"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class Told:
    """As much of a session as a wearer needs."""

    def __init__(self, *, align: bool = True) -> None:
        names = ("C3", "Cz", "C4")
        self.files = {"features/eeg.onnx": squares()}
        self.sensors = {
            "eeg": Sensor(
                kind="eeg",
                layout="channel, time",
                shape=(CHANNELS, None),
                dtype="float32",
                longest=10,
                sample_rate=RATE,
                channels=names,
                unit="V",
                align=Align("euclidean", None, 4.0, None, 10, 1.0) if align else None,
                normalise=Normalise("calibration", 4.0),
                statistics=(CHANNELS, 1),
                chain=(),
                stored=StoredSensor(RATE, names, "V", (CHANNELS,), "<f4", 10),
            )
        }


@pytest.fixture
def segment():
    return np.random.default_rng(0).normal(0, [[1.0], [2.0], [5.0]], (CHANNELS, 40)).astype(np.float32)


def test_a_segment_gives_alignment_and_then_statistics_of_aligned_features(segment):
    wearer = Wearer(Told())
    assert wearer.lacks == ["eeg"]
    wearer.align_by("eeg", segment)
    np.testing.assert_allclose(wearer.matrix["eeg"], calibrate_alignment(segment, 10, 1.0), rtol=1e-6)
    aligned = wearer.aligned("eeg", segment)
    wearer.normalise_by("eeg", aligned)
    assert wearer.lacks == []
    shift, scale = wearer.statistics["eeg"]
    squared = (aligned.astype(np.float64) ** 2).T
    np.testing.assert_allclose(shift[:, 0], squared.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scale[:, 0], squared.std(0), rtol=1e-5)


def test_all_windows_give_the_alignment_of_their_mean_covariance(segment):
    windows = segment.reshape(CHANNELS, 4, 10).transpose(1, 0, 2)
    wearer, covariance = Wearer(Told()), MeanCovariance(CHANNELS)
    wearer.align_by_all("eeg", windows)
    for window in windows:
        covariance.update(window)
    np.testing.assert_allclose(wearer.matrix["eeg"], alignment_matrix(covariance.value), rtol=1e-5)


def test_batches_of_any_size_and_padding_change_no_statistics(segment):
    whole, parts = Wearer(Told(align=False)), Wearer(Told(align=False))
    whole.normalise_by("eeg", segment)
    padded = np.concatenate([segment[:, 25:], np.full((CHANNELS, 10), 1e6, np.float32)], 1)
    parts.normalise_by("eeg", np.stack([segment[:, :25], padded]), np.array([25, 15]))
    for name in ("mean", "count", "square"):
        np.testing.assert_allclose(getattr(parts.running["eeg"], name), getattr(whole.running["eeg"], name), rtol=1e-9)


def test_what_was_not_measured_is_not_counted(segment):
    wearer = Wearer(Told(align=False))
    segment[1, :20] = np.nan
    wearer.normalise_by("eeg", segment)
    assert wearer.running["eeg"].count[:, 0].tolist() == [40, 20, 40]


def test_a_wearer_comes_back_from_a_file_and_goes_on(segment, tmp_path):
    session = Told()
    wearer = Wearer(session)
    wearer.align_by("eeg", segment)
    wearer.normalise_by("eeg", wearer.aligned("eeg", segment))
    wearer.save(tmp_path / "me.npz")
    again = Wearer.load(session, tmp_path / "me.npz")
    for one in (wearer, again):
        one.normalise_by("eeg", one.aligned("eeg", 3 * segment))
    np.testing.assert_array_equal(again.matrix["eeg"], wearer.matrix["eeg"])
    for mine, theirs in zip(again.statistics["eeg"], wearer.statistics["eeg"], strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"chain": ({"step": "bank", "bands": []},)},
        {"channels": ("C4", "Cz", "C3")},
        {"unit": "uV"},
        {"normalise": Normalise("calibration", 8.0)},
        {"graph": b"another"},
    ],
)
def test_another_bundles_wearer_is_refused_in_a_line(change, segment, tmp_path):
    """Also where all shapes are the same; what a bundle's heads are does not matter."""
    session, other = Told(), Told()
    wearer = Wearer(session)
    wearer.align_by("eeg", segment)
    wearer.normalise_by("eeg", segment)
    wearer.save(tmp_path / "me.npz")
    other.files["model.onnx"] = b"other heads"
    assert Wearer.load(other, tmp_path / "me.npz").lacks == []
    if "graph" in change:
        other.files["features/eeg.onnx"] = change["graph"]
    else:
        other.sensors["eeg"] = replace(other.sensors["eeg"], **change)
    with pytest.raises(
        BundleError, match=r"me\.npz: a wearer must be of this bundle's eeg, but is of another"
    ) as found:
        Wearer.load(other, tmp_path / "me.npz")
    assert "\n" not in str(found.value)


def test_a_file_that_does_not_say_whose_it_is_is_refused(tmp_path):
    (tmp_path / "me.npz").write_bytes(packed(eeg__matrix=np.eye(3)))
    with pytest.raises(BundleError, match="this bundle's eeg, but does not say of which"):
        Wearer.load(Told(), tmp_path / "me.npz")


def test_statistics_that_are_all_alike_are_read_again():
    session = Told()
    session.sensors["eeg"] = replace(session.sensors["eeg"], statistics=(CHANNELS, 100_000))
    wearer = Wearer(session)
    wearer.running["eeg"] = RunningStatistics((CHANNELS, 100_000))
    assert Wearer.from_bytes(session, wearer.to_bytes(), "me.npz").statistics["eeg"][1].mean() == 1


def packed(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name.replace("__", "."): value for name, value in arrays.items()})
    return buffer.getvalue()


SOME = np.ones((CHANNELS, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "a wearer must be a zip file"),
        (packed(ecg__matrix=np.eye(3)), "must be of this bundle's sensors"),
        (packed(eeg__origin=np.ones(32)), r"eeg\.origin must be a digest of 32 bytes, but is float64"),
        (packed(eeg__matrix=np.eye(4)), r"eeg\.matrix must be finite numbers of shape \[3, 3\]"),
        (packed(eeg__matrix=np.full((3, 3), np.nan)), "must be finite"),
        (packed(eeg__matrix=np.eye(3, dtype=np.int64)), "must be finite numbers"),
        (packed(eeg__count=SOME, eeg__mean=SOME), r"must have eeg\.square beside"),
        (packed(eeg__matrix=np.array([[None] * 3] * 3)), "must be an array of numbers"),
        (packed(eeg__matrix=np.zeros((3000, 3))), r"must be finite numbers of shape \[3, 3\]"),
        (packed(eeg__matrix=np.full((3, 3), 1e40)), r"eeg\.matrix must be from -1e\+30 to 1e\+30, but is not"),
        (packed(eeg__count=-SOME, eeg__mean=SOME, eeg__square=SOME), r"eeg\.count must be from 0 to 1e\+30"),
        (packed(eeg__count=SOME, eeg__mean=SOME, eeg__square=-SOME), r"eeg\.square must be from 0 to 1e\+30"),
    ],
)
def test_what_is_no_wearer_of_this_bundle_is_refused_in_a_line(content, message):
    with pytest.raises(BundleError, match=message) as found:
        Wearer.from_bytes(Told(), content, "me.npz")
    assert "\n" not in str(found.value)


def test_twins_in_an_archive_are_refused():
    buffer = io.BytesIO(packed(eeg__matrix=np.eye(3)))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("eeg.matrix.npy", b"other")
    with pytest.raises(BundleError, match="names of files must differ"):
        Wearer.from_bytes(Told(), buffer.getvalue(), "me.npz")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda w, s: w.align_by("ecg", s), "no sensor named 'ecg'"),
        (lambda w, s: w.align_by("eeg", s[:2]), r"3 channels, time\), but is float32 \[2, 40\]"),
        (lambda w, s: w.align_by("eeg", s[:, :3]), "more samples than channels to align by, 3, but has 3"),
        (lambda w, s: w.align_by_all("eeg", []), "at least one window"),
        (lambda w, s: w.aligned("eeg", s), "alignment must be taken before"),
        (
            lambda w, s: w.normalise_by("eeg", s, np.array([41])),
            "a length must be from 0 to the 40 samples of its window",
        ),
        (lambda w, s: w.normalise_by("eeg", s, np.array([-1])), "but got -1"),
        (lambda w, s: w.normalise_by("eeg", s[:2]), r"windows must have shape \[3, 'time'\]"),
        (lambda w, s: w.normalise_by("eeg", s.astype(int)), "must hold floating-point numbers"),
        (lambda w, s: w.normalise_by("eeg", s, np.array([1, 2])), "lengths must be one for each of 1 windows"),
    ],
)
def test_windows_that_do_not_fit_are_refused(segment, ask, message):
    with pytest.raises(BundleError, match=message):
        ask(Wearer(Told()), segment)


def test_a_sensor_without_such_statistics_takes_none(segment):
    session = Told(align=False)
    with pytest.raises(BundleError, match="must be aligned"):
        Wearer(session).align_by("eeg", segment)
    assert Wearer(session).aligned("eeg", segment) is segment
