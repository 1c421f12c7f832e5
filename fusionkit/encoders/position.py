"""Where a step stands in its sequence, as sines."""

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
