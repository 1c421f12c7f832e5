"""Changes of images: each against what it is defined to do."""

import math

import pytest
import torch

from fusionkit.core.levels import Window
from fusionkit.modalities.image import Affine, Brightness, Cutout, Flip, ImageNoise, Shift


def images(batch=64, height=8, width=10) -> Window:
    values = 0.1 + 0.8 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return Window(values, torch.ones(batch, dtype=torch.long), torch.ones(batch, dtype=torch.bool))


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plainly_shifted(image, down, right, fill):
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            y, x = row - down, column - right
            if fill == "edge":
                y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            if 0 <= y < height and 0 <= x < width:
                out[:, row, column] = image[:, y, x]
    return out


@pytest.mark.parametrize("fill", ["zero", "edge"])
def test_shift_moves_by_whole_pixels_in_every_direction(fill):
    given = images(40)
    moved = Shift(pixels=2, fill=fill)(given, seeded()).values
    seen = set()
    for before, after in zip(given.values, moved, strict=True):
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(after, plainly_shifted(before, down, right, fill))
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 14


def test_flip_mirrors_half_of_the_images_and_twice_is_nothing():
    given = images(400, 2, 3)
    always = Flip(probability=1.0)
    assert torch.equal(always(always(given, seeded()), seeded()).values, given.values)
    changed = Flip()(given, seeded()).values
    mirrored = (changed == given.values.flip(3)).flatten(1).all(1)
    same = (changed == given.values).flatten(1).all(1)
    assert (mirrored | same).all()
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_cutout_blacks_out_one_square_cut_off_at_the_border():
    given = images(300, 12, 16)
    hidden = (Cutout(size=4)(given, seeded()).values == 0).all(1)
    assert ((given.values == 0).sum() == 0) and hidden.flatten(1).any(1).all()
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).max() == 4 and columns.sum(1).max() == 4
    assert rows.sum(1).min() == 2 and rows.float().mean(0).min() > 0.1  # reaches every border
    share = Cutout(size=16)(images(50, 32, 32), seeded()).values.eq(0).all(1).flatten(1).float().mean(1)
    assert share.max() <= 0.25


def test_noise_is_no_stronger_than_allowed():
    given = images(200, 20, 20)
    noise = (ImageNoise(most=0.3)(given, seeded()).values - given.values).flatten(1)
    spread = noise.std(1)
    assert spread.max() < 0.31 and spread.max() > 0.28 and spread.min() < 0.02
    assert noise.mean().abs() < 0.002


def test_brightness_and_contrast_are_linear_about_the_mean():
    given = images(50)
    changed = Brightness(brightness=0.05, contrast=0.1)(given, seeded()).values
    for before, after in zip(given.values, changed, strict=True):
        inside = (after > 0) & (after < 1)
        x, y = before[inside], after[inside]
        slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        lift = y.mean() - before.mean() - slope * (x.mean() - before.mean())
        torch.testing.assert_close(y, before.mean() + slope * (x - before.mean()) + lift, atol=1e-5, rtol=0)
        assert 0.899 <= slope <= 1.101 and abs(lift) <= 0.0501
    assert changed.min() >= 0 and changed.max() <= 1


def spot(row, column, side=41) -> Window:
    image = torch.zeros(200, 3, side, side)
    image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 1
    return Window(image, torch.ones(200, dtype=torch.long), torch.ones(200, dtype=torch.bool))


def centre_of_mass(values):
    weight = values[:, 0] / values[:, 0].sum((1, 2), keepdim=True)
    place = torch.arange(values.shape[-1], dtype=values.dtype) - (values.shape[-1] - 1) / 2
    return (weight.sum(2) * place).sum(1), (weight.sum(1) * place).sum(1)


def test_a_turn_keeps_the_distance_to_the_centre_and_the_angle_within_bounds():
    rows, columns = centre_of_mass(Affine(degrees=30.0, stretch=0.0, slant=0.0)(spot(20, 32), seeded()).values)
    torch.testing.assert_close((rows**2 + columns**2).sqrt(), torch.full((200,), 12.0), atol=0.05, rtol=0)
    angle = torch.rad2deg(torch.atan2(rows, columns))
    assert angle.abs().max() <= 30.5 and angle.max() > 27 and angle.min() < -27


def test_a_stretch_and_a_slant_keep_within_bounds():
    rows, columns = centre_of_mass(Affine(degrees=0.0, stretch=0.2, slant=0.0)(spot(30, 32), seeded()).values)
    for distance, plain in ((rows, 10), (columns, 12)):
        assert distance.min() > plain * 0.79 and distance.max() < plain * 1.21
        assert distance.max() - distance.min() > plain * 0.35
    rows, columns = centre_of_mass(Affine(degrees=0.0, stretch=0.0, slant=0.2)(spot(32, 20), seeded()).values)
    torch.testing.assert_close(rows, torch.full((200,), 12.0), atol=0.05, rtol=0)
    assert columns.abs().max() <= 12 * 0.2 + 0.05 and columns.abs().max() > 2


def test_no_turn_stretch_or_slant_is_the_identity():
    given = images()
    still = Affine(degrees=0.0, stretch=0.0, slant=0.0)(given, seeded()).values
    torch.testing.assert_close(still, given.values, atol=1e-5, rtol=0)


def test_a_turn_of_a_wide_image_stays_a_turn():
    values = torch.zeros(200, 3, 21, 61)
    values[:, :, 9:12, 38:41] = 1
    given = Window(values, torch.ones(200, dtype=torch.long), torch.ones(200, dtype=torch.bool))
    turned = Affine(degrees=40.0, stretch=0.0, slant=0.0)(given, seeded()).values[:, 0]
    weight = turned / turned.sum((1, 2), keepdim=True)
    row = (weight.sum(2) * (torch.arange(21) - 10.0)).sum(1)
    column = (weight.sum(1) * (torch.arange(61) - 30.0)).sum(1)
    torch.testing.assert_close((row**2 + column**2).sqrt(), torch.full((200,), 9.0), atol=0.06, rtol=0)
    assert torch.rad2deg(torch.atan2(row, column)).abs().max() == pytest.approx(40, abs=1.5)
    assert math.isfinite(turned.sum())
