"""Shapley values by hand, by all orders in a plain loop, and what they promise."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fusionkit.core.errors import DataError, ShapeError, UnknownNameError
from fusionkit.evaluation import contribution as module
from fusionkit.evaluation.contribution import (
    added,
    adds,
    alone,
    contribution,
    interaction,
    sampled_shapley,
    shapley,
    subset_scores,
    subsets,
)
from fusionkit.evaluation.statistics.resampled import resample_means

GAMES = st.integers(1, 4).flatmap(lambda sensors: arrays(float, 2**sensors, elements=st.floats(-1, 1)))


def plain(values):
    """Plug sensors in, in every order, and average what each adds."""
    sensors = int(math.log2(len(values)))
    shares = np.zeros(sensors)
    for order in itertools.permutations(range(sensors)):
        present = 0
        for sensor in order:
            shares[sensor] += values[present | 1 << sensor] - values[present]
            present |= 1 << sensor
    return shares / math.factorial(sensors)


def plain_interaction(values, i, j):
    """In every order of the others with the pair as one, what the pair adds beyond each."""
    sensors = int(math.log2(len(values)))
    others = [s for s in range(sensors) if s not in (i, j)]
    gains = []
    for order in itertools.permutations([*others, "pair"]):
        s = sum(1 << sensor for sensor in order[: order.index("pair")])
        gains.append(values[s | 1 << i | 1 << j] - values[s | 1 << i] - values[s | 1 << j] + values[s])
    return np.mean(gains)


def test_two_sensors_by_hand():
    values = np.array([0, 0.2, 0.4, 1])
    np.testing.assert_allclose(shapley(values), [0.4, 0.6])
    np.testing.assert_allclose(alone(values), [0.2, 0.4])
    np.testing.assert_allclose(added(values), [0.6, 0.8])
    assert interaction(values)[0, 1] == pytest.approx(0.4)


def test_the_glove_game():
    """A left glove and two right ones: the left is worth 2/3."""
    values = np.array([float(bool(s & 1) and bool(s & 6)) for s in range(8)])
    np.testing.assert_allclose(shapley(values), [2 / 3, 1 / 6, 1 / 6])


def test_either_of_two_and_both_of_two():
    assert interaction(np.array([0.0, 0, 0, 1]))[0, 1] == 1
    assert interaction(np.array([0.0, 1, 1, 1]))[1, 0] == -1
    np.testing.assert_allclose(shapley(np.array([0.0, 1, 1, 1])), [0.5, 0.5])


@given(GAMES)
def test_agrees_with_all_orders(values):
    np.testing.assert_allclose(shapley(values), plain(values), atol=1e-12)
    for i, j in itertools.combinations(range(len(shapley(values))), 2):
        assert interaction(values)[i, j] == pytest.approx(plain_interaction(values, i, j), abs=1e-12)


@given(GAMES)
def test_shares_add_up_to_all_less_none(values):
    assert shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


@given(arrays(float, 8, elements=st.floats(-1, 1)))
def test_sensors_that_bring_the_same_have_the_same(values):
    swapped = [0, 2, 1, 3, 4, 6, 5, 7]  # sensors 0 and 1 change places
    same = (values + values[swapped]) / 2
    shares = shapley(same)
    assert shares[0] == pytest.approx(shares[1], abs=1e-12)
    np.testing.assert_allclose(shapley(values[swapped]), shapley(values)[[1, 0, 2]], atol=1e-12)


@given(arrays(float, 4, elements=st.floats(-1, 1)))
def test_a_sensor_that_never_brings_anything_has_nothing(values):
    idle = np.concatenate([values, values])  # the third sensor changes no value
    assert shapley(idle)[2] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(shapley(idle)[:2], shapley(values), atol=1e-12)
    np.testing.assert_allclose(interaction(idle)[2], 0, atol=1e-12)


def test_a_sum_of_sensors_has_no_interaction():
    worth = np.array([0.1, 0.3, -0.2, 0.05])
    values = np.array([sum(worth[s] for s in range(4) if b >> s & 1) for b in range(16)])
    np.testing.assert_allclose(shapley(values), worth)
    np.testing.assert_allclose(interaction(values), 0, atol=1e-12)


@pytest.mark.parametrize("sensors", [1, 2, 4, 6])
def test_random_orders_agree_with_the_exact_shares(sensors):
    values = np.random.default_rng(sensors).normal(size=2**sensors)
    estimate, error = sampled_shapley(values, orders=20_000, seed=1)
    assert (np.abs(estimate - shapley(values)) <= 4 * error + 1e-12).all()
    assert (error < 0.02).all()
    wrong = shapley(np.roll(values, 1))
    assert sensors == 1 or (np.abs(estimate - wrong) > 4 * error).any()


def test_leading_axes_are_left_alone():
    values = np.random.default_rng(0).normal(size=(3, 2, 8))
    for measure in (shapley, alone, added, interaction):
        np.testing.assert_allclose(measure(values)[2, 1], measure(values[2, 1]))


def test_subsets_are_counted_in_binary():
    assert subsets(["a", "b"]) == [frozenset(), {"a"}, {"b"}, {"a", "b"}]
    scores = {subset: np.array([len(subset), 10.0 * ("b" in subset)]) for subset in subsets(["a", "b"])}
    np.testing.assert_array_equal(subset_scores(scores, ["a", "b"]), [[0, 1, 1, 2], [0, 0, 10, 10]])
    with pytest.raises(DataError, match=r"a \+ b has none"):
        subset_scores({s: v for s, v in scores.items() if len(s) < 2}, ["a", "b"])
    with pytest.raises(DataError, match="c is no subset of a"):
        subset_scores({**scores, frozenset("c"): np.zeros(2)}, ["a", "b"])


def study(seed=0, subjects=30):
    """EEG and audio help, images say what audio says, and noise is idle."""
    rng = np.random.default_rng(seed)
    sensors = ["eeg", "audio", "image", "idle"]
    worth = {s: 0.5 + 0.2 * ("eeg" in s) + 0.1 * (("audio" in s) or ("image" in s)) for s in subsets(sensors)}
    person = rng.normal(0, 0.05, subjects)
    scores = {s: value + person + rng.normal(0, 0.02, subjects) for s, value in worth.items()}
    return contribution(resample_means(subset_scores(scores, sensors), seed=1), sensors)


def test_intervals_hold_what_is_so_and_the_check_agrees():
    found = study()
    truth = {"eeg": 0.2, "audio": 0.05, "image": 0.05, "idle": 0.0}
    for name, value in truth.items():
        assert found.shapley[name].value == pytest.approx(value, abs=0.01)
        assert found.shapley[name].low - 0.004 < value < found.shapley[name].high + 0.004
    assert found.shapley["eeg"].high - found.shapley["eeg"].low < 0.02  # people differ, but alike for all subsets
    assert sum(share.value for share in found.shapley.values()) == pytest.approx(found.total.value)
    assert found.pairs["audio", "image"].high < 0 < found.pairs["audio", "image"].high + 0.2
    assert found.pairs["eeg", "audio"].value == pytest.approx(0, abs=0.01)
    assert found.alone["audio"].low > 0
    assert 0 < found.check < 4.5


def test_what_a_sensor_adds_in_words():
    found = study()
    assert adds(found, "eeg").startswith("eeg adds 0.")
    assert adds(found, "eeg").endswith("] to audio, image and idle.")
    said = adds(found, "image")
    assert ("not shown" in said) == (found.added["image"].low <= 0 <= found.added["image"].high)
    alone_ = contribution(resample_means(np.array([[0.5, 0.7]]), seed=0), ["eeg"])
    assert adds(alone_, "eeg") == "Whether eeg adds anything to nothing cannot be said: not defined in any resample."
    hardly = contribution(resample_means(np.array([[0, 0, 0, 1e-5]] * 7), seed=0), ["eeg", "audio"])
    assert adds(hardly, "eeg") == "eeg adds 0.00001 [0.00001, 0.00001] to audio."  # never "adds 0.000"
    harmful = contribution(resample_means(np.array([[0, 0.5, 0.4, 0.3]] * 7), seed=0), ["eeg", "audio"])
    assert adds(harmful, "audio") == "audio takes away from eeg: -0.200 [-0.200, -0.200]."
    with pytest.raises(UnknownNameError, match="eg"):
        adds(found, "eg")


@pytest.mark.parametrize("subjects", [5, 10])
def test_of_idle_sensors_hardly_ever_one_is_said_to_add_anything(subjects):
    """Four idle sensors, 200 studies of ten people: percentiles of each by itself claim one in a third of them."""
    rng = np.random.default_rng(0)
    sensors = ["eeg", "audio", "image", "text"]
    claims, tempted = [], 0
    for _ in range(200):
        scores = 0.7 + rng.normal(0, 0.05, (subjects, 1)) + rng.normal(0, 0.02, (subjects, 16))
        found = contribution(resample_means(scores, seed=0, repetitions=1000), sensors, orders=2)
        said = [adds(found, sensor) for sensor in sensors]
        claims.append(any(" adds " in one or "takes away from" in one for one in said))
        tempted += sum("it may be chance (" in one for one in said)
    assert np.mean(claims) < 0.09  # the 99 % bound of 5 % in 200 studies
    assert tempted > 0


def test_the_check_tells_a_wrong_share_where_all_orders_give_the_same(monkeypatch):
    sums = resample_means(np.array([[0.0, 1, 2, 3], [0, 1, 2, 3]]), seed=0, repetitions=4)
    assert contribution(sums, ["a", "b"]).check == 0
    monkeypatch.setattr(module, "shapley", lambda values: values[..., 1:3] + 0.5)
    assert contribution(sums, ["a", "b"]).check == math.inf


@pytest.mark.parametrize("count", [0, 1, 3, 6, 2**13])
def test_a_missing_subset_is_refused(count):
    with pytest.raises(ShapeError, match=f"got {count} values"):
        shapley(np.zeros(count))


def test_sensors_must_fit_their_subsets():
    with pytest.raises(ShapeError, match="each of 8"):
        contribution(resample_means(np.zeros((3, 4)), seed=0), ["a", "b", "c"])
