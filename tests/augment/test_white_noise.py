"""Noise on windows: as strong as was asked for, within limits, and only on what is real."""

import pytest
import torch
from scipy import stats

from fusionkit.augment.white_noise import add_noise
from fusionkit.core.levels import Window


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def window(values, length=None, present=None):
    batch = len(values)
    length = torch.full((batch,), values.shape[-1]) if length is None else torch.tensor(length)
    return Window(values, length, torch.ones(batch, dtype=torch.bool) if present is None else torch.tensor(present))


def of(*deviations, axes):
    return torch.tensor(deviations).reshape(-1, *(1,) * axes)


def test_noise_is_gaussian_of_the_deviation_of_its_row():
    clean = torch.randn(2, 3, 4000, generator=seeded(1))
    noise = add_noise(window(clean), of(0.5, 4.0, axes=2), seeded()).values - clean
    for row, deviation in enumerate((0.5, 4.0)):
        assert stats.kstest(noise[row].flatten().numpy(), stats.norm(0, deviation).cdf).pvalue > 0.01


def test_a_deviation_of_0_and_what_is_not_real_keep_every_bit():
    clean = torch.randn(3, 2, 50, generator=seeded(1)) * 1e6
    got = add_noise(window(clean, [50, 20, 50], [True, True, False]), of(0.0, 1.0, 1.0, axes=2), seeded()).values
    assert torch.equal(got[0], clean[0]) and torch.equal(got[2], clean[2])
    assert torch.equal(got[1, :, 20:], clean[1, :, 20:]) and (got[1, :, :20] != clean[1, :, :20]).all()


def test_limits_clip_what_is_noisy():
    clean = torch.full((1, 3, 40, 40), 0.25)
    got = add_noise(window(clean), of(0.8, axes=3), seeded(), (0.0, 1.0)).values
    black, white = stats.norm.cdf(-0.25 / 0.8), stats.norm.sf(0.75 / 0.8)
    assert got.min() == 0 and got.max() == 1
    assert (got == 0).float().mean().item() == pytest.approx(black, abs=0.03)
    assert (got == 1).float().mean().item() == pytest.approx(white, abs=0.03)


def test_a_grey_picture_stays_grey_and_a_coloured_one_has_noise_in_every_colour():
    grey, coloured = torch.rand(1, 1, 8, 8, generator=seeded(1)), torch.rand(1, 3, 8, 8, generator=seeded(2))
    pictures = torch.cat([grey.expand(1, 3, 8, 8), coloured])
    noise = add_noise(window(pictures), of(0.8, 0.8, axes=3), seeded()).values - pictures
    assert torch.equal(noise[0, 0], noise[0, 1]) and torch.equal(noise[0, 0], noise[0, 2])
    assert (noise[1, 0] != noise[1, 1]).all()
