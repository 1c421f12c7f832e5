"""Where a step stands in its sequence, as sines."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal(steps: int, dim: int, like: Tensor) -> Float[Tensor, "steps {dim}"]:
    r"""Position codes of steps 0, 1, 2 ... on the device and in the type of ``like``.

    .. math:: p_{t, 2i} = \sin(t\, 10000^{-2i / dim}), \quad p_{t, 2i + 1} = \cos(t\, 10000^{-2i / dim})

    Step 0 is 0, 1, 0, 1 ... A pure function of the step: padding at the end changes no earlier code.

    Args:
        steps: how many.
        dim: width; an odd one lacks the last cosine.
        like: any tensor where the codes will be used.

    Reference:
        Vaswani et al., NeurIPS 2017.
    """
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    angle = torch.arange(steps, device=like.device, dtype=torch.float32)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim].to(like.dtype)
