"""Multi-scale: the tower against plain loops, gradients at every scale, masks, one branch without the other."""

import pytest
import torch

from fusionkit.core.levels import Tokens
from fusionkit.fusion.multi_scale import MultiScale, Tower, halve


def stream(values, mask=None, present=None):
    rows, steps = values.shape[:2]
    return Tokens(
        values,
        torch.ones(rows, steps, dtype=torch.bool) if mask is None else mask,
        torch.ones(rows, dtype=torch.bool) if present is None else present,
    )


def test_halves_by_hand():
    values = torch.tensor([[[1.0], [3.0], [8.0]]])
    for mask, means, real in (
        ([True, True, True], [2.0, 8.0], [True, True]),
        ([True, False, False], [1.0, 0.0], [True, False]),
        ([False, True, True], [3.0, 8.0], [True, True]),
    ):
        halved, short = halve(values, torch.tensor([mask]))
        assert halved.flatten().tolist() == means and short.flatten().tolist() == real


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_the_tower_is_the_plain_formula(steps):
    torch.manual_seed(0)
    tower = Tower(2, 3, 3)
    x = torch.randn(1, steps, 2)
    found, mask = tower(x, torch.ones(1, steps, dtype=torch.bool))
    state, fused = x[0], None
    for convolution in tower.convolutions:
        length = (len(state) + 1) // 2
        new = torch.zeros(length, 3)
        for j in range(length):
            total = convolution.bias.clone()
            for tap in range(3):
                place = 2 * j + tap - 1
                if 0 <= place < len(state):
                    total = total + convolution.weight[:, :, tap] @ state[place]
            new[j] = total.relu()
        fused = new if fused is None else torch.stack([fused[2 * j : 2 * j + 2].mean(0) for j in range(length)]) + new
        state = new
    torch.testing.assert_close(found[0, : len(fused)], fused)
    assert mask[0].tolist() == [True] * len(fused) + [False] and not found[0, len(fused) :].any()


def test_a_gradient_reaches_every_scale_by_the_companion_stream_alone():
    """With the next convolutions cut off, the first still counts."""
    torch.manual_seed(0)
    tower = Tower(2, 3, 3)
    with torch.no_grad():
        for convolution in tower.convolutions[1:]:
            convolution.weight.zero_()
            convolution.bias.fill_(1.0)
    found, _ = tower(torch.randn(1, 8, 2), torch.ones(1, 8, dtype=torch.bool))
    found.sum().backward()
    assert all(convolution.weight.grad.any() for convolution in tower.convolutions)


def test_a_longer_window_of_padding_is_the_same():
    torch.manual_seed(0)
    made = MultiScale({"a": 2}, 4, None)
    for steps in (1, 5, 6, 8):
        x = torch.randn(2, steps, 2)
        wanted = made({"a": stream(x)}).values
        for extra in (1, 2, 7):
            mask = torch.arange(steps + extra).expand(2, -1) < steps
            longer = torch.cat([x, torch.full((2, extra, 2), torch.nan)], 1)
            torch.testing.assert_close(made({"a": stream(longer, mask)}).values, wanted)


def test_without_one_branch_the_other_still_answers():
    torch.manual_seed(0)
    made = MultiScale({"image": 2, "tags": 2}, 4, None)
    image, tags = torch.randn(2, 9, 2), torch.randn(2, 1, 2)
    nobody = torch.zeros(2, dtype=torch.bool)
    alone = made({"image": stream(image), "tags": stream(tags, present=nobody)})
    tower, _ = made.towers[0](image, torch.ones(2, 9, dtype=torch.bool))
    wanted = made.out(made.refine(torch.cat([tower.sum(1) / 2, torch.zeros(2, 4)], 1)).relu())
    torch.testing.assert_close(alone.values[:, 0], wanted)
    assert not torch.allclose(made({"image": stream(image), "tags": stream(tags)}).values, alone.values)
