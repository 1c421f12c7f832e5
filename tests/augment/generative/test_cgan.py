"""The first conditional GAN: maxout, and the paper's widths."""

import torch
from torch import nn

from fusionkit.augment.generative.cgan import CGAN, Maxout
from fusionkit.augment.generative.generator import Item
from fusionkit.core.levels import WindowShape


def test_two_pieces_can_make_an_absolute_value():
    layer = Maxout(1, 1, 2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.linear.bias.zero_()
    assert layer(torch.tensor([[-3.0], [2.0]])).tolist() == [[3.0], [2.0]]


def test_maxout_is_the_largest_of_its_pieces_unit_by_unit():
    layer, values = Maxout(4, 3, 5), torch.randn(6, 4)
    weight, bias = layer.linear.weight.reshape(3, 5, 4), layer.linear.bias.reshape(3, 5)
    for row in range(6):
        for unit in range(3):
            pieces = [(weight[unit, piece] @ values[row] + bias[unit, piece]).item() for piece in range(5)]
            assert abs(layer(values)[row, unit].item() - max(pieces)) < 1e-5


def test_the_papers_widths_for_mnist():
    made = CGAN(Item("window", WindowShape((784,)), 10))
    maker = [(part.in_features, part.out_features) for part in made.makers.modules() if isinstance(part, nn.Linear)]
    assert maker == [(100, 200), (10, 1000), (1200, 1200), (1200, 784)]
    judge = [(part.units, part.pieces) for part in made.judges.modules() if isinstance(part, Maxout)]
    assert judge == [(240, 5), (50, 5), (240, 4)]


def test_noise_is_drawn_alike_between_minus_one_and_one():
    noise = CGAN(Item("window", WindowShape((4,)), 2))._noise(1000, torch.Generator().manual_seed(0))
    assert noise.shape == (1000, 100)
    assert noise.min() >= -1 and noise.max() < 1
    assert abs(noise.mean().item()) < 0.01
    assert abs(noise.var().item() - 1 / 3) < 0.01
