"""Classification: labels to targets, the head, the loss, the prior."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import heads
from fusionkit.heads.classification import Classification, ClassificationHead
from fusionkit.losses.negative_log_likelihood import NegativeLogLikelihood

LABELS = ["rest", "work", None, " rest ", "", "rest"]


def fitted(**options):
    task = Classification(**options)
    task.learn(LABELS, "state")
    task.fit(task.encode(LABELS, "state"), "state")
    return task


def test_classes_are_the_sorted_labels_of_the_study():
    assert fitted().classes == ("rest", "work")
    digits = Classification()
    digits.learn(["10", "9", "2", None], "digit")
    assert digits.classes == ("2", "9", "10")
    mixed = Classification()
    mixed.learn(["b", "10", "9"], "mixed")
    assert mixed.classes == ("10", "9", "b")


def test_listed_classes_keep_their_order_and_may_be_numbers_in_yaml():
    task = heads.build("classification", {"classes": [2, 0, 1]})
    task.learn(["0", "1", "2"], "digit")
    assert task.classes == ("2", "0", "1")
    np.testing.assert_array_equal(task.encode(["0", "2", "1"], "digit"), [1, 0, 2])


def test_missing_and_empty_cells_are_nan():
    np.testing.assert_array_equal(fitted().encode(LABELS, "state"), [0, 1, np.nan, 0, np.nan, 0])


def test_a_label_outside_the_classes_is_refused_with_task_row_value_and_the_nearest():
    with pytest.raises(
        DataError, match=r"task 'state' row 2: .*\['rest', 'work'\], but got 'wrok'; did you mean 'work'"
    ):
        fitted().encode(["rest", "wrok"], "state")
    with pytest.raises(DataError, match=r"task 'state' row 1: .*'sleep'"):
        Classification(classes=["rest", "work"]).learn(["sleep"], "state")


def test_a_class_absent_from_training_is_refused_by_name():
    task = Classification(classes=["rest", "work", "sleep"])
    with pytest.raises(DataError, match=r"task 'state': every class must occur in training, but \['sleep'\]"):
        task.fit(task.encode(LABELS, "state"), "state")


def test_training_without_any_label_is_refused():
    with pytest.raises(DataError, match="task 'state': training must have a labelled record, but all 3 are missing"):
        fitted().fit(np.full(3, np.nan), "state")


@pytest.mark.parametrize("labels", [["a", "a", None], [None, ""]])
def test_a_study_with_fewer_than_two_classes_is_refused(labels):
    with pytest.raises(DataError, match="task 'state': the labels must be of two classes or more"):
        Classification().learn(labels, "state")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b", "a"]}, r"\['a'\] are listed again"),
        ({"classes": ["a"]}, "2 classes or more"),
        ({"classes": ["a", "b"], "class_weights": {"c": 2.0}}, "class_weights must name classes .* got 'c'"),
        ({"class_weights": {"a": 0}}, "a class weight must be a number above 0, but got {'a': 0}"),
        ({"class_weights": "balance"}, "none, balanced or a mapping .* got 'balance'"),
        ({"classes": [True, False]}, "valid string, got True"),
        ({"lable_smoothing": 0.1}, "did you mean 'label_smoothing'"),
        ({"loss": "huber"}, "decision of form 'class'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        heads.build("classification", options)


def test_weights_for_classes_of_the_study_are_checked_when_it_is_learned():
    task = Classification(class_weights={"rest": 2.0, "wrk": 3.0})
    with pytest.raises(ConfigError, match="'wrk'; did you mean 'work'"):
        task.learn(LABELS, "state")


def test_class_weights_by_hand():
    np.testing.assert_array_equal(fitted().weights(), [1, 1])
    np.testing.assert_allclose(fitted(class_weights="balanced").weights(), [2 / 3, 2])
    np.testing.assert_allclose(fitted(class_weights={"work": 5.0}).weights(), [1, 5])


@pytest.mark.parametrize("weights", ["none", "balanced", {"rest": 3.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_weighted_cross_entropy_over_labelled_records(weights, smoothing):
    task = fitted(class_weights=weights, label_smoothing=smoothing)
    logits = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.from_numpy(task.encode(LABELS, "state"))
    loss, weight = task.loss(logits.log_softmax(1), target)
    known = ~target.isnan()
    expected = F.cross_entropy(
        logits[known],
        target[known].long(),
        weight=torch.from_numpy(task.weights()).double(),
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(loss / weight, expected)


def test_a_missing_label_contributes_exactly_nothing_even_beside_nan():
    task = fitted()
    logits = torch.randn(4, 2, requires_grad=True)
    target = torch.tensor([0.0, torch.nan, 1.0, torch.nan])
    decision = logits.log_softmax(1)
    spoiled = torch.where(target.isnan()[:, None], torch.full_like(decision, torch.nan), decision)
    loss, weight = task.loss(spoiled, target)
    loss.backward()
    assert weight.item() == 2
    assert (logits.grad[target.isnan()] == 0).all()
    alone, _ = task.loss(decision[[0, 2]], target[[0, 2]])
    assert loss.item() == alone.item()


def test_a_batch_without_labels_gives_zero_and_no_gradient():
    task = fitted(class_weights="balanced")
    logits = torch.randn(3, 2, requires_grad=True)
    loss, weight = task.loss(logits.log_softmax(1), torch.full((3,), torch.nan))
    loss.backward()
    assert (loss.item(), weight.item()) == (0.0, 0.0)
    assert (logits.grad == 0).all()


def test_the_prior_is_the_share_of_training_records():
    np.testing.assert_allclose(np.exp(fitted().prior()), [3 / 4, 1 / 4])
    with pytest.raises(ConfigError, match="must be fitted"):
        Classification(classes=["a", "b"]).prior()


def test_state_brings_a_task_back():
    task = fitted(class_weights="balanced")
    again = Classification(class_weights="balanced")
    again.restore(json.loads(json.dumps(task.state())))
    assert again.classes == task.classes
    np.testing.assert_array_equal(again.prior(), task.prior())
    np.testing.assert_array_equal(again.weights(), task.weights())


def test_refitting_replaces_the_weights_of_the_last_fold():
    task = fitted(class_weights="balanced")
    decision = torch.full((1, 2), 0.5).log()
    before, _ = task.loss(decision, torch.tensor([1.0]))
    task.fit(np.array([0, 0, 0, 0, 0, 0, 0, 1.0]), "state")
    after, _ = task.loss(decision, torch.tensor([1.0]))
    assert before.item() == pytest.approx(2 * math.log(2))
    assert after.item() == pytest.approx(4 * math.log(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_head_gives_normalised_log_probabilities_in_float32_at_least(dtype):
    head = ClassificationHead(8, 3).to(dtype)
    decision = head(torch.randn(5, 8, dtype=dtype) * 20)
    assert decision.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(decision.exp().sum(1), torch.ones(5, dtype=decision.dtype))


def test_a_loss_never_sees_what_was_answered_where_the_label_is_missing():
    seen = []

    class Spy(NegativeLogLikelihood):
        def forward(self, decision, target, weights=None):
            seen.append((decision, target))
            return super().forward(decision, target, weights)

    task = fitted()
    task._loss = Spy()
    task.loss(torch.full((2, 2), torch.nan), torch.full((2,), torch.nan))
    assert (seen[0][0] == 0).all()
    assert (seen[0][1] == 0).all()
