"""Random streams and parts that derive from a seed, so that a resumed epoch is the same epoch."""

import hashlib

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any parts, the same under every hash seed, process and system."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def epoch_order(rows: Int[Tensor, " record"], seed: int, epoch: int) -> Int[Tensor, " record"]:
    """The rows in the order of this epoch."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return rows[torch.randperm(len(rows), generator=generator)]


def inner_parts(rows: Array, groups: Array, folds: int, seed: int) -> list[Array]:
    """Training rows in parts of whole groups, of about as many groups each; fewer parts where groups are few.

    Args:
        rows: the training rows.
        groups: the group of every record of the study.
        folds: how many parts are wanted.
        seed: of which groups go together.

    Raises:
        DataError: there is one group, which leaves nothing to train on.
    """
    names = np.unique(groups[rows])
    if len(names) < 2:
        raise DataError(
            f"fusion: inner parts of the training records need two groups or more to be cut from, but there is {len(names)}"
        )
    shuffled = np.random.default_rng(seed).permutation(names)
    return [rows[np.isin(groups[rows], part)] for part in np.array_split(shuffled, min(folds, len(names)))]
