"""What generative networks share: layers, frozen parts, rows of a class, averaged weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fusionkit.augment.generative.networks import (
    FullyConnected,
    average,
    batches,
    bounded,
    evaluating,
    frozen,
    own_rows,
)


def test_the_layers_are_those_of_the_reconstruction():
    net = FullyConnected(128 + 3, 310, hidden=512, layers=3, activation="relu")
    linear = [part for part in net.layers if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [
        (131, 512),
        (512, 512),
        (512, 512),
        (512, 310),
    ]
    assert [type(part) for part in net.layers][1::2] == [nn.ReLU] * 3
    assert isinstance(net.layers[-1], nn.Linear)
    leaky = FullyConnected(4, 1, hidden=5, layers=2, activation="leaky_relu")
    assert [part.negative_slope for part in leaky.layers if isinstance(part, nn.LeakyReLU)] == [0.2, 0.2]


def test_a_generator_begins_with_records_as_spread_as_noise():
    net = FullyConnected(128, 310, hidden=512, layers=3, activation="relu")
    made = net(torch.randn(300, 128), torch.zeros(300, 0))
    assert 0.5 < made.std(0).mean().item() < 1.4
    assert not any(part.bias.any() for part in net.layers if isinstance(part, nn.Linear))
    first, last = net.layers[0].weight, net.layers[-1].weight
    assert first.var().item() == pytest.approx(2 / 128, rel=0.05)
    assert last.var().item() == pytest.approx(2 / (512 + 310), rel=0.05)


def test_records_are_made_flat_and_classes_stand_beside():
    net = FullyConnected(6 + 2, 3, hidden=4, layers=1, activation="relu")
    values, beside = torch.randn(5, 2, 3), torch.eye(2)[torch.tensor([0, 1, 1, 0, 1])]
    torch.testing.assert_close(net(values, beside), net.layers(torch.cat([values.reshape(5, 6), beside], 1)))


def test_spectral_normalisation_makes_the_largest_singular_value_one():
    layer = bounded(nn.Linear(6, 4), True)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(37)
    for _ in range(200):
        layer(torch.randn(2, 6))
    assert torch.linalg.svdvals(layer.weight)[0].item() == pytest.approx(1, rel=1e-4)
    plain = nn.Linear(6, 4)
    assert bounded(plain, False) is plain
    assert not hasattr(plain, "parametrizations")


def test_what_is_frozen_passes_gradients_on_and_keeps_none():
    net, values = nn.Linear(3, 1), torch.randn(4, 3, requires_grad=True)
    net.bias.requires_grad_(False)
    with frozen(net):
        loss = net(values).sum()
    loss.backward()
    assert net.weight.grad is None
    assert values.grad.any()
    assert net.weight.requires_grad and not net.bias.requires_grad
    with pytest.raises(RuntimeError, match="stop"), frozen(net):
        raise RuntimeError("stop")
    assert net.weight.requires_grad


def test_evaluation_mode_is_left_as_it_was_found():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    net[1].eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in net.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


@given(count=st.integers(0, 50), most=st.integers(1, 20))
def test_parts_cover_every_record_once(count, most):
    rows = [row for part in batches(count, most) for row in range(*part.indices(count))]
    assert rows == list(range(count))
    assert len(list(batches(count, most))) == max(1, -(-count // most))


@given(label=st.lists(st.integers(0, 3), min_size=1, max_size=20), class_=st.integers(0, 3), take=st.integers(1, 8))
def test_rows_of_a_class_are_its_own_again_and_again(label, class_, take):
    rows, counts = own_rows(torch.tensor(label), class_, take)
    own = [row for row, one in enumerate(label) if one == class_]
    assert counts.item() == bool(own)
    assert len(rows) == take
    if own:
        assert rows.tolist() == [own[place % len(own)] for place in range(take)]


def test_the_example_of_rows():
    rows, counts = own_rows(torch.tensor([0, 1, 0, 1]), 1, 4)
    assert rows.tolist() == [1, 3, 1, 3]
    assert counts == 1


def test_averaged_weights():
    shadow, net = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        shadow.weight.fill_(1.0)
        net.weight.fill_(2.0)
        net.running_mean.fill_(5.0)
    shadow.requires_grad_(False)
    average(shadow, net, 0.9)
    assert shadow.weight.item() == pytest.approx(1.1)
    assert shadow.running_mean.item() == 5.0
    assert net.weight.item() == 2.0
