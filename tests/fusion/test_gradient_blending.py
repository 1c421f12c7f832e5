"""Gradient blending: the joint layers, the weights' formula by hand and by exhaustive search, and its guards."""

import pytest
import torch

from fusionkit.fusion.gradient_blending import GradientBlending, blend
from fusionkit.testing.streams import make_tokens, without


def losses(gain, growth):
    """Losses at two times that fall by ``gain`` on held-out records, whose gaps grow by ``growth``."""
    gain, growth = torch.tensor(gain), torch.tensor(growth)
    before = torch.stack([torch.full_like(gain, 1.0), torch.full_like(gain, 1.2)])
    held = before[1] - gain
    return before, torch.stack([held - 0.2 - growth, held])


def test_the_weights_of_the_docstring():
    weights = blend(*losses([0.3, 0.1], [0.2, 0.1]))
    torch.testing.assert_close(weights, torch.tensor([7.5, 10]) / 17.5)


def test_the_blend_has_the_least_ratio_of_overfitting_to_generalising():
    gain, growth = torch.tensor([0.3, 0.1, 0.2]), torch.tensor([0.2, 0.1, -0.15])
    weights = blend(*losses(gain.tolist(), growth.tolist()))
    grid = torch.cartesian_prod(torch.linspace(0, 1, 101), torch.linspace(0, 1, 101))
    grid = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
    grid = grid[grid[:, 2] >= 0]
    ratio = ((grid * growth) ** 2).sum(1) / (grid @ gain) ** 2  # of uncorrelated gradients
    torch.testing.assert_close(weights, grid[ratio.argmin()], atol=0.011, rtol=0)


def test_what_gained_nothing_has_no_weight_and_without_any_gain_all_weigh_alike():
    weights = blend(*losses([0.3, -0.1, 0.1], [0.1, 0.1, 0.1]))
    torch.testing.assert_close(weights, torch.tensor([0.75, 0, 0.25]))
    assert blend(*losses([-0.3, 0.0], [0.1, 0.2])).tolist() == [0.5, 0.5]


def test_a_gap_that_did_not_change_does_not_take_all():
    weights = blend(*losses([0.1, 0.1, 0.1], [0.0, 0.1, 0.1]))  # the floor is a tenth of 0.01
    torch.testing.assert_close(weights, torch.tensor([10.0, 1, 1]) / 12, atol=1e-4, rtol=0)
    assert blend(*losses([0.1, 0.3], [0.0, 0.0])).isfinite().all()


def test_no_weight_is_above_the_cap_and_the_others_share_the_rest_as_they_were():
    weights = blend(*losses([0.3, 0.01, 0.03], [0.1, 0.1, 0.1]), cap=0.6)
    torch.testing.assert_close(weights, torch.tensor([0.6, 0.1, 0.3]))
    torch.testing.assert_close(blend(*losses([0.3, 0.0, 0.0], [0.1, 0.1, 0.1]), 0.8), torch.tensor([0.8, 0.1, 0.1]))


@pytest.mark.parametrize("absent", [None, "b"])
def test_the_joint_answer_and_the_sensors_own_vectors(absent):
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 5, g) for name in "ab"}
    if absent:
        inputs = without(inputs, absent)
    op = GradientBlending({"a": 4, "b": 4}, 4, None)
    fused = op(inputs)
    for row in range(5):
        means = []
        for name in "ab":
            real = inputs[name].mask[row] & inputs[name].present[row]
            means.append(inputs[name].values[row][real].mean(0) if real.any() else torch.zeros(4))
            torch.testing.assert_close(fused.streams[name].values[row, 0], means[-1])
            assert fused.streams[name].present[row] == real.any()
        if fused.tokens.mask[row].any():
            wanted = op.out(torch.relu(op.inner(torch.cat(means))))
            torch.testing.assert_close(fused.tokens.values[row, 0], wanted)
    assert op.weight.tolist() == pytest.approx([1 / 3] * 3)
