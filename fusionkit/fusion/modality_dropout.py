"""ModDrop: whole sensors vanish in training, so that a missing one is a normal input."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor


def drop_modalities(
    present: Mapping[str, Bool[Tensor, " batch"]], probability: float, generator: torch.Generator | None = None
) -> dict[str, Bool[Tensor, " batch"]]:
    """Drop each present sensor of each sample with ``probability``, but keep at least one that was there.

    With probability 1 exactly one present sensor is kept, drawn evenly; with 0 nothing changes. Values are not rescaled.

    Reference:
        Neverova et al., ModDrop, TPAMI 38(8), 2016.
    """
    names = list(present)
    there = torch.stack([present[name] for name in names])
    draw = torch.rand(there.shape, generator=generator, device=there.device)
    keep = there & (draw >= probability)
    last = torch.where(there, draw, -torch.ones_like(draw)).argmax(0)  # the luckiest of those that were there
    rescued = torch.nn.functional.one_hot(last, len(names)).T.bool() & there
    keep = torch.where(keep.any(0), keep, rescued)
    return dict(zip(names, keep, strict=True))
