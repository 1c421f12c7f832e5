"""The last records of a stream."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.registry import buffers

from .buffer import ReplayBuffer


@buffers.register("fifo")
class FIFO(ReplayBuffer):
    """First in, first out: a buffer of two that saw 1, 2, 3 holds 2 and 3."""

    def insert(self, rows: Int[Tensor, " fresh"], embedding: Float[Tensor, "fresh dim"] | None) -> None:
        """Take in some records."""
        del embedding
        self.rows.copy_(torch.cat([self.rows, rows])[-self.size :])
