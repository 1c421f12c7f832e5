"""What every replay buffer is: a few records of a stream, from which every step draws its batch."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

EMPTY = -1


class ReplayBuffer(nn.Module, ABC):
    """Keep at most ``size`` records of a stream. Its keyword-only arguments are its recipe options.

    All of it lies on the device and is checkpointed with the stage; no length ever leaves the device. Places that are
    not filled yet hold `EMPTY` and come first; else the oldest comes first.

    Args:
        size: most records that are kept.
        dim: numbers of a record's embedding.

    Attributes:
        kind: its registered name, in the registry ``buffers``.
        compares: whether it looks at embeddings; one that does not is given none.
    """

    kind: ClassVar[str]
    compares: ClassVar[bool] = False
    rows: Int[Tensor, " size"]

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        del dim
        self.register_buffer("rows", torch.full((size,), EMPTY))

    @property
    def size(self) -> int:
        """Most records that are kept."""
        return len(self.rows)

    @abstractmethod
    def insert(self, rows: Int[Tensor, " fresh"], embedding: Float[Tensor, "fresh dim"] | None) -> None:
        """Take in records in the order in which they came, and forget what is too much.

        Args:
            rows: which records of the study.
            embedding: of each; None where the buffer does not compare.
        """

    def sample(self, batch: int) -> Int[Tensor, " batch"]:
        """Places of some records, none twice as long as there are enough; at least one must be filled."""
        filled = self.rows != EMPTY
        draw = torch.rand(self.size, device=self.rows.device)
        order = torch.where(filled, draw, 2.0).argsort()
        return order[torch.arange(batch, device=order.device) % filled.sum().clamp_min(1)]

    def refresh(self, places: Int[Tensor, " batch"], embedding: Float[Tensor, "batch dim"]) -> None:
        """Hear what drawn records look like to the encoders as they are now."""
        del places, embedding
