"""The conditional WGAN-GP: its sizes, and that it learns a mixture whose classes are known."""

import pytest
import torch
from torch import nn

from fusionkit.augment.generative.cwgan_gp import CWGANGP
from fusionkit.augment.generative.generator import Item
from fusionkit.augment.generative.wgan_gp import WGANGP
from fusionkit.core.levels import WindowShape


def sizes(net):
    return [(part.in_features, part.out_features) for part in net.modules() if isinstance(part, nn.Linear)]


def test_the_sizes_for_seed():
    made = CWGANGP(Item("features", WindowShape((1, 62, 5)), 3))
    assert sizes(made.makers) == [(131, 512), (512, 512), (512, 512), (512, 310)]
    assert sizes(made.judges) == [(313, 512), (512, 512), (512, 512), (512, 1)]
    assert (made.contest.weight, made.critic_steps) == (10, 5)
    assert not [part for part in made.modules() if isinstance(part, nn.BatchNorm1d)], "no batch in the penalty"


def test_the_unconditional_one_has_a_pair_a_class():
    made = WGANGP(Item("features", WindowShape((1, 62, 5)), 3))
    assert sizes(made.makers) == 3 * [(128, 512), (512, 512), (512, 512), (512, 310)]
    assert sizes(made.judges) == 3 * [(310, 512), (512, 512), (512, 512), (512, 1)]


@pytest.mark.parametrize("cls", [CWGANGP, pytest.param(WGANGP, marks=pytest.mark.slow)])
def test_it_learns_a_mixture_whose_classes_are_known(cls):
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    label = torch.arange(600) % 3
    values = (centres[label] + torch.randn(600, 2)).reshape(600, 1, 2, 1)
    made = cls(
        Item("features", WindowShape((1, 2, 1)), 3), latent=8, hidden=64, learning_rate=3e-4, penalty=0.1, average=0.95
    )
    made.prepare(values, label)
    generator = torch.Generator().manual_seed(0)
    players = [(turn, turn.optimiser(turn.parameters)) for turn in made.turns()]
    standard = made.standardise(values)
    for _ in range(220):
        for turn, optimiser in players:
            for _ in range(turn.times):
                rows = torch.randint(0, 600, (96,), generator=generator)
                optimiser.zero_grad()
                loss, _ = turn.loss(standard[rows], label[rows], generator)
                loss.backward()
                optimiser.step()
        made.settle()
    wanted = torch.arange(900) % 3
    found = made.sample(wanted, generator).values.flatten(1)
    assert (torch.cdist(found, centres).argmin(1) == wanted).float().mean() >= 0.95
    for class_ in range(3):
        own = found[wanted == class_]
        assert (own.mean(0) - centres[class_]).norm() < 1.0
        assert 0.4 < own.std(0).mean() < 1.6, "no class has collapsed"
