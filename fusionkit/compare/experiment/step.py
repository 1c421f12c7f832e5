"""One step of training, and how long several calls take beside each other."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from fusionkit.core import registry
from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import Choice, Recipe
from fusionkit.training.device import pick_precision
from fusionkit.training.objective import TaskObjective
from fusionkit.training.update import JointUpdate

Clock = Callable[[], float]
WARM = 2
"""Calls that count nothing."""


class TrainingStep:
    """Forward, backward and AdamW for a batch that is loaded; without what a recipe adds to all strategies alike.

    That is the adversary, consistency and surgery. Weights move by next to nothing.

    Args:
        recipe: how it trains.
        model: where it lies.
        tasks: fitted.
        batch: what it learns from.
        device: of model and batch.
    """

    def __init__(
        self, recipe: Recipe, model: FusionModel, tasks: Mapping[str, Task], batch: Batch, device: torch.device
    ) -> None:
        settings = recipe.train
        balance = settings.balance or Choice(kind="fixed")
        outcomes = [task.outcome for task in tasks.values()]
        objective = TaskObjective(
            model,
            tasks,
            {name: entry.weight for name, entry in recipe.tasks.items()},
            mixup=settings.mixup,
            balance=registry.balancing.build(balance.kind, balance.options, outcomes),
        ).to(device)
        self.update = JointUpdate(
            objective,
            objective,
            weight_decay=settings.weight_decay,
            clip=settings.clip or None,
            precision=pick_precision(settings.precision, device),
            device=device,
        )
        self.model, self.batch, self.device = model, batch, device
        self.generator = torch.Generator(device).manual_seed(0)

    def __call__(self) -> None:
        """One step; on a GPU, until it is done."""
        self.model.train()
        self.update(self.batch, self.generator, 1e-9)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def time_in_turn(
    calls: Sequence[Callable[[], None]],
    rounds: int,
    *,
    fewest: int,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each call, a list a call, on one thread; in turn, so that other work on the machine slows all alike.

    Args:
        calls: what to time.
        rounds: how often.
        fewest: rounds that are taken however long they last.
        seconds: after which fewer rounds are enough.
        clock: what counts.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken: list[list[float]] = [[] for _ in calls]
        began = time.perf_counter()
        for number in range(rounds + WARM):
            for call, own in zip(calls, taken, strict=True):
                start = clock()
                call()
                own.append(clock() - start)
            if number + 1 >= fewest + WARM and time.perf_counter() - began > seconds:
                break
        return [own[WARM:] for own in taken]
    finally:
        torch.set_num_threads(before)
