"""What is said of the variance of a band: its differential entropy, itself, or its share of all bands."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .bands import MICRO

Unit = Literal["uV", "V"]


class Entropy(nn.Module):
    r"""Differential entropy of a Gaussian signal of the band's variance: :math:`\tfrac12 \log(2 \pi e s^2)`.

    A variance of 1 in the square of ``unit`` gives 1.4189 nats, 2.0471 bits; twice the amplitude gives one bit more.

    Args:
        log: base of the logarithm.
        unit: what the signal is measured in; volts instead of microvolts lower every value by ln 1e6 = 13.8 nats.
        floor: least variance, in square microvolts.
    """

    constant: Float[Tensor, ""]

    def __init__(self, log: Literal["e", 2], unit: Unit, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.slope = 0.5 / math.log(_base(log))
        constant = self.slope * (math.log(2 * math.pi * math.e) + 2 * math.log(_size(unit)))
        self.register_buffer("constant", torch.tensor(constant), persistent=False)

    def forward(self, variance: Float[Tensor, "*rest band"]) -> Float[Tensor, "*rest band"]:
        """Entropy of every variance in square microvolts."""
        return torch.add(self.constant, torch.log(variance.clamp_min(self.floor)), alpha=self.slope)


class SeedEntropy(nn.Module):
    """What the SEED laboratory calls differential entropy: ``log2(100 E)`` of a band's mean :math:`|X_k|^2`.

    No entropy in bits: it rises by 2, not by 1, when the amplitude doubles. ``E = 1`` gives 6.6439.

    Args:
        floor: least ``E``.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, power: Float[Tensor, "*rest band"]) -> Float[Tensor, "*rest band"]:
        """Logarithm of every ``E``."""
        return torch.log(power.clamp_min(self.floor)) / math.log(2) + math.log2(100)


class Power(nn.Module):
    """The variance itself, in the square of ``unit``: 4 square microvolts are 4e-12 square volts.

    Args:
        unit: what the signal is measured in.
        floor: least variance, in square microvolts.
    """

    def __init__(self, unit: Unit, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.scale = _size(unit) ** 2

    def forward(self, variance: Float[Tensor, "*rest band"]) -> Float[Tensor, "*rest band"]:
        """Every variance in the unit."""
        return variance.clamp_min(self.floor) * self.scale


class RelativePower(nn.Module):
    """A band's share of the sum over the bands of the recipe: variances 1 and 3 give 0.25 and 0.75.

    Args:
        floor: least variance, in square microvolts; in silence every band has the same share.
    """

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, variance: Float[Tensor, "*rest band"]) -> Float[Tensor, "*rest band"]:
        """Shares, which sum to 1."""
        variance = variance.clamp_min(self.floor)
        return variance / variance.sum(-1, keepdim=True)


def _base(log: Literal["e", 2]) -> float:
    return math.e if log == "e" else 2.0


def _size(unit: Unit) -> float:
    """A microvolt in the unit."""
    return 1.0 if unit == "uV" else 1 / MICRO
