"""Random streams that derive from seed and epoch, so that a resumed epoch is the same epoch."""

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, the same under every hash seed, process and system."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def epoch_order(rows: Int[Tensor, " record"], seed: int, epoch: int) -> Int[Tensor, " record"]:
    """The rows in the order of this epoch."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return rows[torch.randperm(len(rows), generator=generator)]
