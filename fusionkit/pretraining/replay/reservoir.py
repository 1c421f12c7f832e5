"""An even sample of all that a stream ever gave."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.registry import buffers

from .buffer import EMPTY, ReplayBuffer


@buffers.register("reservoir")
class Reservoir(ReplayBuffer):
    """Every record so far is kept with the same probability: of 100 records, a buffer of 10 holds each with 0.1.

    Each record draws a number when it comes, and those with the largest stay: the same sample as Vitter's algorithm R,
    for whole batches at once.

    Args:
        size: most records that are kept.
        dim: not looked at.

    Reference:
        Vitter, Random Sampling with a Reservoir, ACM Transactions on Mathematical Software 1985.
    """

    keys: Float[Tensor, " size"]

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.register_buffer("keys", torch.full((size,), float(EMPTY), dtype=torch.float64))

    def insert(self, rows: Int[Tensor, " fresh"], embedding: Float[Tensor, "fresh dim"] | None) -> None:
        """Take in some records."""
        del embedding
        drawn = torch.rand(len(rows), dtype=self.keys.dtype, device=rows.device)
        keys, joined = torch.cat([self.keys, drawn]), torch.cat([self.rows, rows])
        kept = keys.topk(self.size).indices.sort().values
        self.rows.copy_(joined[kept])
        self.keys.copy_(keys[kept])
