"""Training signal annealing: its thresholds, and the gradients of records that are held back."""

import pytest
import torch

from fusionkit.pretraining.consistency.annealing import hold_back, threshold


def at(progress, shape, classes=10):
    return float(threshold(torch.tensor(progress, dtype=torch.float64), classes, shape))


@pytest.mark.parametrize(
    ("shape", "begin", "middle", "end"),
    [("linear", 0.1, 0.55, 1.0), ("log", 0.1, 0.926124, 0.993936), ("exp", 0.106064, 0.173876, 1.0)],
)
def test_hand_values(shape, begin, middle, end):
    assert [at(t, shape) for t in (0.0, 0.5, 1.0)] == pytest.approx([begin, middle, end], abs=1e-6)
    assert at(0.0, "linear", 4) == 0.25


def test_what_is_answered_well_enough_loses_its_target():
    answer = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]]).log()
    target = torch.tensor([0.0, 1.0, 0.0, torch.nan])
    left = hold_back(answer, target, torch.tensor(0.55))
    assert left[1:3].tolist() == [1.0, 0.0] and left[[0, 3]].isnan().all()


def test_a_record_with_several_labels_goes_when_all_of_them_are_known():
    yes = torch.tensor([[0.9, 0.9], [0.9, 0.4]])
    answer = torch.stack([1 - yes, yes], -1).log()
    left = hold_back(answer, torch.ones(2, 2), torch.tensor(0.55))
    assert left[0].isnan().all() and left[1].tolist() == [1.0, 1.0]


def test_a_masked_record_has_zero_gradient_and_a_batch_of_them_no_nan(objective, batch, generator):
    made, data = objective([("uda", {"annealing": "linear", "weight": 1e-9})], dropout=0.0), batch(labelled=8)
    held = made.consistency[0]
    with torch.no_grad():  # the first of three classes is believed, whatever is seen
        for branch in made.model.branch_heads.values():
            branch.made[0].linear.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    output = made.model(data.inputs)
    answer = output.decisions["state"].detach().requires_grad_()
    target = held.release(answer, data.targets["state"])
    assert target.isnan().tolist() == (data.targets["state"] == 0).tolist()
    loss, weight = made.tasks["state"].loss(answer, target)
    (loss / weight).backward()
    assert not answer.grad[target.isnan()].any() and answer.grad[~target.isnan()].any(1).all()
    data.targets = {name: torch.zeros_like(target) for name, target in data.targets.items()}
    with torch.no_grad():
        for branch in made.model.branch_heads.values():
            branch.made[1].linear.bias.copy_(torch.tensor([-9.0, -9.0]))
    loss = made(data, generator())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    grads = [p.grad for p in made.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)
    assert max(float(grad.abs().max()) for grad in grads) < 1e-6


def test_at_the_end_every_label_counts(objective, batch, generator):
    held = objective([("uda", {"annealing": "linear"})]).consistency[0]
    target = batch(labelled=8).targets["state"]
    answer = torch.randn(8, 3, generator=generator()).log_softmax(-1)
    assert held.release(answer, target).isnan().any()
    held.step.fill_(10)
    assert torch.equal(held.release(answer, target), target)
