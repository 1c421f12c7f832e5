"""The conditional autoencoder: its divergence and bound in closed form, and what its decoder makes."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from fusionkit.augment.generative.cvae import CVAE, divergence
from fusionkit.augment.generative.generator import Item
from fusionkit.core.levels import WindowShape

ITEM = Item("features", WindowShape((1, 2, 2)), 3)


def test_the_divergence_by_hand():
    assert divergence(torch.ones(1, 1), torch.zeros(1, 1)).item() == 0.5
    assert divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]
    four = divergence(torch.zeros(1, 1), torch.tensor([[math.log(4.0)]]))
    assert four.item() == pytest.approx((4 - 1 - math.log(4)) / 2)


def test_the_divergence_is_torchs():
    mean, logarithm = torch.randn(2, 7, 4)
    oracle = kl_divergence(Normal(mean, (logarithm / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, logarithm), oracle)


class Told(nn.Module):
    """An encoder that says one mean and one variance for all, or a decoder that is linear in z."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, values, beside):
        return self.function(values, beside)


def test_the_bound_in_closed_form():
    made = CVAE(ITEM, latent=2, hidden=4, layers=1)
    mean, logarithm = torch.tensor([0.5, -1.0]), torch.tensor([0.3, -0.7])
    weights, shift = torch.randn(2, 4), torch.randn(3, 4)
    made.encoder = Told(lambda x, y: torch.cat([mean, logarithm]).expand(len(x), 4))
    made.decoder = Told(lambda z, y: z @ weights + y @ shift)
    values, label = torch.randn(3, 1, 2, 2), torch.arange(3)
    (turn,) = made.turns()
    draws = 40_000
    every = torch.arange(3).repeat(draws)
    loss, seen = turn.loss(values[every], label[every], torch.Generator().manual_seed(0))
    expected = (values.flatten(1) - mean @ weights - shift).square().sum(1).mean()
    expected += (weights.square() * logarithm.exp()[:, None]).sum()
    apart = sum((m**2 + math.exp(v) - 1 - v) / 2 for m, v in zip(mean.tolist(), logarithm.tolist(), strict=True))
    assert seen["divergence"].item() == pytest.approx(apart, rel=1e-4)
    assert seen["reconstruction"].item() == pytest.approx(expected.item(), rel=0.01)
    assert loss.item() == pytest.approx((seen["reconstruction"] + seen["divergence"]).item(), rel=1e-5)


def test_both_networks_are_told_the_class():
    made = CVAE(ITEM, latent=5, hidden=7, layers=3)
    widths = {
        name: [(part.in_features, part.out_features) for part in net.layers if isinstance(part, nn.Linear)]
        for name, net in (("encoder", made.encoder), ("decoder", made.decoder))
    }
    assert widths == {"encoder": [(7, 7), (7, 7), (7, 7), (7, 10)], "decoder": [(8, 7), (7, 7), (7, 7), (7, 4)]}


def test_records_are_the_decoders_mean_in_the_sensors_own_scale():
    made = CVAE(ITEM, latent=2)
    made.prepare(5 + 3 * torch.randn(50, 1, 2, 2), torch.arange(50) % 3)
    made.decoder = Told(lambda z, y: y[:, 1:2].expand(-1, 4))
    found = made.sample(torch.tensor([1, 0]), torch.Generator())
    torch.testing.assert_close(found.values, torch.stack([made.shift + made.scale, made.shift]))


def test_it_learns_classes_apart():
    torch.manual_seed(0)
    label = torch.arange(300) % 3
    values = torch.randn(300, 1, 2, 2) + 6 * torch.eye(4)[label].reshape(300, 1, 2, 2)
    made = CVAE(ITEM, latent=4, hidden=32, layers=1, learning_rate=3e-3)
    made.prepare(values, label)
    (turn,) = made.turns()
    optimiser, generator = turn.optimiser(turn.parameters), torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss, _ = turn.loss(made.standardise(values), label, generator)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    found = made.sample(label, generator).values.flatten(1)
    assert (torch.cdist(found, 6 * torch.eye(4)[:3]).argmin(1) == label).float().mean() >= 0.95
