"""Which embeddings are alike: looks at one record, or at records of one class."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import Batch

MULTIPLIER = 6364136223846793005
"""Of Knuth's MMIX generator: sums of its powers tell sets of labels apart, however many labels there are."""


def class_task(classes: Mapping[str, int], task: str | None) -> str:
    """The task whose classes say who is alike: the one that is named, else the first.

    Raises:
        ConfigError: there is none.
        UnknownNameError: no task with classes has that name.
    """
    if not classes:
        raise ConfigError("records are alike by their classes, so a task must have some, but none has")
    if task is not None and task not in classes:
        raise UnknownNameError("task with classes", task, list(classes))
    return task or next(iter(classes))


def identity(batch: Batch, task: str | None) -> Int[Tensor, " batch"]:
    """A number for every record, equal where records are alike.

    The class, from 0 on; with several labels a record, a number for the set of them; of a record without a label, or
    where no task is named, a number below 0 that only this record of the study has. Classes (2, missing, 2) in rows 7,
    8 and 9 give (2, -9, 2).

    Args:
        batch: with targets; without ``index``, records are counted from the batch's first.
        task: whose classes count; None for none.
    """
    some = next(iter(batch.inputs.values())).present
    row = torch.arange(len(some), device=some.device) if batch.index is None else batch.index.to(some.device)
    own = -1 - row
    target = None if task is None else batch.targets.get(task)
    if target is None:
        return own
    known = ~target.isnan()
    number = torch.where(known, target, torch.zeros_like(target)).long()
    if target.ndim == 2:
        known = known.all(1)
        odd = torch.full((target.shape[1],), MULTIPLIER, device=number.device).cumprod(0)  # powers, modulo 2 ** 64
        number = (number * odd).sum(1) & torch.iinfo(torch.long).max
    return torch.where(known, number, own)
