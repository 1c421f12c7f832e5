"""All measures of a sensor's records together: alike, shifted, collapsed, copied, mislabelled and missing ones."""

import inspect
import json
import math
from typing import Any

import numpy as np
import pytest

from fusionkit.evaluation.generation import samples as module
from fusionkit.evaluation.generation.quality import judge
from fusionkit.evaluation.generation.samples import Samples, cap, count_classes, draw, see
from fusionkit.evaluation.generation.words import say

Drawn = tuple[np.ndarray, np.ndarray]
CENTRES = np.random.default_rng(9).normal(size=(3, 4, 2))
NAMES = ["calm", "glad", "sad"]


def drawn(
    seed: int, count: int, *, spread: float = 1.0, shift: float = 0.0, shares: tuple[int, ...] = (1, 1, 1)
) -> Drawn:
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), np.array(shares) * count // sum(shares))
    return 2 * CENTRES[label] + shift + spread * generator.normal(size=(len(label), 4, 2)), label


def judged(made: Drawn, held_out: Drawn | None = None, training: Drawn | None = None, seed: int = 0) -> dict[str, Any]:
    return judge(*(training or drawn(0, 600)), *(held_out or drawn(1, 300)), *made, seed)


def test_records_of_the_same_distribution_are_found_alike() -> None:
    found = judged(drawn(2, 600))
    assert list(found["pairs"]) == ["made_training", "halves", "made_held_out", "training_held_out"]
    assert found["records"] == {"training": 600, "held_out": 300, "made": 600, "compared": 300}
    halves = found["pairs"]["halves"]
    for pair in found["pairs"].values():
        assert pair["two_sample"]["value"] == pytest.approx(0.5, abs=0.1)
        assert pair["mmd"] == pytest.approx(0, abs=0.005)
        assert pair["wasserstein"] == pytest.approx(halves["wasserstein"], rel=0.6)
        assert pair["precision"] == pytest.approx(halves["precision"], abs=0.1)
        assert pair["recall"] == pytest.approx(halves["recall"], abs=0.1)
    assert found["copies"]["ratio"] == pytest.approx(1, abs=0.05)
    assert found["transfer"]["made_real"] == pytest.approx(found["transfer"]["real_real"], abs=0.05)
    said = say(found, NAMES)
    assert "not certain that a classifier tells generated from training" in said[0]
    assert "No sign of copies" in said[1]
    assert len(said) == 3


def test_it_is_plain_data_and_the_same_for_the_same_seed() -> None:
    one, other, third = (judged(drawn(2, 600), seed=seed) for seed in (2**62, 2**62, 5))
    for found in (one, other, third):
        assert found.pop("seconds") > 0
    assert json.loads(json.dumps(one)) == one == other
    assert one["pairs"] != third["pairs"]


def test_a_shift_is_measured_in_deviations_of_training() -> None:
    training = drawn(0, 600)
    deviation = training[0].std(0).reshape(-1)
    found = judged((training[0] + 5, training[1]), training=training)
    assert found["pairs"]["made_training"]["wasserstein"] == pytest.approx((5 / deviation).mean(), abs=0.1)
    assert found["pairs"]["made_training"]["two_sample"]["low"] > 0.9
    assert found["pairs"]["training_held_out"]["wasserstein"] < 0.2
    assert found["transfer"]["real_real"] > 0.8


def test_other_shares_of_classes_are_no_difference() -> None:
    found = judged(drawn(2, 900, shares=(7, 1, 1)))
    assert [one["count"] for one in found["classes"].values()] == [100, 100, 100]
    told = found["pairs"]["made_training"]["two_sample"]
    assert told["low"] <= 0.5 <= told["high"]


def test_swapped_classes_are_seen_by_classifiers_alone() -> None:
    values, label = drawn(2, 600)
    found = judged((values, (label + 1) % 3))
    assert found["pairs"]["made_training"]["two_sample"]["low"] <= 0.5
    assert found["transfer"]["real_made"] < 0.2
    assert found["transfer"]["made_real"] < 0.2
    assert found["transfer"]["chance"] == pytest.approx(1 / 3)
    assert found["classes"]["1"]["wasserstein"] > 3 * found["classes"]["1"]["halves"]


def test_a_collapsed_generator_is_said_to_cover_little_and_not_to_copy() -> None:
    found = judged(drawn(2, 600, spread=0.02))
    assert found["pairs"]["made_training"]["recall"] < 0.1
    said = " ".join(say(found, NAMES))
    assert "cover little" in said
    assert "they repeat" not in said


def test_records_far_away_are_said_to_lie_elsewhere() -> None:
    said = " ".join(say(judged(drawn(2, 600, shift=9.0)), NAMES))
    assert "Few generated records lie among real ones: precision 0.00" in said


def test_changed_copies_are_said_to_repeat() -> None:
    values, label = drawn(0, 600)
    found = judged((values + 0.05 * np.random.default_rng(3).normal(size=values.shape), label))
    assert found["copies"]["near"] > 0.9
    assert "they repeat what was there" in " ".join(say(found, NAMES))


@pytest.mark.parametrize(("near", "copies"), [(0.01, False), (0.065, False), (0.068, True)])
def test_copies_are_said_from_five_times_the_expected_share_on(near: float, copies: bool) -> None:
    found = judged(drawn(2, 600))
    assert found["copies"]["expected"] == pytest.approx((2.99 + 1) / 301)
    found["copies"]["near"] = near
    assert ("they repeat" in " ".join(say(found, NAMES))) == copies


