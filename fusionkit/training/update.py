"""One step of training: from a batch to moved weights."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.levels import Batch
from fusionkit.losses.balancing.surgery import Surgery
from fusionkit.training import checkpoint

Gradients = list[Tensor | None]


class Terms(NamedTuple):
    """What training adds up.

    ``tasks`` has a term a task, made of ``losses`` which are graphs of their own: no loss reaches what is another
    task's. ``labelled`` says which tasks have labels in the batch; ``auxiliary`` belongs to none.
    """

    tasks: Float[Tensor, " task"]
    labelled: Bool[Tensor, " task"]
    auxiliary: Float[Tensor, ""]
    losses: Sequence[Float[Tensor, ""]]


class TaskObjective(Protocol):
    """An objective that knows its tasks apart."""

    def terms(self, batch: Batch, generator: torch.Generator | None = None) -> Terms:
        """The terms of one batch, of which the loss is the sum."""


class Update(ABC):
    """Compute the loss of a batch and step.

    Args:
        objective: all that trains.
        call: the objective, or what wraps it where several processes train.
        weight_decay: of matrices.
        clip: largest norm of a gradient; None means no clipping.
        precision: of the forward pass; None means as the weights are.
        device: where everything lies.

    Attributes:
        parallel: whether several processes may share a step.
        optimisers: by name; the first part of their tensors' names in a checkpoint.
    """

    parallel: bool = False
    optimisers: dict[str, torch.optim.Optimizer]

    def __init__(
        self,
        objective: nn.Module,
        call: nn.Module,
        *,
        weight_decay: float,
        clip: float | None,
        precision: torch.dtype | None,
        device: torch.device,
    ) -> None:
        self.objective, self.call = objective, call
        self.weight_decay, self.clip, self.precision, self.device = weight_decay, clip, precision, device
        self.parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.optimisers = {"optimiser": self.optimiser()}

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator, lr: float) -> Float[Tensor, ""]:
        """One step; the loss before it, without gradient."""

    def tensors(self) -> dict[str, Tensor]:
        """The optimisers' state, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for name, optimiser in self.optimisers.items():
            found |= checkpoint.optimiser_tensors(optimiser, name)
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, optimiser in self.optimisers.items():
            checkpoint.restore_optimiser(optimiser, tensors, name)

    def optimiser(self) -> torch.optim.Optimizer:
        """An optimiser of everything that trains."""
        groups = decay_groups(self.objective, self.weight_decay)
        return torch.optim.AdamW(groups, fused=self.device.type in ("cpu", "cuda"))

    def autocast(self) -> Any:
        """What the forward pass runs in."""
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, self.precision)

    def step(self, optimiser: torch.optim.Optimizer, lr: float) -> None:
        """Clip, step, forget the gradients."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for group in optimiser.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def gradients(self, loss: Float[Tensor, ""], factor: Float[Tensor, ""] | None = None) -> Gradients:
        """Of every parameter, None where the loss does not reach it; times ``factor``. The graph stays."""
        if not loss.requires_grad:
            return [None] * len(self.parameters)
        live = [parameter for parameter in self.parameters if parameter.requires_grad]  # some are frozen for a while
        found = iter(torch.autograd.grad(loss, live, factor, retain_graph=True, allow_unused=True))
        return [next(found) if parameter.requires_grad else None for parameter in self.parameters]

    def task_gradients(self, terms: Terms) -> dict[int, Gradients]:
        """Of the term of every task that has labels, by its number."""
        here = [n for n, known in enumerate(terms.labelled.tolist()) if known and terms.losses[n].requires_grad]
        if not here:
            return {}
        factors = torch.autograd.grad(terms.tasks.sum(), [terms.losses[n] for n in here], retain_graph=True)
        return {n: self.gradients(terms.losses[n], factor) for n, factor in zip(here, factors, strict=True)}


class JointUpdate(Update):
    """The gradient of the whole loss, one step. Nothing is copied between host and device."""

    parallel = True

    def __call__(self, batch: Batch, generator: torch.Generator, lr: float) -> Float[Tensor, ""]:
        """One step."""
        with self.autocast():
            loss: Tensor = self.call(batch, generator)
        if loss.requires_grad:  # it may be that nothing trains
            loss.backward()  # type: ignore[no-untyped-call]
        self.step(self.optimisers["optimiser"], lr)
        return loss.detach()


class SurgeryUpdate(Update):
    """A gradient a task; those of shared parameters are combined, the others and the auxiliary one are as they are.

    A parameter is shared where the terms of two tasks or more reach it. Costs a backward pass a task.
    """

    objective: Any

    def __init__(self, *given: Any, surgery: Surgery, **options: Any) -> None:
        super().__init__(*given, **options)
        self.surgery = surgery

    def __call__(self, batch: Batch, generator: torch.Generator, lr: float) -> Float[Tensor, ""]:
        """One step."""
        with self.autocast():
            terms: Terms = self.objective.terms(batch, generator)
        found = list(self.task_gradients(terms).values())
        self._combine(found, generator)
        auxiliary, whole = self.gradients(terms.auxiliary), self.gradients(terms.tasks.sum())
        for place, parameter in enumerate(self.parameters):
            own = whole[place] if parameter.grad is None else parameter.grad  # no loss reaches what weighs the losses
            parts = [part for part in (own, auxiliary[place]) if part is not None]
            parameter.grad = torch.stack(parts).sum(0) if parts else None
        self.step(self.optimisers["optimiser"], lr)
        return (terms.tasks.sum() + terms.auxiliary).detach()

    def _combine(self, found: Sequence[Gradients], generator: torch.Generator) -> None:
        shared: list[int] = []
        for place, parameter in enumerate(self.parameters):
            own = [gradients[place] for gradients in found if gradients[place] is not None]
            if len(own) > 1:
                shared.append(place)
            elif own:
                parameter.grad = own[0]
        if not shared:
            return
        flat = torch.stack(
            [torch.cat([_flat(gradients[place], self.parameters[place]) for place in shared]) for gradients in found]
        )
        parts = torch.split(self.surgery(flat, generator), [self.parameters[place].numel() for place in shared])
        for place, part in zip(shared, parts, strict=True):
            self.parameters[place].grad = part.reshape(self.parameters[place].shape)


class PerTaskUpdate(Update):
    """A gradient a task, all at the same weights; then a step a task, each by an optimiser of its own.

    This is the first way to train on records that have one label each: shared weights make as many steps of Adam as
    there are tasks with labels, so that a task with a small loss pulls as hard as one with a large loss, and decay as
    often. A task without a label in the batch makes no step. What belongs to no task is shared out among those that
    step.

    Reference:
        Larson, Machine Learning Lecture Notes (multi-task notebook, "method one").
    """

    objective: Any

    def __init__(self, *given: Any, tasks: Sequence[str], **options: Any) -> None:
        super().__init__(*given, **options)
        self.optimisers = {f"optimiser_of_{task}": self.optimiser() for task in tasks}

    def __call__(self, batch: Batch, generator: torch.Generator, lr: float) -> Float[Tensor, ""]:
        """One step of every task."""
        with self.autocast():
            terms: Terms = self.objective.terms(batch, generator)
        found = self.task_gradients(terms)
        auxiliary = self.gradients(terms.auxiliary)
        optimisers = list(self.optimisers.values())
        for task, gradients in found.items():
            for parameter, own, common in zip(self.parameters, gradients, auxiliary, strict=True):
                parts = [] if own is None else [own]
                parts += [] if common is None else [common / len(found)]
                parameter.grad = torch.stack(parts).sum(0) if parts else None
            self.step(optimisers[task], lr)
        return (terms.tasks.sum() + terms.auxiliary).detach()


def _flat(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, gains, embeddings of single tokens and other vectors do not.

    A module that has ``scales`` gives a factor on the rate of some parameters, by their ids; these are groups of their own.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    scales: dict[int, float] = getattr(module, "scales", dict)()
    groups: list[dict[str, Any]] = []
    for scale in dict.fromkeys([1.0, *scales.values()]):
        alike = [parameter for parameter in trained if scales.get(id(parameter), 1.0) == scale]
        groups += [
            {"params": [p for p in alike if p.ndim >= 2], "weight_decay": weight_decay, "scale": scale},
            {"params": [p for p in alike if p.ndim < 2], "weight_decay": 0.0, "scale": scale},
        ]
    return groups
