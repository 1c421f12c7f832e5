"""Estimate the weights of gradient blending: train every loss alone for a while, and see what it gains and overfits."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.evaluation.predict import outputs
from fusionkit.fusion.gradient_blending import blend
from fusionkit.training.countdown import Countdown
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.interruption import StopRequest
from fusionkit.training.objective import TaskObjective
from fusionkit.training.order import derive_seed
from fusionkit.training.update import Update
from fusionkit.training.validation import join


class Blending:
    """Sets the weights of the model's `GradientBlending` at the epochs where they are due.

    Copies of the whole objective train, one a loss, from the weights as they are, each with an optimiser and a
    schedule of its own; nothing of them stays but the losses before and after. All draws follow from seed and epoch, so
    that a training that was killed estimates the same again.

    Args:
        objective: of the model that has the operation.
        loader: rows to batches, and targets.
        targets: of every record, by task.
        train: rows that the copies train on.
        held_out: rows that no copy, and nothing before it, trains on.
        settings: how to train.
        seed: of order, dropout and augmentation.
        device: where the objective lives.
        update: makes one step.
        stop: a request to leave.
        say: hears, in lines for people, how far an estimate is.
    """

    def __init__(
        self,
        objective: TaskObjective,
        loader: Loader,
        targets: dict[str, Array],
        train: Array,
        held_out: Array,
        settings: Settings,
        *,
        seed: int,
        device: torch.device,
        update: Callable[..., Update],
        stop: StopRequest | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.objective, self.loader, self.targets = objective, loader, targets
        assert objective.model.blended is not None
        self.operation = objective.model.blended[1]
        self.train, self.held_out, self.seed = train, held_out, seed
        self.settings = replace(settings, epochs=self.operation.epochs, patience=0)
        self.options: dict[str, Any] = {"device": device, "update": update, "stop": stop}
        self.say = say

    def __call__(self, epoch: int) -> None:
        """Set the weights, if they are due at the start of this epoch."""
        if epoch % self.operation.epochs or (epoch and not self.operation.online):
            return
        before = self.losses(self.objective)
        after = torch.empty_like(before)
        names = [*self.operation.streams, "all together"]
        self.say(f"gradient blending: {len(names)} losses train alone for {self.settings.epochs} epochs each")
        countdown = Countdown(self.say, "gradient blending, epochs of losses alone")
        for number in range(len(names)):
            after[:, number] = self.losses(self._trained(number, epoch, countdown))[:, number]
        self.operation.weight.copy_(blend(before, after, self.operation.cap))
        weights = zip(names, self.operation.weight.tolist(), strict=True)
        self.say("gradient blending: weights " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights))

    def losses(self, objective: TaskObjective) -> Float[Tensor, "2 loss"]:
        """Means over training and held-out records, in evaluation mode."""
        return torch.stack([self._mean(objective, rows) for rows in (self.train, self.held_out)])

    def _trained(self, number: int, epoch: int, countdown: Countdown) -> TaskObjective:
        """A copy that trained by one loss."""
        made = copy.deepcopy(self.objective)
        assert made.model.blended is not None
        made.model.blended[1].weight.zero_()[number] = 1
        seed, epochs = derive_seed("blend", self.seed, epoch), self.settings.epochs

        def count(entry: Mapping[str, float]) -> None:
            countdown(number * epochs + entry["epoch"] + 1, len(self.operation.weight) * epochs)

        options = {**self.options, "on_epoch": count}
        Engine(made, self.loader.batch, torch.from_numpy(self.train), self.settings, seed=seed, **options).run()
        return made

    @torch.no_grad()
    def _mean(self, objective: TaskObjective, rows: Array) -> Float[Tensor, " loss"]:
        was = objective.model.training
        whole = join(outputs(objective.model, self.loader, rows))
        objective.model.train(was)
        targets = {
            name: torch.from_numpy(self.targets[name][rows]).float().to(whole.auxiliary.device)
            for name in objective.tasks
        }
        return objective.apart(whole, targets)
