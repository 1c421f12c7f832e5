"""What every consistency method is: a loss of a batch that needs no labels, through the whole model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.ramp import rise

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False, description="of its loss, once it has risen")]
Ratio = Annotated[int, Field(ge=1, description="unlabelled records for every labelled one in a batch")]
Ramp = Annotated[float, Field(ge=0, le=1, description="share of training in which the weight rises")]


class Consistency(nn.Module, ABC):
    """A loss of answers that should agree. Its keyword-only arguments are its recipe options.

    It is about the tasks that answer with probabilities, each counting as in the supervised loss, and about the answer
    of the whole model: with a late node, that is the merged one. Records with labels take part as if they had none,
    where a method says nothing else. A record without any sensor has one answer, and counts 0.

    Args:
        tasks: the weight of every task that answers with probabilities.
        steps: of the whole training.
        weight: of its loss.
        ratio: unlabelled records for a labelled one; the plan of the steps honours it.
        ramp: see `rise`.

    Attributes:
        step: how many steps have been made.

    Raises:
        ConfigError: no task answers with probabilities.
    """

    kind: ClassVar[str]
    step: Tensor
    sums: Tensor

    def __init__(self, tasks: Mapping[str, float], steps: int, weight: float, ratio: int, ramp: float) -> None:
        super().__init__()
        if not tasks:
            raise ConfigError(f"{self.kind} needs a task that answers with probabilities, but there is none")
        self.tasks, self.steps = dict(tasks), steps
        self.weight, self.ratio, self.ramp = weight, ratio, ramp
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(2))  # losses of this epoch's steps, and their number

    def forward(self, answers: Answers) -> Float[Tensor, ""]:
        """What it adds to the loss of one batch."""
        total = torch.zeros((), device=self.step.device)
        unlabelled = total
        for task, weight in self.tasks.items():
            total = total + weight * self.supervised(task, answers)
            unlabelled = unlabelled + weight * self.loss(task, answers)
        if torch.is_grad_enabled():
            self.sums += torch.stack([unlabelled.detach(), torch.ones_like(total)])
        return total + self.strength() * unlabelled

    @abstractmethod
    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        """The mean loss of one batch in one task, without weight."""

    def supervised(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        """A loss of labels that the method brings, which does not rise."""
        del task, answers
        return torch.zeros((), device=self.step.device)

    def release(
        self, answer: Float[Tensor, "batch *label class_"], target: Float[Tensor, "batch *label"]
    ) -> Float[Tensor, "batch *label"]:
        """The targets that the supervised loss of a task may see; NaN hides one."""
        del answer
        return target

    def strength(self) -> Float[Tensor, ""]:
        """What its loss counts now."""
        return self.weight * rise(self.progress(), self.ramp)

    def progress(self) -> Float[Tensor, ""]:
        """The share of training that is over."""
        return self.step / self.steps

    def bind(self, model: FusionModel) -> None:
        """Take a copy of what a teacher needs, once, before the first step (and before a checkpoint is restored)."""
        del model

    def settle(self, model: FusionModel) -> None:
        """Hear that the optimiser made its step: a teacher moves here."""
        del model
        self.step += 1

    def close_epoch(self) -> dict[str, float]:
        """Hear that an epoch ended: the mean of its losses, before their weight."""
        total, count = self.sums.tolist()
        self.sums.zero_()
        return {f"consistency_{self.kind}": total / max(count, 1)}
