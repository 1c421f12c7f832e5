"""Where a step stands in its sequence, and a channel in space, as sines."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal(tokens: Float[Tensor, "batch step dim"]) -> Float[Tensor, "step dim"]:
    r"""Position codes of steps 0, 1, 2 ... of ``tokens``, on their device and in their type.

    .. math:: p_{t, 2i} = \sin(t\, 10000^{-2i / dim}), \quad p_{t, 2i + 1} = \cos(t\, 10000^{-2i / dim})

    Step 0 is 0, 1, 0, 1 ... A pure function of the step: padding at the end changes no earlier code. An odd width
    lacks the last cosine.

    Reference:
        Vaswani et al., NeurIPS 2017.
    """
    dim, device = tokens.shape[2], tokens.device
    rate = torch.exp(torch.arange(0, dim, 2, device=device, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    angle = torch.arange(tokens.shape[1], device=device, dtype=torch.float32)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim].to(tokens.dtype)


def spatial(places: tuple[tuple[float, float, float], ...], dim: int) -> Float[Tensor, "channel dim"]:
    r"""Codes of places on a head: near ones are alike.

    Sines and cosines of :math:`2 \pi x / \lambda`, :math:`2 \pi y / \lambda` and :math:`2 \pi z / \lambda`, six numbers for each
    wavelength; these fall evenly on a logarithmic scale from 0.8 m, more than a head, to 0.05 m, about two electrodes.
    The place 0, 0, 0 is 0, 0, 0, 1, 1, 1 repeated. A width that six does not divide lacks the last numbers.

    Args:
        places: metres.
        dim: width of a code.

    Reference:
        The sines of Vaswani et al., NeurIPS 2017, in three dimensions; the wavelengths are ours.
    """
    count = -(-dim // 6)
    wavelength = torch.logspace(math.log10(0.8), math.log10(0.05), count)
    angle = 2 * math.pi * torch.tensor(places)[:, None] / wavelength[:, None]
    return torch.cat([angle.sin(), angle.cos()], 2).flatten(1)[:, :dim]
