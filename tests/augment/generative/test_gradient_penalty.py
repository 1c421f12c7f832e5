"""The gradient penalty: its value for a linear critic, by finite differences for another, and what it makes critics learn."""

import pytest
import torch
from torch import nn

from fusionkit.augment.generative.contest import Wasserstein
from fusionkit.augment.generative.gradient_penalty import gradient_penalty


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_linear_critic_of_slope_five_is_charged_sixteen():
    weights = torch.tensor([3.0, 4.0])
    real, made = torch.randn(2, 7, 2)
    assert gradient_penalty(lambda x: x @ weights, real, made, generator()).item() == pytest.approx(16)
    loss, seen = Wasserstein(10.0).judging(lambda x: x @ weights, real, real, generator())
    assert loss.item() == pytest.approx(160)
    assert seen["gradient_penalty"].item() == pytest.approx(16)


def test_its_gradient_is_that_of_the_formula():
    weights = torch.tensor([3.0, 4.0], requires_grad=True)
    gradient_penalty(lambda x: x @ weights, torch.randn(4, 2), torch.randn(4, 2), generator()).backward()
    torch.testing.assert_close(weights.grad, 2 * (5 - 1) * torch.tensor([3.0, 4.0]) / 5)


def test_matches_finite_differences_between_real_and_made():
    torch.manual_seed(3)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, made = torch.randn(2, 6, 3, dtype=torch.float64)
    share = torch.rand((6, 1), generator=generator(9)).double()
    between = share * real + (1 - share) * made
    slopes = torch.zeros(6, 3, dtype=torch.float64)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-5
        slopes[:, axis] = ((critic(between + step) - critic(between - step)) / 2e-5)[:, 0].detach()
    wanted = (slopes.square().sum(1).sqrt() - 1).square().mean()
    found = gradient_penalty(lambda x: critic(x)[:, 0], real, made, generator(9))
    torch.testing.assert_close(found, wanted, atol=1e-8, rtol=1e-6)
    parameters = list(critic.parameters())
    once = torch.autograd.grad(gradient_penalty(lambda x: critic(x)[:, 0], real, made, generator(9)), parameters[0])[0]
    with torch.no_grad():
        parameters[0][1, 2] += 1e-6
        more = _value(critic, real, made)
        parameters[0][1, 2] -= 2e-6
        less = _value(critic, real, made)
    assert once[1, 2].item() == pytest.approx((more - less) / 2e-6, rel=1e-4)


def _value(critic, real, made):
    with torch.enable_grad():
        return gradient_penalty(lambda x: critic(x)[:, 0], real, made, generator(9)).item()


def test_the_points_lie_between_real_and_made_each_at_a_place_of_its_own():
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    real, made = torch.zeros(500, 2, 3), torch.ones(500, 2, 3)
    gradient_penalty(critic, real, made, generator())
    places = seen[0].flatten(1)
    assert torch.equal(places.amin(1), places.amax(1))
    assert places.min() >= 0 and places.max() <= 1
    assert places[:, 0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert places[:, 0].var().item() == pytest.approx(1 / 12, abs=0.01)


def test_a_critic_without_slope_is_charged_one_and_gets_finite_gradients():
    weights = torch.zeros(3, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ weights, torch.randn(4, 3), torch.randn(4, 3), generator())
    penalty.backward()
    assert penalty.item() == 1
    assert weights.grad.isfinite().all()
