"""MinRed: of what a stream gives, the records that are least like each other."""

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.registry import buffers

from .buffer import EMPTY, ReplayBuffer


def least_redundant(
    embedding: Float[Tensor, "count dim"], filled: Bool[Tensor, " count"], size: int
) -> Int[Tensor, " size"]:
    r"""Which ``size`` records stay, in order, when the one whose nearest other is nearest is forgotten again and again:

    .. math:: i^* = \arg\min_i \min_{j \neq i} \left(1 - \frac{z_i \cdot z_j}{\lVert z_i \rVert \lVert z_j \rVert}\right)

    The two nearest are each other's nearest, so that this is always a tie: the earlier one goes. Of directions at 0, 5,
    90, 180 and 265 degrees, whose nearest are at distances 0.0038, 0.0038, 0.9128, 0.9128 and 0.9128, the first goes.
    Places that are not filled go before all. Two records without any sensor (zeros) are alike.

    One product of all with all, then one look at all distances for each record that goes.

    Args:
        embedding: of each record, the oldest first.
        filled: which of them are records.
        size: how many stay.
    """
    count = len(embedding)
    unit = F.normalize(embedding, dim=1)
    unit = torch.cat([unit, (~unit.any(1, keepdim=True)).to(unit.dtype)], 1)
    later = torch.ones(count, count, dtype=torch.bool, device=unit.device).triu(1)
    distance = torch.where(later & filled, 1 - unit @ unit.T, math.inf)
    distance = torch.where(filled[:, None], distance, -math.inf)
    gone = torch.zeros(count, dtype=torch.bool, device=unit.device)
    for _ in range(count - size):
        first = distance.flatten().argmin()[None] // count
        gone.index_fill_(0, first, True)
        distance.index_fill_(0, first, math.inf)
        distance.index_fill_(1, first, math.inf)
    return gone.long().argsort(stable=True)[:size]


@buffers.register("min_red")
class MinRed(ReplayBuffer):
    r"""Minimum redundancy: what is like something else in the buffer is forgotten first (`least_redundant`).

    A stream shows the same scene many times in a row; a buffer of the last records, or of any, is full of it. The
    embedding of a record that is drawn moves to what encoders say now: :math:`z \leftarrow \alpha z + (1 - \alpha)
    z_\text{new}`, both of unit length.

    Args:
        size: most records that are kept.
        dim: numbers of an embedding.
        momentum: :math:`\alpha`; 0 takes the new one, 1 leaves the first.

    Reference:
        Purushwalkam, Morgado, Gupta, The Challenges of Continuous Self-Supervised Learning, ECCV 2022.
    """

    compares = True
    embedding: Float[Tensor, "size dim"]

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        momentum: Annotated[float, Field(ge=0, le=1, description="share of the old in a new embedding")] = 0.5,
    ) -> None:
        super().__init__(size, dim)
        self.momentum = momentum
        self.register_buffer("embedding", torch.zeros(size, dim))

    def insert(self, rows: Int[Tensor, " fresh"], embedding: Float[Tensor, "fresh dim"] | None) -> None:
        """Take in some records."""
        assert embedding is not None
        joined = torch.cat([self.rows, rows])
        seen = torch.cat([self.embedding, F.normalize(embedding.float(), dim=1)])
        kept = least_redundant(seen, joined != EMPTY, self.size)
        self.rows.copy_(joined[kept])
        self.embedding.copy_(seen[kept])

    def refresh(self, places: Int[Tensor, " batch"], embedding: Float[Tensor, "batch dim"]) -> None:
        """Move the embeddings of drawn records; one that was drawn twice moves to the mean."""
        new = torch.zeros_like(self.embedding).index_add(0, places, F.normalize(embedding.float(), dim=1))
        drawn = torch.zeros_like(self.rows, dtype=torch.bool).index_fill(0, places, True)
        moved = self.momentum * self.embedding + (1 - self.momentum) * F.normalize(new, dim=1)
        self.embedding.copy_(torch.where(drawn[:, None], F.normalize(moved, dim=1), self.embedding))
