"""Mixtures of two training records."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import uniform
from fusionkit.augment.mixup import symmetric_beta
from fusionkit.core.registry import generators

from .copies import CopyAugmenter
from .generator import Item, Made


@generators.register("mixup_copies")
class MixupCopies(CopyAugmenter):
    r"""Mix a training record of the class with any other one, and share the classes out alike.

    A mixture :math:`\lambda x_i + (1 - \lambda) x_j` is there twice: with the class of :math:`x_i` and
    the share :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`,
    and, behind all of these, with the class of :math:`x_j` and what remains. One share a mixture; the paper draws one a
    batch in its code.

    Args:
        item: what a record looks like.
        alpha: 0.2 mixes little, 1 draws all shares alike.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """

    mixes: ClassVar[bool] = True

    def __init__(
        self,
        item: Item,
        *,
        alpha: Annotated[float, Field(gt=0, description="of Beta(alpha, alpha)")] = 0.2,
    ) -> None:
        super().__init__(item)
        self.alpha = alpha

    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Mix; twice as many records as labels come back."""
        with torch.no_grad():
            own = self.draw(label, generator)
            other = (uniform((len(own),), self.values, generator) * len(self.values)).long()
            share = symmetric_beta(self.alpha, self.values, generator, (len(own),))
            values = torch.lerp(self.values[other], self.values[own], share.reshape(-1, *(1,) * (self.values.ndim - 1)))
            return Made(
                torch.cat([values, values]),
                torch.cat([self.label[own], self.label[other]]),
                torch.cat([share, 1 - share]),
            )
