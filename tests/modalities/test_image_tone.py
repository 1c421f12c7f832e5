"""Changes of colour and sharpness against Pillow, image by image."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageFilter, ImageOps

from fusionkit.modalities.image import tone


def pictures(batch=12, height=17, width=23) -> np.ndarray:
    """Bytes of images, each of its own range and each colour of its own shape."""
    draw = np.random.default_rng(0)
    low, high = draw.integers(0, 90, (batch, 1, 1, 3)), draw.integers(130, 255, (batch, 1, 1, 3))
    return (low + (high - low) * draw.beta(0.6, 1.7, (batch, height, width, 3))).astype(np.uint8)


def tensor(bytes_: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(bytes_.transpose(0, 3, 1, 2).copy()).double() / 255


def pillow(bytes_: np.ndarray, change) -> torch.Tensor:
    return tensor(np.stack([np.asarray(change(Pillow.fromarray(picture))) for picture in bytes_]))


def close(found: torch.Tensor, wanted: torch.Tensor, levels: float) -> None:
    assert ((found - wanted).abs() * 255).max() <= levels + 1e-6


def test_grey_is_that_of_pillow() -> None:
    given = pictures()
    close(tone.grey(tensor(given)).expand(-1, 3, -1, -1), pillow(given, lambda it: it.convert("L").convert("RGB")), 1)
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert float(tone.grey(red)) == pytest.approx(0.299)


def test_smooth_is_the_filter_of_pillow_and_leaves_the_border() -> None:
    given = pictures()
    close(tone.smooth(tensor(given)), pillow(given, lambda it: it.filter(ImageFilter.SMOOTH)), 1)
    hole = torch.ones(1, 3, 3, 3)
    hole[:, :, 1, 1] = 0
    assert float(tone.smooth(hole)[0, 0, 1, 1]) == pytest.approx(8 / 13)
    assert torch.equal(tone.smooth(hole[:, :, :2]), hole[:, :, :2])


@pytest.mark.parametrize("threshold", [0, 77, 256])
def test_solarise_is_that_of_pillow(threshold) -> None:
    given = pictures()
    found = tone.solarise(tensor(given), torch.full((len(given),), threshold / 255, dtype=torch.float64))
    close(found, pillow(given, lambda it: ImageOps.solarize(it, threshold)), 0)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_posterise_is_that_of_pillow(bits) -> None:
    given = pictures()
    found = tone.posterise(tensor(given), torch.full((len(given),), 8 - bits))
    close(found, pillow(given, lambda it: ImageOps.posterize(it, bits)), 0)


def test_equalise_is_that_of_pillow() -> None:
    given = pictures(height=30, width=40)
    given[0] = 7  # one level
    close(tone.equalise(tensor(given)), pillow(given, ImageOps.equalize), 0)
    few = pictures(height=4, width=5)
    assert torch.equal(tone.equalise(tensor(few)), tensor(few))


def test_stretched_levels_are_the_autocontrast_of_pillow() -> None:
    given = pictures()
    given[0, ..., 1] = 90  # one level
    factor, shift = tone.stretch_levels(tensor(given))
    found = tensor(given) * factor[..., None, None] + shift[..., None, None]
    close(found, pillow(given, ImageOps.autocontrast), 1)


@pytest.mark.parametrize("factor", [0.1, 0.7, 1.0, 1.9])
def test_enhancers_are_those_of_pillow(factor) -> None:
    given, values = pictures(), tensor(pictures())
    dull = {
        ImageEnhance.Color: tone.grey(values),
        ImageEnhance.Sharpness: tone.smooth(values),
        ImageEnhance.Contrast: tone.grey(values).mean((2, 3), keepdim=True),
        ImageEnhance.Brightness: torch.zeros_like(values),
    }
    for enhancer, other in dull.items():
        found = (other + factor * (values - other)).clamp(0, 1)
        close(found, pillow(given, lambda it, make=enhancer: make(it).enhance(factor)), 2)
