"""Which records, and which tasks, every step of an epoch learns from."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fusionkit.core.modality import Array
from fusionkit.training.order import derive_seed, epoch_order


class Step(NamedTuple):
    """Rows of one step, and the tasks whose labels it does not look at."""

    rows: Int[Tensor, " batch"]
    hidden: tuple[str, ...] = ()


Plan = Callable[[int], list[Step]]
"""From an epoch's number to its steps, the same whenever it is asked."""


class JointPlan:
    """Every step learns all tasks that have labels in it; an epoch takes every record once.

    Args:
        rows: the training rows.
        steps: how many steps an epoch has.
        seed: of the order.
    """

    def __init__(self, rows: Int[Tensor, " record"], steps: int, seed: int) -> None:
        self.rows, self.steps, self.seed = rows, steps, seed

    def __call__(self, epoch: int) -> list[Step]:
        """The epoch's records in its order, in parts of about one size."""
        return [Step(rows) for rows in epoch_order(self.rows, self.seed, epoch).tensor_split(self.steps)]


class RandomTaskPlan:
    r"""Every step learns one task, drawn with :math:`p_t \propto n_t^\alpha` of its n labelled records.

    This is the second way to train on records that have one label each: alpha 1 takes tasks as often as they have
    labels, 0 takes all alike. A task's records come in an order of its own, once through before any comes again. With
    10 and 30 records, alpha 1 draws the first task in a quarter of the steps.

    Args:
        labelled: by task, the training rows with a label.
        batch: records in a step.
        steps: how many steps an epoch has.
        seed: of tasks and order.
        alpha: the exponent.

    Reference:
        Larson, Machine Learning Lecture Notes (multi-task notebook, "method two").
    """

    def __init__(
        self, labelled: Mapping[str, Int[Tensor, " record"]], batch: int, steps: int, seed: int, alpha: float
    ) -> None:
        self.labelled = {task: rows for task, rows in labelled.items() if len(rows)}
        self.names = tuple(labelled)
        self.batch, self.steps, self.seed = batch, steps, seed
        share = np.array([len(rows) for rows in self.labelled.values()], dtype=np.float64) ** alpha
        self.probabilities: Array = share / share.sum()

    def __call__(self, epoch: int) -> list[Step]:
        """The epoch's steps, a task each."""
        draw = np.random.default_rng(derive_seed("task", self.seed, epoch))
        tasks = draw.choice(list(self.labelled), size=self.steps, p=self.probabilities).tolist()
        queues = {task: rows[:0] for task, rows in self.labelled.items()}
        passes = dict.fromkeys(queues, 0)
        steps = []
        for task in tasks:
            while len(queues[task]) < min(self.batch, len(self.labelled[task])):
                again = epoch_order(self.labelled[task], derive_seed(task, passes[task], self.seed), epoch)
                queues[task], passes[task] = torch.cat([queues[task], again]), passes[task] + 1
            rows, queues[task] = queues[task][: self.batch], queues[task][self.batch :]
            steps.append(Step(rows, tuple(name for name in self.names if name != task)))
        return steps


class SemiSupervisedPlan:
    """Every step has labelled records and, for each of them, some without labels.

    An epoch has as many steps as without hidden labels, so that methods, and none, train for the same number of steps
    over as many labelled records. Labelled and unlabelled records come in orders of their own, each once through before
    any comes again.

    Args:
        labelled: training rows with a label of any task.
        unlabelled: the others.
        batch: labelled records in a step; all of them where they are fewer.
        ratio: unlabelled records for a labelled one of ``batch``; 0 takes none.
        steps: how many steps an epoch has.
        seed: of the orders.
    """

    def __init__(
        self,
        labelled: Int[Tensor, " known"],
        unlabelled: Int[Tensor, " other"],
        batch: int,
        ratio: int,
        steps: int,
        seed: int,
    ) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled
        self.batch, self.ratio, self.steps, self.seed = batch, ratio, steps, seed

    def __call__(self, epoch: int) -> list[Step]:
        """The epoch's steps, labelled records first in each."""
        known = self._draw("labelled", self.labelled, self.batch, epoch)
        other = self._draw("unlabelled", self.unlabelled, self.batch * self.ratio, epoch)
        return [Step(torch.cat(pair)) for pair in zip(known, other, strict=True)]

    def _draw(self, name: str, rows: Int[Tensor, " record"], count: int, epoch: int) -> list[Int[Tensor, " batch"]]:
        count = min(count, len(rows))
        passes = -(-count * self.steps // max(len(rows), 1))
        seeds = [derive_seed(name, number, self.seed) for number in range(passes)]
        order = torch.cat([rows[:0], *(epoch_order(rows, seed, epoch) for seed in seeds)])
        return [order[count * step : count * (step + 1)] for step in range(self.steps)]
