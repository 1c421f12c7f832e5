"""Copies of training records with Gaussian noise."""

from typing import Annotated

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import normal
from fusionkit.core.registry import generators

from .copies import CopyAugmenter
from .generator import Item, Made


@generators.register("noise_copies")
class NoiseCopies(CopyAugmenter):
    """Copy training records of the class and add Gaussian noise: the plainest baseline.

    Args:
        item: what a record looks like.
        spread: standard deviation of the noise, in standard deviations of each number over the training records.
    """

    def __init__(
        self,
        item: Item,
        *,
        spread: Annotated[float, Field(gt=0, description="noise, in standard deviations of each number")] = 0.2,
    ) -> None:
        super().__init__(item)
        self.spread = spread

    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Copy and add noise; a number that is the same in all training records gets none."""
        with torch.no_grad():
            copied = self.values[self.draw(label, generator)]
            varies = (self.values != self.values[:1]).any(0)
            noise = normal(tuple(copied.shape), copied, generator) * self.scale * self.spread
            values = torch.where(varies, copied + noise, copied)
            return Made(
                values, label.to(values.device), torch.ones(len(values), dtype=values.dtype, device=values.device)
            )
