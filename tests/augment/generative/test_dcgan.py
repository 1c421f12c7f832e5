"""The convolutional GAN: the paper's layers for 64 x 64, and maps of any other size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fusionkit.augment.generative.dcgan import DCGAN, as_map, halvings
from fusionkit.augment.generative.generator import Item
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import WindowShape


def window(*shape, classes=2):
    return Item("window", WindowShape(shape), classes)


@pytest.fixture(scope="module")
def of_the_paper():
    torch.manual_seed(0)
    return DCGAN(window(3, 64, 64, classes=1))


def shapes(net, values, *more):
    """What every convolution makes of one record."""
    found, hooks = [], []
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(part.register_forward_hook(lambda _, given, made: found.append(tuple(made.shape[1:]))))
    with torch.no_grad():
        answer = net(values, *more)
    for hook in hooks:
        hook.remove()
    return found, answer


def test_the_papers_generator(of_the_paper):
    up = of_the_paper.makers[0].eval()
    found, made = shapes(up, torch.rand(2, 100), torch.zeros(2, 0))
    assert up.inside == (1024, 4, 4)
    assert found == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]
    assert made.shape == (2, 3, 64, 64)
    kinds = [type(part) for part in up.layers]
    between = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [nn.BatchNorm2d, nn.ReLU, *between * 3, nn.ConvTranspose2d, nn.Tanh]


def test_the_papers_discriminator(of_the_paper):
    down = of_the_paper.judges[0].eval()
    found, judged = shapes(down, torch.rand(2, 3, 64, 64), torch.zeros(2, 0))
    assert found == [(128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)]
    assert judged.shape == (2, 1)
    kinds = [type(part) for part in down.layers]
    inner = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, *inner * 3, nn.Flatten, nn.Linear], "no pooling, no batch at the input"
    assert {part.negative_slope for part in down.layers if isinstance(part, nn.LeakyReLU)} == {0.2}


def test_every_convolution_is_strided_and_five_wide(of_the_paper):
    for part in of_the_paper.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            assert (part.kernel_size, part.stride) == ((5, 5), (2, 2))


def test_weights_start_small(of_the_paper):
    for part in of_the_paper.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert abs(part.weight.mean().item()) < 1e-3
            assert part.bias is None or not part.bias.any()


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        (Item("features", WindowShape((1, 62, 5)), 3), (5, 1, 62)),
        (Item("features", WindowShape((10, 62, 5)), 3), (5, 10, 62)),
        (window(3, 28, 30), (3, 28, 30)),
        (window(62, 200), (62, 1, 200)),
        (window(200), (1, 1, 200)),
    ],
)
def test_records_as_maps(item, wanted):
    assert as_map(item) == wanted


def test_sides_are_halved_until_they_are_small():
    assert halvings(64, 64) == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    assert halvings(1, 62) == [(1, 62), (1, 31), (1, 16), (1, 8), (1, 4)]
    assert halvings(3, 4) == [(3, 4)]


@given(height=st.integers(1, 40), across=st.integers(5, 40))
def test_maps_of_any_size_come_out_as_large_as_they_went_in(height, across):
    made = DCGAN(window(2, height, across, classes=1), width=1, latent=2).eval()
    found = made.sample(torch.zeros(2, dtype=torch.long), torch.Generator())
    assert found.values.shape == (2, 2, height, across)
    assert made.judges[0](found.values, torch.zeros(2, 0)).shape == (2, 1)


def test_features_keep_their_axes():
    """Maps of a band are its channels over time: a generator of marked colours shows which axis is which."""
    made = DCGAN(Item("features", WindowShape((6, 7, 3)), 1), width=2).eval()
    up, down = made.makers[0], made.judges[0]
    last = up.layers[-2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    values = up(torch.rand(2, 100), torch.zeros(2, 0))
    assert values.shape == (2, 6, 7, 3)
    torch.testing.assert_close(values[0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]).tanh())
    seen = []
    hook = down.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    records = torch.randn(2, 6, 7, 3)
    down(records, torch.zeros(2, 0))
    hook.remove()
    assert torch.equal(seen[0][1, 2, 3, 4], records[1, 3, 4, 2])


@pytest.mark.parametrize(
    ("item", "colour"),
    [
        (Item("features", WindowShape((2, 6, 3)), 2), 3),
        (window(2, 5, 6), 1),
        (window(4, 9), 1),
        (window(9), None),
    ],
)
def test_every_colour_is_scaled_to_the_range_of_tanh(item, colour):
    made = DCGAN(item, width=2)
    values = 4 * torch.randn(20, *item.shape) + 7
    made.prepare(values, torch.arange(20) % 2)
    standard = made.standardise(values)
    axes = [axis for axis in range(standard.ndim) if axis != colour]
    torch.testing.assert_close(standard.amin(axes), -torch.ones_like(standard.amin(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.amax(axes), torch.ones_like(standard.amax(axes)), atol=1e-5, rtol=0)


def test_spectral_normalisation_takes_the_place_of_batch_normalisation_in_the_discriminator():
    made = DCGAN(window(3, 8, 8), width=2, spectral=True)
    assert not [part for part in made.judges.modules() if isinstance(part, nn.BatchNorm2d)]
    assert [part for part in made.makers.modules() if isinstance(part, nn.BatchNorm2d)]
    weights = [name for name, _ in made.judges.named_parameters() if name.endswith("weight.original")]
    assert len(weights) == 2 * 2


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item("features", WindowShape((1, 4, 5)), 2), r"a side over 4, but those of \(1, 4, 5\) are 1 x 4"),
        (window(2, 3, 8, 8), r"three axes at most, but got \(2, 3, 8, 8\)"),
    ],
)
def test_maps_that_cannot_be_are_refused(item, message):
    with pytest.raises(ConfigError, match=message):
        DCGAN(item)


@pytest.mark.parametrize(
    "item", [window(1, 8, 8), Item("features", WindowShape((1, 8, 2)), 2)], ids=["image", "features"]
)
def test_it_learns_which_half_is_bright(item):
    """One class is bright in its first half, the other in its second."""
    torch.manual_seed(0)
    label = torch.arange(64) % 2
    across = item.shape[1]
    bright = (torch.arange(across) >= across // 2).float()
    pattern = torch.stack([1 - bright, bright])[label]
    lit = pattern[:, None, :, None].expand(64, *item.shape) + 0.1 * torch.randn(64, *item.shape)
    made = DCGAN(item, width=8, latent=8, learning_rate=1e-3)
    made.prepare(lit, label)
    generator = torch.Generator().manual_seed(0)
    players = [(turn, turn.optimiser(turn.parameters)) for turn in made.turns()]
    for _ in range(60):
        for turn, optimiser in players:
            optimiser.zero_grad()
            loss, _ = turn.loss(made.standardise(lit), label, generator)
            loss.backward()
            optimiser.step()
    wanted = torch.arange(40) % 2
    found = made.sample(wanted, generator).values.movedim(2, 1).flatten(2).mean(2)
    second = found[:, across // 2 :].mean(1) > found[:, : across // 2].mean(1)
    assert (second.long() == wanted).float().mean() >= 0.95
