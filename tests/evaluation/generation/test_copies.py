"""Copies of training records are found, and records of the same distribution are none."""

import math

import numpy as np
import pytest

from fusionkit.evaluation.generation.copies import find_copies


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_hand_values() -> None:
    found = find_copies(column(0, 1, 2, 3), column(5), column(0.25))
    assert found == pytest.approx((0.25, 0.125, 1, 1.03 / 5))
    assert math.isnan(find_copies(column(0, 1), np.zeros((0, 1)), column(0.25)).held_out)


def test_one_copy_of_a_record_that_is_not_among_those_asked_is_found() -> None:
    training = np.random.default_rng(0).normal(size=(60, 4))
    made = np.random.default_rng(1).normal(size=(10, 4))
    made[3] = training[50]
    among = training[:20]
    assert find_copies(training, training[:0], made, among).near >= 0.1
    assert (
        find_copies(training[:50], training[:0], made, among).near
        < find_copies(training, training[:0], made, among).near
    )


@pytest.mark.parametrize("count", [4, 24, 150])
def test_the_expected_share_is_that_of_the_same_distribution(count: int) -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        training, made = generator.uniform(size=(2, 2000, 1))
        found.append(find_copies(training, training[:0], made[:count], training[:count]))
    error = float(np.std([one.near for one in found])) / math.sqrt(300)
    assert np.mean([one.near for one in found]) == pytest.approx(found[0].expected, abs=4 * error)


def test_asking_all_training_records_is_the_default() -> None:
    training, held_out, made = np.random.default_rng(0).normal(size=(3, 40, 4))
    assert find_copies(training, held_out, made, training) == pytest.approx(find_copies(training, held_out, made))


def test_equal_training_records_do_not_hide_copies() -> None:
    training = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 2, 0)
    found = find_copies(training, training[:0], training[:10])
    assert found.near == 1
    assert math.isnan(found.ratio)


def test_new_records_of_one_distribution_are_no_copies_and_slightly_changed_ones_are() -> None:
    generator = np.random.default_rng(0)
    training, held_out, made = generator.normal(size=(3, 1500, 8))
    found = find_copies(training, held_out, made)
    assert found.ratio == pytest.approx(1, abs=0.03)
    assert found.held_out == pytest.approx(1, abs=0.03)
    assert found.near == pytest.approx(0.01, abs=0.01)
    noisy = find_copies(training, held_out, training + 0.02 * generator.normal(size=training.shape))
    assert noisy.near > 0.95
    assert noisy.ratio < 0.1