def test_a_class_that_was_not_made_is_said_and_the_rest_compared() -> None:
    values, label = drawn(2, 600)
    found = judged((values[label != 1], label[label != 1]))
    assert found["missing"] == [1]
    assert list(found["classes"]) == ["0", "2"]
    assert say(found, NAMES)[0] == "No generated record is of class glad."
    assert found["transfer"]["chance"] == pytest.approx(1 / 3)
    assert found["transfer"]["made_real"] < 0.7 < found["transfer"]["real_real"]  # real ones have all classes


def test_a_class_that_nobody_holds_out_is_left_out_and_said() -> None:
    values, label = drawn(1, 300)
    found = judged(drawn(2, 600), (values[label != 2], label[label != 2]))
    assert found["left_out"] == [2]
    assert any("without class sad" in line for line in say(found, NAMES))


@pytest.mark.parametrize("count", [0, 4])
def test_with_few_held_out_records_generated_ones_are_compared_with_training(count: int) -> None:
    values, label = drawn(1, 300)
    found = judged(drawn(2, 600), (values[:count], label[:count]))
    assert list(found["pairs"]) == ["made_training", "halves"]
    assert found["records"]["compared"] == 300
    assert math.isnan(found["transfer"]["made_real"]) == (count == 0)


def test_too_few_records_are_not_judged() -> None:
    found = judged(drawn(2, 6))
    assert set(found) == {"records", "missing", "seconds"}
    assert say(found, NAMES) == ["Too few records to judge: 6 can be compared, but 10 are needed."]


def test_records_with_a_number_missing_are_left_out() -> None:
    values, label = drawn(1, 300)
    values[7, 0, 0] = np.nan
    assert judged(drawn(2, 600), (values, label))["records"]["held_out"] == 299


def test_a_constant_number_is_no_trouble() -> None:
    samples = [drawn(seed, 90) for seed in range(3)]
    for values, _ in samples:
        values[:, 1] = 4
    found = judge(*samples[0], *samples[1], *samples[2], 0)
    assert np.isfinite(found["pairs"]["made_training"]["wasserstein"])


@pytest.mark.parametrize("alike", [("training",), ("made",), ("training", "held_out", "made")])
def test_records_that_are_all_alike_are_judged(alike: tuple[str, ...]) -> None:
    parts = {name: drawn(seed, 60) for seed, name in enumerate(("training", "held_out", "made"))}
    for name in alike:
        parts[name][0][:] = 1
    found = judge(*parts["training"], *parts["held_out"], *parts["made"], 0)
    assert np.isfinite(found["pairs"]["made_training"]["mmd"])
    assert len(say(found, NAMES)) >= 3


def test_records_of_one_class_are_judged() -> None:
    parts = [(drawn(seed, 60)[0], np.zeros(60, np.int64)) for seed in range(3)]
    assert judge(*parts[0], *parts[1], *parts[2], 0)["transfer"]["chance"] == 1


def test_wide_records_are_seen_along_random_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = judged(drawn(2, 600, shift=1.0))
    monkeypatch.setattr(module, "WIDEST", 5)
    wide = judged(drawn(2, 600, shift=1.0))
    assert (narrow["directions"], wide["directions"]) == (None, module.DIRECTIONS)
    for pair, measures in wide["pairs"].items():
        for name, value in measures.items():
            if name != "two_sample":
                assert value == pytest.approx(narrow["pairs"][pair][name], rel=0.35, abs=0.05)
    assert judged(drawn(2, 600), (np.zeros((0, 4, 2)), np.zeros(0, np.int64)))["directions"] == module.DIRECTIONS


def test_directions_keep_distances_and_favour_no_sample() -> None:
    generator = np.random.default_rng(0)
    label = np.zeros(40, np.int64)
    given = Samples(*(part for _ in range(3) for part in (generator.normal(size=(40, 2000)), label)))
    seen = see(given, np.random.default_rng(1))
    own = [np.square(part).sum(1).mean() for part in seen.vectors.values.values()]
    scaled = [(values - given.training.mean(0)) / given.training.std(0) for values in given.values.values()]
    assert own == pytest.approx([np.square(part).sum(1).mean() for part in scaled], rel=0.05)
    assert seen.numbers.made.shape == (40, module.WIDEST)
    assert all(np.isclose(scaled[2], column[:, None]).all(0).any() for column in seen.numbers.made.T[:9])


def test_samples_are_drawn_by_class_without_repetition() -> None:
    label = np.array([0] * 30 + [2] * 10)
    assert count_classes(label) == {0: 30, 2: 10}
    assert cap({0: 30, 2: 10}, 20) == {0: 15, 2: 5}
    assert cap({0: 3}, 20) == {0: 3}
    rows = draw(label, {0: 15, 2: 5}, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 20
    assert count_classes(label[rows]) == {0: 15, 2: 5}
    assert draw(label, {}, np.random.default_rng(0)).shape == (0,)


def test_the_order_of_fields_is_that_of_the_judge() -> None:
    names = list(inspect.signature(judge).parameters)[:6]
    assert [name.replace("real", "training") for name in names] == list(Samples._fields)
