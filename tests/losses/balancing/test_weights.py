"""Weights of losses: hand values, plain formulas, missing labels, state."""

import math

import pytest
import torch
from torch import nn

from fusionkit.core.registry import balancing
from fusionkit.losses.balancing.dwa import DynamicWeightAverage
from fusionkit.losses.balancing.gradnorm import GradNorm
from fusionkit.losses.balancing.uncertainty import Uncertainty

BOTH = torch.tensor([True, True])
CLASSES = ["probabilities", "probabilities"]


def numbers(*values):
    return torch.tensor(values)


@pytest.mark.parametrize("kind", balancing.kinds())
def test_a_task_without_labels_has_no_term_and_keeps_its_weight(kind):
    torch.manual_seed(0)
    balance = balancing.build(kind, {}, ["probabilities", "value", "value"]).train()
    layer = nn.Linear(4, 3, bias=False)
    trained = [*layer.parameters(), *balance.parameters()]
    optimiser = torch.optim.Adam(trained, lr=0.1)

    def norms(losses):
        return torch.stack([torch.autograd.grad(loss, layer.weight, retain_graph=True)[0].norm() for loss in losses])

    def step(labelled):
        optimiser.zero_grad()
        losses = layer(torch.randn(8, 4)).square().mean(0) * labelled
        terms = balance(losses, labelled)
        balance.learn(losses, labelled, norms)
        terms.sum().backward()
        optimiser.step()
        balance.settle()
        return terms, layer.weight.grad

    for _ in range(3):
        step(torch.tensor([True, True, True]))
    balance.close_epoch()
    before = balance.weights()
    terms, gradient = step(torch.tensor([True, False, True]))
    assert terms[1] == 0 and not gradient[1].any() and gradient[0].any()
    assert balance.weights()[1] == before[1]
    terms, gradient = step(torch.tensor([False, False, False]))
    assert not terms.any() and not gradient.any()


@pytest.mark.parametrize("kind", balancing.kinds())
def test_state_is_whole(kind):
    """Two runs from one state go on alike."""
    one, other = (balancing.build(kind, {}, CLASSES).train() for _ in range(2))
    norms = lambda losses: losses.detach() * torch.tensor([2.0, 5.0])
    for epoch in range(3):
        one.learn(numbers(0.5 + epoch, 0.8), BOTH, norms)
        one.close_epoch()
    one.learn(numbers(0.4, 0.9), BOTH, norms)
    other.load_state_dict(one.state_dict())
    for balance in (one, other):
        balance.learn(numbers(0.3, 0.7), BOTH, norms)
        balance.close_epoch()
    assert torch.equal(one.weights(), other.weights())
    assert kind in ("fixed", "uncertainty") or not torch.equal(one.weights(), torch.ones(2))


@pytest.mark.parametrize(("outcome", "variance", "value"), [("value", 4.0, 1.19315), ("probabilities", 8.0, 1.53972)])
def test_a_loss_of_four_settles_where_the_formula_says(outcome, variance, value):
    """Values: variance 4 and 1/2 + log(4)/2; classes: variance 8 and 1/2 + log(8)/2."""
    balance = Uncertainty([outcome]).train()
    optimiser = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(2000):
        optimiser.zero_grad()
        balance(torch.tensor([4.0]), torch.tensor([True])).sum().backward()
        optimiser.step()
    assert balance.log_variance.item() == pytest.approx(math.log(variance), abs=1e-3)
    assert balance(torch.tensor([4.0]), torch.tensor([True])).item() == pytest.approx(value, abs=1e-5)


def test_uncertainty_of_values_and_of_classes():
    balance = Uncertainty(["value", "probabilities"])
    balance.log_variance.data = numbers(0.3, -0.7)
    wanted = numbers(0.5 * math.exp(-0.3) * 2 + 0.15, math.exp(0.7) * 3 - 0.35)
    torch.testing.assert_close(balance(numbers(2.0, 3.0), BOTH), wanted)
    torch.testing.assert_close(balance.weights(), numbers(0.5 * math.exp(-0.3), math.exp(0.7)))


