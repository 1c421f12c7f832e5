"""How much a consistency loss counts as training goes on."""

import torch
from jaxtyping import Float
from torch import Tensor


def rise(progress: Float[Tensor, ""], share: float) -> Float[Tensor, ""]:
    r""":math:`\exp(-5 (1 - t)^2)` with t from 0 to 1 over the first ``share`` of training, 1 afterwards.

    At t = 0 it is 0.0067, at 0.5 0.2865.

    Reference:
        Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    """
    if share == 0:
        return torch.ones_like(progress)
    return torch.exp(-5 * (1 - (progress / share).clamp(0, 1)).square())


def climb(progress: Float[Tensor, ""], begin: float, full: float) -> Float[Tensor, ""]:
    """0 until ``begin``, then in a straight line to 1 at ``full``: from 0.1 to 0.6, it is 0.5 at 0.35.

    Reference:
        Lee, "Pseudo-Label", ICML 2013 workshop.
    """
    return ((progress - begin) / (full - begin)).clamp(0, 1)
