"""Processes that train one model together."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def world_size() -> int:
    """How many train together; 1 where nothing is shared."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def summed(values: Tensor) -> Tensor:
    """The sum of every process's values, without gradient: 3 in one and 4 in another are 7 in both.

    All processes must ask for it alike.
    """
    values = values.detach()
    if world_size() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def gathered(*values: Tensor) -> tuple[Tensor, ...]:
    """The rows of every process, those of the first before those of the second, with gradient.

    The gradient that comes back to a process's rows is the sum of what all processes have for them. So where each makes
    the loss of all rows, and data parallel training takes the mean of the processes' gradients, that is the gradient of
    one process with the whole batch. Processes may have different numbers of rows, which they tell each other first: the
    one number that a step on several devices waits for. All processes must ask for it alike.

    Args:
        values: tensors with as many rows each.
    """
    if world_size() == 1:
        return values
    mine = torch.tensor([len(values[0])], device=values[0].device)
    sizes = [torch.empty_like(mine) for _ in range(world_size())]
    distributed.all_gather(sizes, mine)
    counts = torch.cat(sizes).tolist()
    return tuple(_gathered(tensor, counts) for tensor in values)


def _gathered(values: Tensor, counts: list[int]) -> Tensor:
    if values.dtype == torch.bool:
        return _gathered(values.to(torch.uint8), counts).bool()
    joined: Tensor = _Gathered.apply(values, counts)  # type: ignore[no-untyped-call]
    return joined


class _Gathered(torch.autograd.Function):
    """Rows of all processes; processes with fewer send zeros behind theirs, which nobody keeps."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        behind = max(counts) - len(values)
        padded = F.pad(values, (0, 0) * (values.ndim - 1) + (0, behind)).contiguous()
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.split(summed(gradients[0].contiguous()), ctx.counts)[distributed.get_rank()], None
