"""Multi-label tasks: cells with several labels, a yes or no for each."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import heads
from fusionkit.heads.multi_label import MultiLabel, MultiLabelHead
from fusionkit.losses.bernoulli import Bernoulli

LABELS = ["joy; fear", None, "fear", "neutral", "", "fear;"]


def fitted(**options):
    task = MultiLabel(none="neutral", **options)
    task.learn(LABELS, "feelings")
    task.fit(task.encode(LABELS, "feelings"), "feelings")
    return task


def test_cells_become_rows_of_zeros_and_ones():
    task = fitted()
    nan = np.nan
    assert task.classes == ("fear", "joy")
    expected = [[1, 1], [nan, nan], [1, 0], [0, 0], [nan, nan], [1, 0]]
    np.testing.assert_array_equal(task.encode(LABELS, "feelings"), expected)


def test_another_separator():
    task = MultiLabel(separator="|")
    task.learn(["a|b", "b;c"], "x")
    assert task.classes == ("a", "b", "b;c")


@pytest.mark.parametrize("cell", ["joy;neutral", ";"])
def test_a_cell_that_says_both_or_nothing_is_refused(cell):
    with pytest.raises(DataError, match=f"task 'feelings' row 1: .*only the marker.*'neutral'.*but got '{cell}'"):
        fitted().encode([cell], "feelings")


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(DataError, match=r"task 'feelings' row 2: .*'feer'; did you mean 'fear'"):
        fitted().encode(["fear", "joy;feer"], "feelings")
    with pytest.raises(DataError, match=r"row 1: .*'rage'"):
        MultiLabel(classes=["joy"]).learn(["rage"], "feelings")


def test_a_label_absent_from_training_is_refused_by_name():
    task = fitted()
    with pytest.raises(DataError, match=r"task 'feelings': every label must occur in training, but \['joy'\]"):
        task.fit(task.encode(["fear", "neutral"], "feelings"), "feelings")


def test_a_study_without_labels_is_refused():
    with pytest.raises(DataError, match="none of 2 has"):
        MultiLabel(none="neutral").learn(["neutral", None], "feelings")
    with pytest.raises(DataError, match="all 2 are missing"):
        fitted().fit(np.full((2, 2), np.nan), "feelings")


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"marker for none .* 'a' is listed"):
        heads.build("multi_label", {"classes": ["a", "b"], "none": "a"})
    with pytest.raises(ConfigError, match="listed again"):
        heads.build("multi_label", {"classes": ["a", "a"]})


def test_balanced_weights_by_hand():
    """Of four labelled records three have fear and one has joy."""
    np.testing.assert_allclose(fitted(class_weights="balanced").weights(), [[2, 2 / 3], [2 / 3, 2]])
    np.testing.assert_array_equal(fitted().weights(), np.ones((2, 2)))


def test_balanced_weights_weigh_one_per_record_on_average():
    task = fitted(class_weights="balanced")
    target = torch.from_numpy(task.encode(LABELS, "feelings"))
    _, weight = task.loss(torch.full((6, 2, 2), 0.5).log(), target)
    assert weight.item() == pytest.approx(4)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_loss_is_binary_cross_entropy_over_labelled_records(weights):
    task = fitted(class_weights=weights)
    logits = torch.randn(6, 2, dtype=torch.float64)
    target = torch.from_numpy(task.encode(LABELS, "feelings"))
    known = ~target.isnan().any(1)
    decision = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    loss, weight = task.loss(decision, target)
    table = torch.from_numpy(task.weights()).double()
    each = torch.where(target[known] > 0, table[:, 1], table[:, 0])
    theirs = F.binary_cross_entropy_with_logits(logits[known], target[known].double(), weight=each, reduction="none")
    torch.testing.assert_close(loss, theirs.mean(1).sum())
    torch.testing.assert_close(weight, each.mean(1).sum())


def test_missing_rows_contribute_exactly_nothing_even_beside_nan():
    task = fitted()
    logits = torch.randn(3, 2, requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [0.0, 0.0]])
    decision = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    spoiled = torch.where(target.isnan()[..., None], torch.full_like(decision, torch.nan), decision)
    loss, weight = task.loss(spoiled, target)
    loss.backward()
    assert weight.item() == 2
    assert (logits.grad[1] == 0).all()
    assert loss.item() == task.loss(decision[[0, 2]], target[[0, 2]])[0].item()
    loss, weight = task.loss(decision, torch.full((3, 2), torch.nan))
    assert (loss.item(), weight.item()) == (0, 0)


def test_the_head_s_yes_and_no_are_sure_together():
    head = MultiLabelHead(4, 3)
    decision = head(torch.randn(5, 4) * 100)
    assert decision.shape == (5, 3, 2)
    torch.testing.assert_close(decision.exp().sum(-1), torch.ones(5, 3))
    logits = head.linear(torch.ones(1, 4))
    torch.testing.assert_close(head(torch.ones(1, 4))[..., 1], F.logsigmoid(logits))


def test_the_prior_is_the_share_of_training_records_and_never_zero():
    np.testing.assert_allclose(np.exp(fitted().prior()), [[1.5 / 5, 3.5 / 5], [3.5 / 5, 1.5 / 5]])
    always = MultiLabel(classes=["a"])
    always.fit(np.ones((3, 1)), "x")
    np.testing.assert_allclose(np.exp(always.prior()), [[1 / 8, 7 / 8]])


def test_state_brings_a_task_back():
    task, again = fitted(class_weights="balanced"), MultiLabel(none="neutral", class_weights="balanced")
    again.restore(json.loads(json.dumps(task.state())))
    assert again.classes == task.classes
    np.testing.assert_array_equal(again.prior(), task.prior())
    np.testing.assert_array_equal(again.weights(), task.weights())


def test_even_chances_cost_log_2():
    loss, weight = fitted().loss(torch.full((1, 2, 2), 0.5).log(), torch.tensor([[1.0, 0.0]]))
    assert (loss / weight).item() == pytest.approx(math.log(2))


def test_a_loss_never_sees_what_was_answered_where_the_label_is_missing():
    seen = []

    class Spy(Bernoulli):
        def forward(self, decision, target, weights=None):
            seen.append((decision, target))
            return super().forward(decision, target, weights)

    task = fitted()
    task._loss = Spy()
    task.loss(torch.full((2, 2, 2), torch.nan), torch.full((2, 2), torch.nan))
    assert (seen[0][0] == 0).all()
    assert (seen[0][1] == 0).all()
