"""What training minimises: every task's mean loss over labelled records, and what fusion operations add."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn

from fusionkit.augment.mixup import Mixture, mix
from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.heads.task import Task


class TaskObjective(nn.Module):
    """Sum over tasks of weight times mean loss; a missing label counts exactly nothing.

    With a late node, every branch answers for itself and the branches' losses are averaged (they are trained as
    independent classifiers); the merged decision adds its own loss only where the rule has weights to learn.
    Streams that an intermediate operation lets learn by themselves add their losses, each times its weight.

    Args:
        model: the fusion model.
        tasks: the tasks, fitted to the training labels.
        weights: weight of each task.
        mixup: alpha of `mix`, which mixes training batches; 0 leaves them as they are.
    """

    def __init__(
        self, model: FusionModel, tasks: Mapping[str, Task], weights: Mapping[str, float], *, mixup: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.tasks = dict(tasks)
        self.weights = dict(weights)
        self.mixup = mixup
        self.learned = {
            name for name, merge in model.merges.items() if any(p.requires_grad for p in merge.parameters())
        }

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The loss of one batch; ``generator`` is for training alone."""
        if generator is None or not self.mixup:
            return self.combine(self.model(batch.inputs, generator), batch.targets)
        mixture = mix(batch.inputs, self.mixup, generator)
        return self.combine(self.model(mixture.inputs, generator), batch.targets, mixture)

    def combine(
        self, output: Output, targets: Mapping[str, Tensor], mixture: Mixture | None = None
    ) -> Float[Tensor, ""]:
        """The loss of an output that was computed before, of records as they are or of a mixture of them."""
        total = output.auxiliary
        for name, task in self.tasks.items():
            target = targets[name]
            merged = name in self.model.merges
            if not merged or name in self.learned:
                loss = _mean(*_loss(task, output.decisions[name].float(), target, mixture))
                total = total + self.weights[name] * loss
            parts = [(part, own[name], 1 / len(output.branches)) for part, own in output.branches.items() if merged]
            parts += [
                (part, own[name], self.model.stream_weights[part]) for part, own in output.alone.items() if name in own
            ]
            for part, decision, share in parts:
                loss = _mean(*_loss(task, decision.float(), target, mixture, output.seen[part]))
                total = total + self.weights[name] * share * loss
        return total


def _loss(
    task: Task, decision: Tensor, target: Tensor, mixture: Mixture | None, seen: Bool[Tensor, " batch"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums of losses and of their weights; of a mixture, those of both labels by their shares."""
    loss, weight = task.loss(decision, target if seen is None else _hide(target, seen))
    if mixture is None:
        return loss, weight
    other, other_weight = _loss(task, decision, target[mixture.partner], None, seen)
    return torch.lerp(other, loss, mixture.share), torch.lerp(other_weight, weight, mixture.share)


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