def test_gradnorms_hand_values():
    balance = GradNorm(CLASSES, alpha=1.5)
    balance.first.copy_(torch.ones(2))
    targets = balance.targets(numbers(2.0, 4.0), numbers(0.5, 0.8), BOTH)
    torch.testing.assert_close(targets, numbers(2.02398, 4.09625), atol=5e-6, rtol=0)
    assert (numbers(2.0, 4.0) - targets).abs().sum().item() == pytest.approx(0.12023, abs=2e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_gradnorm_descends_on_its_loss_with_targets_held(alpha):
    """One step against autograd on L_grad / mean norm, then the sum is the number of tasks again."""
    balance = GradNorm(["value"] * 3, alpha=alpha, lr=0.01)
    balance.first.copy_(numbers(2.0, 1.0, 4.0))
    balance.weight.copy_(numbers(0.6, 1.5, 0.9))
    losses, norm = numbers(1.0, 0.9, 3.0), numbers(3.0, 1.0, 2.0)
    weight = balance.weight.clone().requires_grad_()
    actual = weight * norm
    pace = (losses / balance.first) / (losses / balance.first).mean()
    target = (actual.mean() * pace**alpha).detach()
    slope = torch.autograd.grad((actual - target).abs().sum() / actual.mean().detach(), weight)[0]
    moved = weight.detach() - 0.01 * slope
    balance.learn(losses, torch.ones(3, dtype=torch.bool), lambda _: norm)
    torch.testing.assert_close(balance.weights(), moved * 3 / moved.sum())


def test_gradnorm_evens_out_norms_and_leaves_even_ones():
    balance = GradNorm(CLASSES, alpha=0.0, lr=0.01)
    for _ in range(300):
        balance.learn(numbers(1.0, 1.0), BOTH, lambda _: numbers(1.0, 4.0))
    torch.testing.assert_close(balance.weights(), numbers(1.6, 0.4), atol=0.03, rtol=0)
    balance = GradNorm(CLASSES, alpha=0.0)
    for _ in range(10):
        balance.learn(numbers(1.0, 3.0), BOTH, lambda _: numbers(2.0, 2.0))
    torch.testing.assert_close(balance.weights(), torch.ones(2))


def test_gradnorm_takes_first_losses_when_they_come_and_weights_stay_above_zero():
    balance = GradNorm(CLASSES, lr=0.5)
    balance.learn(numbers(3.0, 0.0), torch.tensor([True, False]), lambda _: numbers(1.0, 0.0))
    assert balance.first[0] == 3 and balance.first[1].isnan() and balance.weights().tolist() == [1, 1]
    for _ in range(20):
        balance.learn(numbers(2.0, 5.0), BOTH, lambda _: numbers(100.0, 0.01))
    assert balance.first.tolist() == [3, 5]
    assert (balance.weights() > 0).all() and balance.weights().sum().item() == pytest.approx(2, rel=1e-5)


def test_no_gradient_of_gradnorm_flows_into_the_model():
    balance, layer = GradNorm(CLASSES).train(), nn.Linear(2, 2)
    losses = layer(torch.ones(1, 2)).square()[0]
    terms = balance(losses, BOTH)
    balance.learn(losses, BOTH, lambda _: torch.stack([*losses]))
    weight = torch.ones(2)
    terms.sum().backward()
    plain = nn.Linear(2, 2)
    plain.load_state_dict(layer.state_dict())
    (weight * plain(torch.ones(1, 2)).square()[0]).sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_dynamic_weight_average_by_hand():
    balance = DynamicWeightAverage(CLASSES)
    epochs = [[(1.0, 1.0)], [(0.4, 1.2), (0.6, 0.8)], [(0.5, 0.5)]]
    seen = []
    for batches in epochs:
        seen.append(balance.weights())
        for losses in batches:
            balance.learn(numbers(*losses), BOTH, lambda losses: losses)
        balance.close_epoch()
    assert torch.equal(seen[0], torch.ones(2)) and torch.equal(seen[1], torch.ones(2))
    torch.testing.assert_close(seen[2], numbers(0.8756, 1.1244), atol=5e-5, rtol=0)
    ratios = [math.exp(1.0 / 2), math.exp(0.5 / 2)]
    wanted = [2 * ratio / sum(ratios) for ratio in ratios]
    torch.testing.assert_close(balance.weights(), numbers(*wanted))


def test_an_epoch_without_labels_leaves_a_tasks_pace_as_it_was():
    balance = DynamicWeightAverage(CLASSES)
    for losses in ((1.0, 1.0), (0.5, 0.9)):
        balance.learn(numbers(*losses), BOTH, lambda losses: losses)
        balance.close_epoch()
    before = balance.means.clone()
    balance.learn(numbers(0.4, 0.0), torch.tensor([True, False]), lambda losses: losses)
    balance.close_epoch()
    assert torch.equal(balance.means[:, 1], before[:, 1]) and balance.means[0, 0] == 0.4
