"""How far an answer is from the one that it should agree with, record by record."""

import torch
from jaxtyping import Float
from torch import Tensor


def divergence(
    target: Float[Tensor, "batch *label class_"], answer: Float[Tensor, "batch *label class_"]
) -> Float[Tensor, "batch *label"]:
    r""":math:`\mathrm{KL}(p \,\|\, q) = \sum_c p_c (\log p_c - \log q_c)` of log-probabilities; impossible classes count 0.

    Of (0.7, 0.3) from (0.5, 0.5) it is 0.0823.
    """
    share = target.exp()
    parts = share * (target - answer)
    return torch.where(share > 0, parts, torch.zeros_like(parts)).sum(-1)


def squared_distance(
    first: Float[Tensor, "batch *label class_"], second: Float[Tensor, "batch *label class_"]
) -> Float[Tensor, "batch *label"]:
    r""":math:`\lVert p - q \rVert^2 / C` of log-probabilities over C classes: of (1, 0) from (0, 1) it is 1."""
    return (first.exp() - second.exp()).square().mean(-1)
