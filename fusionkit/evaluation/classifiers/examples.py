"""What a classifier learns from: vectors with classes, some of them real and some generated."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MADE = -1
"""Group of a record that is generated."""

Probabilities = Callable[[Float[Tensor, "query width"]], Float[Tensor, "query class_"]]
"""What a fitted classifier answers; a class that had no record has probability 0."""


@dataclass(frozen=True)
class Examples:
    """Training records of a classifier.

    Attributes:
        values: of any scale.
        label: class of each.
        share: weight of each; a record of mixed classes is there once for each.
        group: whom each is of, for choices within training; `MADE` for generated ones, which choose nothing.
        classes: how many there are, with or without records.
    """

    values: Float[Tensor, "record width"]
    label: Int[Tensor, " record"]
    share: Float[Tensor, " record"]
    group: Int[Tensor, " record"]
    classes: int

    @property
    def real(self) -> Bool[Tensor, " record"]:
        """Which records were measured; all where none was."""
        real = self.group != MADE
        return real if bool(real.any()) else torch.ones_like(real)

    def of(self, keep: Bool[Tensor, " record"]) -> "Examples":
        """Some of the records."""
        return Examples(self.values[keep], self.label[keep], self.share[keep], self.group[keep], self.classes)

    def standardiser(self) -> Callable[[Float[Tensor, "query width"]], Float[Tensor, "query width"]]:
        """To zero mean and unit variance over real records; a number that is constant becomes 0."""
        real = self.values[self.real]
        mean, deviation = real.mean(0), real.std(0, correction=0)
        varies = deviation > 1e-6 * mean.abs()
        scale = torch.where(varies, 1 / deviation.clamp(min=torch.finfo(real.dtype).tiny), torch.zeros_like(deviation))
        return lambda values: (values - mean) * scale

    def only_class(self) -> Probabilities | None:
        """The answer where all records are of one class; else None."""
        if bool((self.label != self.label[0]).any()):
            return None
        certain = torch.nn.functional.one_hot(self.label[0].long(), self.classes).float()
        return lambda values: certain.to(values.device).expand(len(values), -1)
