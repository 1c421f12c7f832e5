"""What training minimises: every task's mean loss over labelled records, and what fusion operations add."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn

from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.heads.task import Task


class TaskObjective(nn.Module):
    """Sum over tasks of weight times mean loss; a missing label counts exactly nothing.

    With a late node, every branch answers for itself and the branches' losses are averaged (they are trained as
    independent classifiers); the merged decision adds its own loss only where the rule has weights to learn.

    Args:
        model: the fusion model.
        tasks: the tasks, fitted to the training labels.
        weights: weight of each task.
    """

    def __init__(self, model: FusionModel, tasks: Mapping[str, Task], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.tasks = dict(tasks)
        self.weights = dict(weights)
        self.learned = {
            name for name, merge in model.merges.items() if any(p.requires_grad for p in merge.parameters())
        }

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The loss of one batch."""
        return self.combine(self.model(batch.inputs, generator), batch.targets)

    def combine(self, output: Output, targets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss of an output that was computed before."""
        total = output.auxiliary
        for name, task in self.tasks.items():
            target = targets[name]
            merged = name in self.model.merges
            if not merged or name in self.learned:
                total = total + self.weights[name] * _mean(*task.loss(output.decisions[name].float(), target))
            for branch, decisions in output.branches.items() if merged else ():
                seen = _hide(target, output.seen[branch])
                loss = _mean(*task.loss(decisions[name].float(), seen))
                total = total + self.weights[name] * loss / len(output.branches)
        return total


def _hide(target: Tensor, seen: Bool[Tensor, " batch"]) -> Tensor:
    """Targets of records that a branch cannot see are missing to it."""
    here = seen.reshape((-1,) + (1,) * (target.ndim - 1))
    return torch.where(here, target, torch.full_like(target, torch.nan))


def _mean(loss: Float[Tensor, ""], weight: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Mean over all processes' labelled records, scaled so that averaging gradients over processes is exact."""
    world = 1
    if distributed.is_available() and distributed.is_initialized() and torch.is_grad_enabled():
        world = distributed.get_world_size()
        weight = weight.detach().clone()
        distributed.all_reduce(weight)
    return loss * world / weight.clamp_min(1e-12)
