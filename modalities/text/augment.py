"""Augmentations of text that work on its ids."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .vocabulary import DROPPED, PADDING


@augment.register("token_drop")
class TokenDrop(WindowAugmentation):
    """Hide each token with a probability of its own: its id becomes 1, which no sentence holds.

    The place stays, so length and mask stay true. Of 100 tokens with ``rate=0.1``, about 10 are hidden.

    Args:
        rate: probability of a token.
        probability: of changing a sentence at all.

    Reference:
        Word dropout: Iyyer et al., Deep Unordered Composition Rivals Syntactic Methods, ACL 2015 (theirs removes the
        place too).
    """

    axes: ClassVar[int] = 1
    ids: ClassVar[bool] = True

    def __init__(
        self,
        *,
        rate: Annotated[float, Field(ge=0, le=1, description="share of tokens that are hidden")] = 0.1,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing a sentence")] = 1.0,
    ) -> None:
        super().__init__()
        self.rate = rate
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch of ids."""
        ids = stream.values
        chosen = choose(len(ids), self.probability, ids, generator)
        hidden = (uniform(tuple(ids.shape), ids, generator) < self.rate) & chosen[:, None] & (ids != PADDING)
        return stream._replace(values=torch.where(hidden, torch.full_like(ids, DROPPED), ids))
