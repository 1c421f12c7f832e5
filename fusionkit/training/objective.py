"""What training minimises: every task's mean loss over labelled records, and what fusion operations add."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.augment.mixup import Mixture, mix
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch
from fusionkit.core.processes import summed, world_size
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.fusion.operation import LateFusion
from fusionkit.heads.adversary import SUBJECT, SubjectAdversary
from fusionkit.heads.soft_sharing import SoftSharing
from fusionkit.heads.task import Task
from fusionkit.losses.balancing.balance import Balance
from fusionkit.losses.balancing.fixed import Fixed
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency
from fusionkit.training.start import HeldBack
from fusionkit.training.update import Terms


class TaskObjective(nn.Module):
    """Sum over tasks of weight times mean loss; a missing label counts exactly nothing.

    With a late node, every branch answers for itself and the branches' losses are averaged (they are trained as
    independent classifiers); the merged decision adds its own loss only where the rule has weights to learn. A late
    node with an objective of its own (`LateFusion.loss`) trains branches and merged decision by that.
    Streams that an intermediate operation lets learn by themselves add their losses, each times its weight; where
    these weights are blended (`GradientBlending`), the loss of the answer has one, too, and validation has only that.

    Training weighs the tasks by ``balance`` on top of their own weights, and adds what ties trunks together
    (`SoftSharing`), the subject adversary and consistency; validation sees none of these, so that its losses compare.

    Args:
        model: the fusion model.
        tasks: the tasks, fitted to the training labels.
        weights: weight of each task.
        mixup: alpha of `mix`, which mixes training batches; 0 leaves them as they are.
        balance: weighs the tasks' losses in training; by default `Fixed`.
        adversary: guesses the subject, named by the target `SUBJECT`.
        consistency: what is learned beside the tasks from records without labels.
        held: parts that were trained before; None where all begin with random weights.
    """

    task_weights: Tensor

    def __init__(
        self,
        model: FusionModel,
        tasks: Mapping[str, Task],
        weights: Mapping[str, float],
        *,
        mixup: float = 0.0,
        balance: Balance | None = None,
        adversary: SubjectAdversary | None = None,
        consistency: Sequence[Consistency] = (),
        held: HeldBack | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.held = held
        self.tasks = dict(tasks)
        self.weights = dict(weights)
        self.mixup = mixup
        self.balance = balance if balance is not None else Fixed([task.outcome for task in tasks.values()])
        self.adversary = adversary
        self.consistency = nn.ModuleList(consistency)
        self.learned = {
            name for name, merge in model.merges.items() if any(p.requires_grad for p in merge.parameters())
        }
        weight = torch.tensor([self.weights.get(name, 1.0) for name in self.tasks])
        self.register_buffer("task_weights", weight, persistent=False)
        self._soft = [part for part in model.modules() if isinstance(part, SoftSharing)]
        self._last: list[nn.Parameter] | None = None

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """The loss of one batch; ``generator`` is for training alone."""
        if generator is None:
            return self.combine(self.model(batch.inputs, generator), batch.targets)
        tasks, _, auxiliary, _ = self.terms(batch, generator)
        return auxiliary + tasks.sum()

    def terms(self, batch: Batch, generator: torch.Generator | None = None) -> Terms:
        """What training adds up for one batch, task by task."""
        inputs, mixture = batch.inputs, None
        if generator is not None and self.mixup:
            mixture = mix(batch.inputs, self.mixup, generator)
            inputs = mixture.inputs
        output = self.model(inputs, generator)
        targets = batch.targets if generator is None else self._released(output, batch.targets)
        losses, labelled, auxiliary, separate = self.losses(output, targets, mixture)
        terms = self.balance(losses, labelled)
        if self.balance.training and torch.is_grad_enabled() and not isinstance(self.balance, Fixed):
            heard = losses if self.balance.compares_norms else summed(losses) / world_size()
            self.balance.learn(heard, labelled, self._norms)
        for part in self._soft:
            auxiliary = auxiliary + part.distance()
        if self.adversary is not None:
            auxiliary = auxiliary + self._guess(self.adversary, output, batch.targets[SUBJECT], mixture)
        if len(self.consistency) and generator is not None:
            answers = Answers(self.model, batch, output, generator)
            for method in self.consistency:
                auxiliary = auxiliary + method(answers)
        return Terms(self.task_weights * terms, labelled, auxiliary, separate)

    def combine(self, output: Output, targets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The loss of an output that was computed before, by the tasks' own weights."""
        losses, _, auxiliary, _ = self.losses(output, targets)
        return auxiliary + (self.task_weights * losses).sum()

    def losses(self, output: Output, targets: Mapping[str, Tensor], mixture: Mixture | None = None) -> Terms:
        """Every task's mean loss without weights, of records as they are or of a mixture of them.

        A task without targets has loss 0, and no gradient reaches what is its own.
        """
        found, labelled = [], []
        for name, task in self.tasks.items():
            loss = output.auxiliary.new_zeros(())
            here = torch.zeros((), dtype=torch.bool, device=loss.device)
            for share, (part, weight) in (
                self._parts(name, task, output, targets[name], mixture) if name in targets else ()
            ):
                mean, weight = _mean(part, weight)
                loss, here = loss + share * mean, here | (weight > 0)
            found.append(loss)
            labelled.append(here)
        return Terms(torch.stack(found), torch.stack(labelled), output.auxiliary, found)

    def _parts(
        self, name: str, task: Task, output: Output, target: Tensor, mixture: Mixture | None
    ) -> Iterator[tuple[float | Tensor, tuple[Float[Tensor, ""], Float[Tensor, ""]]]]:
        """Shares in a task's loss: each with the sums of losses and of weights."""
        answer, weights = self._shares() if output.alone else (1.0, {})
        for part, own in output.alone.items():
            if name in own and part in weights:
                yield weights[part], _loss(task, own[name].float(), target, mixture, output.seen[part])
        for share, sums in self._answers(name, task, output, target, mixture):
            yield answer * share, sums

    def _shares(self) -> tuple[float | Tensor, Mapping[str, float | Tensor]]:
        """What the loss of the answer counts, and what those of streams that learn by themselves do."""
        weights: dict[str, float | Tensor] = dict(self.model.stream_weights)
        if self.model.blended is None:
            return 1.0, weights
        node, operation = self.model.blended
        *alone, answer = operation.weight.unbind()
        blended = {f"{node}.{name}": weight for name, weight in zip(operation.inputs, alone, strict=True)}
        if torch.is_grad_enabled():
            return answer, weights | blended
        return 1.0, {part: weight for part, weight in weights.items() if part not in blended}

    def apart(self, output: Output, targets: Mapping[str, Tensor]) -> Float[Tensor, " loss"]:
        """The losses that are blended, each as if it were the only one: the sensors' and, last, that of the answer."""
        assert self.model.blended is not None
        node, operation = self.model.blended
        found = {part: output.auxiliary.new_zeros(()) for part in (*operation.inputs, "")}
        for name, task in self.tasks.items():
            scale = self.weights.get(name, 1.0)
            for part in operation.inputs:
                alone = f"{node}.{part}"
                if name in output.alone[alone]:
                    sums = _loss(task, output.alone[alone][name].float(), targets[name], None, output.seen[alone])
                    found[part] = found[part] + scale * _mean(*sums)[0]
            for share, sums in self._answers(name, task, output, targets[name], None):
                found[""] = found[""] + scale * share * _mean(*sums)[0]
        return torch.stack(list(found.values()))

    def _answers(
        self, name: str, task: Task, output: Output, target: Tensor, mixture: Mixture | None
    ) -> Iterator[tuple[float, tuple[Float[Tensor, ""], Float[Tensor, ""]]]]:
        """As `_parts`, of the answer and of the branches that it is merged from."""
        merged = name in self.model.merges
        merge = cast(LateFusion, self.model.merges[name]) if merged else None
        if merge is not None and getattr(merge, "own_loss", False):
            if torch.is_grad_enabled():
                yield 1.0, _late_loss(merge, name, output, target, mixture)
            else:  # epochs compare by the merged decision alone: the objective itself is annealed
                yield 1.0, _loss(task, output.decisions[name].float(), target, mixture)
            return
        if not merged or name in self.learned:
            yield 1.0, _loss(task, output.decisions[name].float(), target, mixture)
        for part, own in output.branches.items() if merged else ():
            share = 1 / len(output.branches)
            yield share, _loss(task, own[name].float(), target, mixture, output.seen[part])

    def begin_epoch(self, epoch: int) -> None:
        """Hear that an epoch begins: parts that were trained before are frozen or free."""
        if self.held is not None:
            self.held.begin_epoch(epoch)

    def scales(self) -> dict[int, float]:
        """Factor on the learning rate of some parameters, by their ids."""
        parts = [part for part in (self.held, self.adversary) if part is not None]
        return {key: scale for part in parts for key, scale in part.scales().items()}

    def settle(self) -> None:
        """Hear that the optimiser made its step."""
        self.balance.settle()
        for method in cast(Iterable[Consistency], self.consistency):
            method.settle(self.model)

    def close_epoch(self) -> dict[str, float]:
        """Hear that an epoch ended; the tasks' weights that it ends with, where they are not fixed."""
        for merge in self.model.merges.values():
            if isinstance(merge, LateFusion):
                merge.close_epoch()
        self.balance.close_epoch()
        found: dict[str, float] = {}
        for method in cast(Iterable[Consistency], self.consistency):
            found |= method.close_epoch()
        if isinstance(self.balance, Fixed):
            return found
        weights = self.balance.weights().tolist()
        return found | {f"weight_{name}": value for name, value in zip(self.tasks, weights, strict=True)}

    def _released(self, output: Output, targets: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Targets without those that a consistency method holds back."""
        found = dict(targets)
        for method in cast(Iterable[Consistency], self.consistency):
            for name in method.tasks:
                found[name] = method.release(output.decisions[name].float(), found[name])
        return found

    def _norms(self, losses: Float[Tensor, " task"]) -> Float[Tensor, " task"]:
        """Norms of the gradients of losses in the last shared layers."""
        if self._last is None:
            self._last = _reached(last_layers(self.model), losses.sum())
        norms = []
        for loss in losses.unbind():
            found = torch.autograd.grad(loss, self._last, retain_graph=True, allow_unused=True)
            squares = [part.square().sum() for part in found if part is not None]
            norms.append(torch.stack(squares).sum().sqrt() if squares else torch.zeros_like(loss))
        return torch.stack(norms)

    def _guess(
        self, adversary: SubjectAdversary, output: Output, target: Tensor, mixture: Mixture | None
    ) -> Float[Tensor, ""]:
        """The adversary's weight times its mean loss over the readouts that heads read."""
        total = output.auxiliary.new_zeros(())
        guesses = adversary(output.readouts)
        for name, guess in guesses.items():
            total = total + _mean(*_loss(adversary.task, guess, target, mixture, output.seen.get(name)))[0]
        return adversary.weight * total / max(len(guesses), 1)


def last_layers(model: FusionModel) -> list[list[nn.Parameter]]:
    """For every stream that heads read, the weight matrices of what makes it: an encoder, or else an operation.

    Where an operation has none, those of its inputs are taken.
    """
    nodes = {node.name: node for node in model.graph.nodes}

    def behind(name: str) -> list[list[nn.Parameter]]:
        for parts in (model.encoders, model.operations):
            if name in parts:
                matrices = [p for p in parts[name].parameters() if p.requires_grad and p.ndim >= 2]
                if matrices:
                    return [matrices]
        return [found for one in (nodes[name].inputs if name in nodes else ()) for found in behind(one)]

    return [matrices for name in (*model.branch_heads, *model.heads) for matrices in behind(name)]


def _reached(layers: list[list[nn.Parameter]], loss: Float[Tensor, ""]) -> list[nn.Parameter]:
    """The last matrix of each stream that the loss reaches."""
    last: list[nn.Parameter] = []
    for matrices in layers:
        found = torch.autograd.grad(loss, matrices, retain_graph=True, allow_unused=True)
        reached = [matrix for matrix, part in zip(matrices, found, strict=True) if part is not None]
        last += [matrix for matrix in reached[-1:] if not any(matrix is other for other in last)]
    if not last:
        raise ConfigError("train.balance: gradnorm needs a weight matrix that the tasks share, but there is none")
    return last


def _late_loss(
    merge: LateFusion, name: str, output: Output, target: Tensor, mixture: Mixture | None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """As `_loss`, by the objective that a late node brings."""
    decisions = torch.stack([own[name] for own in output.branches.values()]).float()
    present = torch.stack([output.seen[part] for part in output.branches])
    loss, weight = merge.loss(decisions, present, target)
    if mixture is None:
        return loss, weight
    other, other_weight = merge.loss(decisions, present, target[mixture.partner])
    return torch.lerp(other, loss, mixture.share), torch.lerp(other_weight, weight, mixture.share)


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


def _mean(loss: Float[Tensor, ""], weight: Float[Tensor, ""]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean over all processes' labelled records, scaled so that averaging gradients over processes is exact.

    The weight that comes back is that of all processes.
    """
    if not torch.is_grad_enabled():
        return loss / weight.clamp_min(1e-12), weight
    weight = summed(weight)
    return loss * world_size() / weight.clamp_min(1e-12), weight
