"""How many labels a record has, and the answer that takes so many of the most likely ones."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fusionkit.heads.yes_or_no import yes_or_no

LEAST = 1e-3
"""Log-odds by which a label is taken or left at least."""


class QuantityHead(nn.Module):
    r"""Guess which share of all labels a record has, by two hidden layers that halve: d, d / 2 (in the paper 512, 256).

    The number is :math:`\hat n = C \sigma(u)` with C labels and u what the layers answer, in float32 at least. That it
    stays between 0 and C, and starts from the training mean, is ours.

    Args:
        dim: width of the readout.
        share: of all labels that a training record has, in the mean.

    Reference:
        Niu, Lu, Wen, Xiang and Chang, "Multi-Modal Multi-Scale Deep Learning for Large-Scale Image Annotation",
        IEEE TIP 28(4), 2019.
    """

    def __init__(self, dim: int, share: float) -> None:
        super().__init__()
        half = max(1, dim // 2)
        last = nn.Linear(half, 1)
        nn.init.constant_(last.bias, math.log(share / (1 - share)))
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, half), nn.ReLU(), last)

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 1 2"]:
        """Logs of the shares of labels that each record lacks and has, as one label more."""
        return yes_or_no(self.layers(readout))


def take_top(decision: Float[Tensor, "batch label 2"], count: Int[Tensor, " batch"]) -> Float[Tensor, "batch label 2"]:
    """Log-probabilities (no, yes) under which exactly ``count`` labels are likelier than not: the likeliest ones.

    Where this is so already, they stay. Else all log-odds of a record shift alike, so that 0 lies half-way between
    the last label that is taken and the first that is not (2 from the last where all or none are taken). Of equally
    likely labels the earlier is taken. Log-odds 3, 1 and -1 with one label to take become 1, -1 and -3.
    """
    odds = decision[..., 1] - decision[..., 0]
    place = torch.arange(odds.shape[1], device=odds.device)
    likelier = odds[:, None] > odds[..., None]
    earlier = (odds[:, None] == odds[..., None]) & (place < place[:, None])
    taken = (likelier | earlier).sum(-1) < count[:, None]
    lowest = odds.masked_fill(~taken, math.inf).amin(1)
    highest = odds.masked_fill(taken, -math.inf).amax(1)
    apart = (lowest > 0) & (highest < 0)  # whatever is missing on a side is infinitely far
    lowest, highest = (
        torch.where(lowest.isinf(), highest + 4, lowest),
        torch.where(highest.isinf(), lowest - 4, highest),
    )
    odds = odds - torch.where(apart, torch.zeros_like(lowest), (lowest + highest) / 2)[:, None]
    return yes_or_no(torch.where(taken, odds.clamp_min(LEAST), odds.clamp_max(-LEAST)))
