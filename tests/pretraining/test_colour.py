"""Colours: known ones, greys of the same lightness, shares and weights by hand."""

import math

import pytest
import torch

from fusionkit.pretraining.colour import colour_bins, grey, lab, rarity, share_colour

KNOWN = {  # of sRGB under D65, as published
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    (1.0, 0.0, 0.0): (53.24, 80.09, 67.20),
    (0.0, 1.0, 0.0): (87.73, -86.18, 83.18),
    (0.0, 0.0, 1.0): (32.30, 79.19, -107.86),
    (0.5, 0.5, 0.5): (53.39, 0.0, 0.0),
}


def test_known_colours():
    pixels = torch.tensor(list(KNOWN)).T[None, :, :, None]
    torch.testing.assert_close(lab(pixels)[0, :, :, 0].T, torch.tensor(list(KNOWN.values())), rtol=0, atol=0.03)


def test_greys_keep_lightness_and_have_no_hue():
    pixels = torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(lab(grey(pixels))[:, 0], lab(pixels)[:, 0], rtol=1e-4, atol=1e-3)
    assert float(lab(grey(pixels))[:, 1:].abs().max()) < 0.02
    torch.testing.assert_close(grey(grey(pixels)), grey(pixels))


def test_every_colour_is_near_a_bin_and_every_bin_has_one():
    bins = colour_bins()
    assert bins.shape == (261, 2) and len(bins.unique(dim=0)) == 261
    hue = lab(torch.rand(1, 3, 50, 50))[0, 1:].flatten(1).T
    assert float(torch.cdist(hue, bins).min(1).values.max()) <= 5 * 2**0.5 + 1e-3
    assert [0.0, 0.0] in bins.tolist()


def test_a_colour_is_shared_by_its_five_nearest_bins():
    bins = colour_bins()
    hue = torch.tensor([[0.0, 0.0], [3.0, -4.0]])
    shares = share_colour(hue, bins)
    assert (shares > 0).sum(1).tolist() == [5, 5]
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    around = math.exp(-100 / 50)  # its bin at 0, four at 10
    assert float(shares[0].max()) == pytest.approx(1 / (1 + 4 * around), rel=1e-5)
    near = sorted(float((hue[1] - b).square().sum()) for b in bins)[:5]
    wanted = [math.exp(-d / 50) for d in near]
    assert sorted(shares[1][shares[1] > 0].tolist(), reverse=True) == pytest.approx([w / sum(wanted) for w in wanted])


def test_rare_colours_weigh_more():
    prior = torch.tensor([0.5, 0.3, 0.2])
    torch.testing.assert_close(rarity(prior), torch.tensor([0.82834, 1.08992, 1.29428]), rtol=1e-5, atol=1e-5)
    assert float((prior * rarity(prior)).sum()) == pytest.approx(1.0)
    torch.testing.assert_close(rarity(torch.full((7,), 1 / 7)), torch.ones(7))
