"""The first GAN: a pair a class, with either loss of the generator."""

import pytest
import torch
from torch import nn

from fusionkit.augment.generative.gan import GAN
from fusionkit.augment.generative.generator import Item
from fusionkit.core.levels import WindowShape


def test_there_is_a_pair_of_a_class_and_they_share_nothing():
    made = GAN(Item("window", WindowShape((3, 8)), 4), hidden=16, layers=2, latent=5)
    sizes = [(part.in_features, part.out_features) for part in made.makers.modules() if isinstance(part, nn.Linear)]
    assert sizes == 4 * [(5, 16), (16, 16), (16, 24)]
    starts = [maker.layers[0].weight for maker in made.makers]
    assert not any(torch.equal(starts[0], other) for other in starts[1:])


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_it_learns_classes_apart(loss):
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0]])
    label = torch.arange(200) % 2
    values = (centres[label] + torch.randn(200, 2)).reshape(200, 1, 2, 1)
    made = GAN(
        Item("features", WindowShape((1, 2, 1)), 2), loss=loss, hidden=32, layers=2, latent=4, learning_rate=1e-3
    )
    made.prepare(values, label)
    generator = torch.Generator().manual_seed(0)
    players = [(turn, turn.optimiser(turn.parameters)) for turn in made.turns()]
    for _ in range(150):
        for turn, optimiser in players:
            optimiser.zero_grad()
            turn.loss(made.standardise(values), label, generator)[0].backward()
            optimiser.step()
    found = made.sample(label, generator).values.flatten(1)
    assert (torch.cdist(found, centres).argmin(1) == label).float().mean() >= 0.95
