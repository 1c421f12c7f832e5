"""The training prior and the best single sensor."""

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.core.registry import heads
from fusionkit.evaluation.baselines import choose_best_single, majority
from fusionkit.evaluation.metrics import score


def test_the_majority_row_knows_training_only():
    task = heads.build("classification", {"classes": ["a", "b"]})
    task.fit(np.array([0, 0, 0, 1.0]), "state")
    answers = majority(task, 5)
    np.testing.assert_allclose(answers, np.tile([0.75, 0.25], (5, 1)))
    scores = score(task, answers, np.array([1, 1, 1, 0, np.nan]))
    assert scores["accuracy"] == 0.25
    assert scores["balanced_accuracy"] == 0.5
    assert scores["auroc"] == 0.5


def test_the_mean_has_r2_of_zero_on_its_own_training():
    task = heads.build("regression")
    values = np.array([1.0, 4, 7])
    task.fit(values, "count")
    answers = majority(task, 3)
    np.testing.assert_allclose(answers, np.full((3, 1), 4))
    scores = score(task, answers, values)
    assert scores["r2"] == pytest.approx(0)
    assert np.isnan(scores["pearson"])


def test_labels_have_a_prior_each():
    task = heads.build("multi_label", {"classes": ["x", "y"]})
    task.fit(np.array([[1, 0], [1, 0], [1, 1.0]]), "tags")
    answers = majority(task, 2)
    assert answers.shape == (2, 2, 2)
    np.testing.assert_allclose(answers.sum(-1), 1)
    assert (answers.argmax(-1) == [1, 0]).all()


def test_ordered_classes_have_a_prior_too():
    task = heads.build("ordinal", {"classes": ["low", "mid", "high"]})
    task.fit(np.array([0, 1, 2, 2.0]), "level")
    np.testing.assert_allclose(majority(task, 1), [[0.25, 0.25, 0.5]])


def test_the_best_single_sensor_is_chosen_on_validation():
    scores = {"eeg": 0.7, "audio": 0.9, "image": 0.9, "text": float("nan")}
    assert choose_best_single(scores) == "audio"
    assert choose_best_single(scores, "lower") == "eeg"
    assert choose_best_single({"text": float("nan"), "eeg": -3.0}) == "eeg"
    assert choose_best_single({"text": float("nan")}) == "text"
    with pytest.raises(DataError, match="got none"):
        choose_best_single({})
