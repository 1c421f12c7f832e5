"""Both contests against their formulas, written plainly, and the values that can be checked by head."""

import math

import pytest
import torch
from torch.nn import functional as F

from fusionkit.augment.generative.contest import Game, Wasserstein


def test_the_value_of_an_undecided_discriminator():
    judge = lambda x: torch.zeros(len(x))
    loss, seen = Game().judging(judge, torch.randn(5, 2), torch.randn(5, 2), torch.Generator())
    assert loss.item() == pytest.approx(1.386294, abs=1e-6)
    assert seen["value"].item() == pytest.approx(-math.log(4))
    assert seen["real"].item() == seen["made"].item() == 0.5


@pytest.mark.parametrize("form", ["minimax", "non_saturating"])
def test_the_game_is_its_formula(form):
    weights = torch.tensor([0.7, -1.3])
    real, made = torch.randn(2, 9, 2)
    judge = lambda x: x @ weights
    right, wrong = (1 / (1 + torch.exp(-(x @ weights))) for x in (real, made))
    value = sum(math.log(d) for d in right) / 9 + sum(math.log(1 - d) for d in wrong) / 9
    loss, seen = Game(form).judging(judge, real, made, torch.Generator())
    assert loss.item() == pytest.approx(-value, rel=1e-5)
    assert seen["real"].item() == pytest.approx(right.mean().item(), rel=1e-5)
    assert seen["made"].item() == pytest.approx(wrong.mean().item(), rel=1e-5)
    oracle = F.binary_cross_entropy_with_logits(judge(real), torch.ones(9)) + F.binary_cross_entropy_with_logits(
        judge(made), torch.zeros(9)
    )
    torch.testing.assert_close(loss, oracle)
    lost = sum(math.log(1 - d) if form == "minimax" else -math.log(d) for d in wrong) / 9
    assert Game(form).making(judge, made).item() == pytest.approx(lost, rel=1e-5)


@pytest.mark.parametrize("logit", [-6.0, -1.0, 0.0, 2.0])
def test_the_generators_gradients_by_the_discriminators_number(logit):
    sigma = 1 / (1 + math.exp(-logit))
    for form, wanted in (("minimax", -sigma), ("non_saturating", -(1 - sigma))):
        number = torch.tensor([logit], requires_grad=True)
        Game(form).making(lambda x: x, number).backward()
        assert number.grad.item() == pytest.approx(wanted, rel=1e-5)


def test_far_numbers_stay_finite():
    far = torch.tensor([-200.0, 200.0], requires_grad=True)
    for form in ("minimax", "non_saturating"):
        Game(form).making(lambda x: x, far).backward()
        assert far.grad.isfinite().all()
        loss, _ = Game(form).judging(lambda x: x, far, far, torch.Generator())
        assert loss.isfinite()


def test_the_wasserstein_estimate():
    direction = torch.tensor([0.6, 0.8])
    real, made = torch.tensor([[1.8, 2.4]]).repeat(4, 1), torch.tensor([[0.6, 0.8]]).repeat(4, 1)
    judge = lambda x: x @ direction
    loss, seen = Wasserstein(10.0).judging(judge, real, made, torch.Generator().manual_seed(0))
    assert seen["wasserstein"].item() == pytest.approx(2)
    assert seen["gradient_penalty"].item() == pytest.approx(0, abs=1e-10)
    assert loss.item() == pytest.approx(-2)
    assert Wasserstein(10.0).making(judge, made).item() == pytest.approx(-1)


def test_the_critics_loss_is_the_papers():
    weights = torch.tensor([3.0, 4.0])
    real, made = torch.randn(2, 6, 2)
    loss, _ = Wasserstein(7.0).judging(lambda x: x @ weights, real, made, torch.Generator().manual_seed(0))
    wanted = (made @ weights).mean() - (real @ weights).mean() + 7 * (5 - 1) ** 2
    torch.testing.assert_close(loss, wanted)
