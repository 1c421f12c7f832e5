"""Regression: the label's unit outside, standard deviations inside."""

import json

import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.heads.regression import Regression

LABELS = ["10", None, "14", " 1.2e1 ", "", "nan"]


def fitted(**options):
    task = Regression(**options)
    task.learn(LABELS, "count")
    task.fit(task.encode(LABELS, "count"), "count")
    return task


def test_numbers_are_read_and_missing_ones_are_nan():
    targets = Regression().encode(LABELS, "count")
    np.testing.assert_array_equal(targets, [10, np.nan, 14, 12, np.nan, np.nan])
    assert targets.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "rule"), [("good", "be a number"), ("27,5", "be a number"), ("inf", "finite"), ("-1e39", "finite")]
)
def test_what_is_no_finite_number_is_refused_with_task_row_and_value(text, rule):
    with pytest.raises(DataError, match=f"task 'count' row 2: a label must .*{rule}.*, but got '{text}'"):
        Regression().learn(["1", text], "count")


def test_decisions_are_in_the_label_s_unit():
    task = fitted()
    deviation = np.std([10, 12, 14])
    assert (task.mean, task.deviation) == pytest.approx((12, deviation))
    head = task.head(3)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.fill_(0.5)
    torch.testing.assert_close(head(torch.zeros(2, 3)), torch.full((2, 1), 12 + deviation / 2, dtype=torch.float32))


def test_the_loss_is_in_standard_deviations():
    task = fitted()
    target = torch.tensor([12.0, torch.nan, 14.0])
    decision = torch.tensor([[12.0 + 2 * task.deviation], [99.0], [14.0]], requires_grad=True)
    loss, weight = task.loss(decision, target)
    loss.backward()
    assert loss.item() == pytest.approx(4)
    assert weight.item() == 2
    assert decision.grad[1].item() == 0
    loss, _ = fitted(loss={"kind": "huber", "delta": 0.5}).loss(decision, target)
    assert loss.item() == pytest.approx(0.5 * (2 - 0.25))


def test_the_unit_of_the_label_changes_nothing_but_the_unit():
    """Labels times 1000 plus 5: the same loss, the same gradient, answers times 1000 plus 5."""
    values = np.array([1.0, 2.0, 4.0, 7.0], dtype=np.float32)
    readout = torch.randn(4, 3)
    results = []
    for scale, shift in ((1.0, 0.0), (1000.0, 5.0)):
        task = Regression()
        task.fit(values * scale + shift, "count")
        torch.manual_seed(1)
        head = task.head(3)
        decision = head(readout)
        loss, _ = task.loss(decision, torch.from_numpy(values * scale + shift))
        loss.backward()
        results.append((loss, head.linear.weight.grad, (decision - shift) / scale))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_missing_labels_beside_nan_answers_leave_no_trace():
    task = fitted()
    decision = torch.tensor([[torch.nan], [12.0]], requires_grad=True)
    loss, weight = task.loss(decision, torch.tensor([torch.nan, 12.0]))
    loss.backward()
    assert (loss.item(), weight.item()) == (0, 1)
    assert (decision.grad == 0).all()
    loss, weight = task.loss(decision, torch.full((2,), torch.nan))
    assert (loss.item(), weight.item()) == (0, 0)


def test_mean_and_deviation_travel_with_the_weights():
    head = fitted().head(3)
    fresh = Regression().head(3)
    fresh.load_state_dict(head.state_dict())
    readout = torch.randn(2, 3)
    assert torch.equal(fresh(readout), head(readout))


def test_state_brings_a_task_back():
    task, again = fitted(), Regression()
    again.restore(json.loads(json.dumps(task.state())))
    assert (again.mean, again.deviation) == (task.mean, task.deviation)
    np.testing.assert_array_equal(again.prior(), [12])


def test_one_value_only_is_no_division_by_zero():
    task = Regression()
    task.fit(np.array([0.1, 0.1, 0.1]), "count")
    loss, _ = task.loss(torch.tensor([[0.1]]), torch.tensor([0.1]))
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_labels_that_float32_cannot_tell_apart_are_refused():
    with pytest.raises(DataError, match="subtract a constant"):
        Regression().fit(np.array([1.7e9, 1.7e9 + 5]), "moment")


def test_training_without_any_label_is_refused():
    with pytest.raises(DataError, match=r"task 'count': .* all 2 are missing"):
        Regression().fit(np.full(2, np.nan), "count")


def test_the_loss_needs_a_fit():
    with pytest.raises(ConfigError, match="must be fitted"):
        Regression().loss(torch.zeros(1, 1), torch.zeros(1))


def test_the_head_answers_in_float32_at_least():
    head = fitted().head(3).to(torch.bfloat16)
    assert head(torch.randn(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    assert fitted().head(3).double()(torch.randn(2, 3, dtype=torch.float64)).dtype == torch.float64
