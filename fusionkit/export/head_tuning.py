"""A few steps of the heads alone, on a few labelled minutes of one person."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task
from fusionkit.training.objective import TaskObjective

BATCH = 64


@dataclass(frozen=True)
class HeadTuning:
    """What tuning did to the loss of the last part of the calibration, which it did not see.

    Attributes:
        before: as the run left the heads.
        after: with the best epoch's heads.
        epoch: which that was, from 1; 0: none was better, and the heads are as they were.
    """

    before: float
    after: float
    epoch: int

    @property
    def kept(self) -> bool:
        """Whether heads changed."""
        return self.epoch > 0

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "kept": self.kept}


def tune_heads(
    model: FusionModel,
    tasks: Mapping[str, Task],
    weights: Mapping[str, float],
    loader: Loader,
    fit: Array,
    judge: Array,
    *,
    epochs: int,
    lr: float,
) -> HeadTuning:
    """Train the heads of a model in place, by Adam; all else keeps its bits.

    Every epoch is judged by the run's own loss on records that come later; the heads of the best one stay, or those
    there were. Nothing is dropped or augmented.

    Args:
        model: on the CPU.
        tasks: that have labels.
        weights: of the tasks.
        loader: of windows and targets.
        fit: rows that are learned from.
        judge: later rows, that decide.
        epochs: how many at most.
        lr: learning rate.
    """
    model.eval()
    heads = [*model.heads.values(), *model.branch_heads.values()]
    own: list[Tensor] = [p for part in heads for p in part.parameters() if p.requires_grad]
    objective = TaskObjective(model, tasks, weights)
    objective.eval()
    others = [p for p in model.parameters() if p.requires_grad and all(p is not mine for mine in own)]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        optimiser = torch.optim.Adam(own, lr=lr)
        generator = torch.Generator().manual_seed(0)
        before = best = _loss(objective, loader, judge)
        kept, epoch = [copy.deepcopy(part.state_dict()) for part in heads], 0
        for number in range(1, epochs + 1):
            for rows in torch.split(torch.from_numpy(fit)[torch.randperm(len(fit), generator=generator)], BATCH):
                optimiser.zero_grad()
                objective(loader.batch(rows)).backward()
                optimiser.step()
            loss = _loss(objective, loader, judge)
            if loss < best:
                best, epoch, kept = loss, number, [copy.deepcopy(part.state_dict()) for part in heads]
        for part, state in zip(heads, kept, strict=True):
            part.load_state_dict(state)
    finally:
        model.zero_grad()
        for parameter in others:
            parameter.requires_grad_(True)
    return HeadTuning(before, best, epoch)


@torch.no_grad()
def _loss(objective: TaskObjective, loader: Loader, rows: Array) -> float:
    return float(objective(loader.batch(torch.from_numpy(rows))))
