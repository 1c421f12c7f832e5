"""Hard examples that were come across lately, kept to be met again."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

FADING = 0.9


class HardList(nn.Module):
    """Embeddings of one sensor that were hard to tell from an anchor of another kind, the hardest first.

    The embeddings are as old as they are; so their hardness fades, a tenth a step, and newer ones take their place.
    A reconstruction: the lecture says only that a hard example which comes up is added to the list of hard ones.

    Args:
        size: how many.
        out: numbers of an embedding.
    """

    values: Tensor
    identity: Tensor
    hardness: Tensor

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(size, out))
        self.register_buffer("identity", torch.zeros(size, dtype=torch.long))
        self.register_buffer("hardness", torch.zeros(size))  # 0 where a place is empty

    @torch.no_grad()
    def meet(
        self,
        values: Float[Tensor, "some out"],
        identity: Int[Tensor, " some"],
        hardness: Float[Tensor, " some"],
        again: Float[Tensor, " size"],
    ) -> None:
        """Keep the hardest of the old and the new.

        Args:
            values: new embeddings.
            identity: which are alike.
            hardness: how much each broke the margin by; 0 where it did not.
            again: the same of those in the list, in this step.
        """
        size = len(self.hardness)
        hardness = torch.cat([torch.maximum(self.hardness * FADING, again), hardness])
        most, best = hardness.topk(size)
        self.hardness.copy_(most)  # in place, or several processes would not know of it
        self.values.copy_(torch.cat([self.values, values.to(self.values.dtype)])[best])
        self.identity.copy_(torch.cat([self.identity, identity])[best])
