"""Colours as the eye tells them apart: lightness, and two axes of hue cut into bins."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

STEP = 10
"""Side of a bin on both axes of hue."""
NEAREST, SPREAD = 5, 5.0
"""How many bins a colour is shared by, and the standard deviation of the Gaussian that shares it."""
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.950456, 1.0, 1.088754)


def lab(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """CIE L*a*b* under D65 of sRGB from 0 to 1: white is 100, 0, 0, red 53.2, 80.1, 67.2; beyond is cut off."""
    linear = _linear(pixels)
    white = torch.stack([_mixed(linear, row) / most for row, most in zip(TO_XYZ, WHITE, strict=True)], 1)
    root = torch.where(white > 0.008856, white.clamp_min(1e-6).pow(1 / 3), 7.787 * white + 16 / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def grey(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """The same lightness without hue, as sRGB: white stays, pure red is 0.498."""
    luminance = _mixed(_linear(pixels), TO_XYZ[1]).clamp(0, 1)[:, None]
    value = torch.where(
        luminance > 0.0031308, 1.055 * luminance.clamp_min(1e-6).pow(1 / 2.4) - 0.055, 12.92 * luminance
    )
    return value.expand(pixels.shape)


@cache
def colour_bins() -> Float[Tensor, "bin 2"]:
    """Centres of the bins that hold a colour of sRGB: 261 (the paper counts 313, some of them beside its edge)."""
    level = torch.linspace(0, 1, 65, dtype=torch.float64)
    cube = torch.cartesian_prod(level, level, level).T[None, :, :, None]
    bins: Tensor = torch.unique((lab(cube)[0, 1:, :, 0].T / STEP).round(), dim=0)
    return bins.float() * STEP


def share_colour(hue: Float[Tensor, "*place 2"], bins: Float[Tensor, "bin 2"]) -> Float[Tensor, "*place bin"]:
    """Share each colour among the nearest bins by a Gaussian of its distance; shares add up to 1."""
    distance, nearest = torch.cdist(hue.flatten(0, -2), bins).topk(min(NEAREST, len(bins)), 1, largest=False)
    share = (-distance.square() / (2 * SPREAD**2)).softmax(1)
    return share.new_zeros(len(share), len(bins)).scatter(1, nearest, share).reshape(*hue.shape[:-1], len(bins))


def rarity(prior: Float[Tensor, " bin"]) -> Float[Tensor, " bin"]:
    r"""Weights that make rare colours count: :math:`w \propto (\frac{1}{2} p + \frac{1}{2 Q})^{-1}`, with :math:`\sum p w = 1`.

    Three bins with 0.5, 0.3 and 0.2 of the colours get 0.8283, 1.0899 and 1.2943.
    """
    weight = 1 / (0.5 * prior + 0.5 / len(prior))
    return weight / (prior * weight).sum()


def _linear(pixels: Tensor) -> Tensor:
    clean = pixels.clamp(0, 1)
    return torch.where(clean > 0.04045, ((clean + 0.055) / 1.055).pow(2.4), clean / 12.92)


def _mixed(linear: Tensor, weights: tuple[float, float, float]) -> Tensor:
    red, green, blue = linear.unbind(1)  # by plain numbers: nothing is copied to the device
    return weights[0] * red + weights[1] * green + weights[2] * blue
