"""Crops against the part of the image that they must be, blurs against scipy."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.modalities.image import Blur, ResizedCrop


def window(values: torch.Tensor) -> Window:
    batch = len(values)
    return Window(values, torch.ones(batch, dtype=torch.long), torch.ones(batch, dtype=torch.bool))


def slopes(batch: int, height: int, width: int) -> torch.Tensor:
    """Colours that say where a pixel is: its column's and its row's centre, from -1 to 1."""
    row = (2 * torch.arange(height) + 1) / height - 1
    column = (2 * torch.arange(width) + 1) / width - 1
    image = torch.stack([column.expand(height, width), row[:, None].expand(height, width), torch.zeros(height, width)])
    return image.expand(batch, -1, -1, -1)


def test_a_crop_is_a_rectangle_inside_of_the_area_and_ratio_allowed() -> None:
    height, width, batch = 24, 36, 500
    cropped = ResizedCrop(least=0.25, ratio=2.0)(window(slopes(batch, height, width)), torch.Generator().manual_seed(0))
    column, row = cropped.values[:, 0], cropped.values[:, 1]
    torch.testing.assert_close(column, column[:, :1].expand_as(column), atol=1e-4, rtol=0)  # sides stay upright
    torch.testing.assert_close(row, row[:, :, :1].expand_as(row), atol=1e-4, rtol=0)
    middle = slice(height // 4, -height // 4)
    across = (column[:, 0, width - 9] - column[:, 0, 8]) / (2 * (width - 17) / width)  # share of the width
    down = (row[:, middle, 0][:, -1] - row[:, middle, 0][:, 0]) / (2 * (row[:, middle, 0].shape[1] - 1) / height)
    area, ratio = across * down, across / down
    assert area.min() > 0.18 and area.max() <= 1 + 1e-3  # a side that is cut off loses area
    assert ratio.min() > 0.5 - 1e-2 and ratio.max() < 2 + 1e-2 and ratio.max() > 1.6 and ratio.min() < 0.65
    centre = column[:, 0, width // 2 - 1 : width // 2 + 1].mean(1)
    assert (centre.abs() <= 1 - across + 1e-3).all() and centre.min() < -0.3 and centre.max() > 0.3


def test_a_crop_of_everything_is_the_image() -> None:
    values = torch.rand(5, 3, 7, 9)
    whole = ResizedCrop(least=1.0, ratio=1.0)(window(values), torch.Generator().manual_seed(0)).values
    torch.testing.assert_close(whole, values, atol=1e-5, rtol=0)


def test_a_blur_is_that_of_scipy() -> None:
    values = torch.rand(4, 3, 15, 19, dtype=torch.float64)
    blurred = Blur(least=1.3, most=1.3, probability=1.0)(window(values), torch.Generator().manual_seed(0)).values
    for image, found in zip(values.numpy(), blurred, strict=True):
        wanted = gaussian_filter(image, (0, 1.3, 1.3), mode="nearest", radius=(0, 4, 4))
        torch.testing.assert_close(found, torch.from_numpy(wanted), atol=1e-6, rtol=0)


def test_each_image_draws_its_own_deviation_and_one_colour_stays() -> None:
    point = torch.zeros(300, 3, 21, 21)
    point[:, :, 10, 10] = 1
    blurred = Blur(least=0.5, most=2.0, probability=1.0)(window(point), torch.Generator().manual_seed(0)).values[:, 0]
    torch.testing.assert_close(blurred.sum((1, 2)), torch.ones(300))
    place = torch.arange(21.0) - 10
    spread = (blurred.sum(1) * place.square()).sum(1).sqrt()
    assert 0.45 < spread.min() < 0.6 and 1.85 < spread.max() < 2.0
    plain = torch.full((3, 3, 6, 6), 0.4)
    torch.testing.assert_close(Blur(probability=1.0)(window(plain)).values, plain)


def test_a_blur_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 is more than 1"):
        Blur(least=2.0, most=1.0)
