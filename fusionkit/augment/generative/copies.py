"""Augmenters that train nothing: they change copies of training records."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.augment.augmentation import uniform
from fusionkit.core.errors import DataError

from .generator import GenerativeAugmenter, Item


class CopyAugmenter(GenerativeAugmenter):
    """Hold the training records, and draw of each wanted class as many as are wanted, with replacement.

    A subclass changes what it draws. The records are no saved state: it is prepared anew.

    Raises:
        DataError: a wanted class has no training record.
    """

    keeps_records: ClassVar[bool] = True
    values: Float[Tensor, "record *item"]
    label: Int[Tensor, " record"]

    def __init__(self, item: Item) -> None:
        super().__init__(item)
        self.register_buffer("values", torch.zeros(0, *item.shape), persistent=False)
        self.register_buffer("label", torch.zeros(0, dtype=torch.long), persistent=False)

    def prepare(self, values: Float[Tensor, "record *item"], label: Int[Tensor, " record"]) -> None:
        """Keep the training records, sorted by class, beside their mean and standard deviation."""
        super().prepare(values, label)
        order = label.argsort(stable=True)
        self.values, self.label = values[order].to(self.shift), label[order].to(self.shift.device)

    def draw(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Int[Tensor, " record"]:
        """A kept record for each wanted class, all of a class alike."""
        label = label.to(self.label.device)
        count = torch.bincount(self.label, minlength=self.item.classes)
        lacking = sorted(set(label[count[label] == 0].tolist()))
        if lacking:
            raise DataError(f"{self.kind} copies training records, but there are none of the classes {lacking}")
        place = (uniform((len(label),), self.values, generator) * count[label]).long()
        return count.cumsum(0)[label] - count[label] + torch.minimum(place, count[label] - 1)
