"""What an epoch is judged by: loss and main score of every task on validation records."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.evaluation.metrics import primary_metric, score
from fusionkit.evaluation.predict import outputs, prediction
from fusionkit.fusion.model import Output
from fusionkit.training.objective import TaskObjective


class Validation:
    """Loss and main score of every task on validation records, once an epoch."""

    def __init__(
        self,
        objective: TaskObjective,
        loader: Loader,
        rows: Array,
        targets: dict[str, Array],
        monitor: str,
        name_rows: Callable[[Tensor], str],
    ) -> None:
        self.objective, self.loader, self.rows, self.targets = objective, loader, rows, targets
        self.monitor, self.name_rows = monitor, name_rows
        self.labelled = any(not np.isnan(targets[name][rows]).all() for name in objective.tasks)

    @torch.no_grad()
    def __call__(self) -> tuple[float | None, dict[str, float]]:
        whole = join(outputs(self.objective.model, self.loader, self.rows))
        target = {
            name: torch.from_numpy(values[self.rows]).float().to(whole.auxiliary.device)
            for name, values in self.targets.items()
            if name in self.objective.tasks
        }
        entry = {"validation_loss": float(self.objective.combine(whole, target))}
        errors = []
        for name, task in self.objective.tasks.items():
            metric = primary_metric(task)
            answers = prediction(task, whole.decisions[name].cpu().double().numpy())
            strange = ~np.isfinite(answers).reshape(len(answers), -1).all(1)
            if strange.any():
                record = self.name_rows(torch.from_numpy(self.rows[strange]))
                raise DataError(f"task {name!r}: answers must be finite, but in validation that of {record} is not")
            value = score(task, answers, self.targets[name][self.rows])[metric.name]
            entry[f"validation_{name}_{metric.name}"] = value
            if math.isfinite(value):
                errors.append(self.objective.weights[name] * (value if metric.better == "lower" else -value))
        if self.monitor == "last" or not self.labelled:
            return None, entry  # the loss of records without labels says nothing: no epoch is better for it
        if self.monitor == "score" and errors:
            return float(np.sum(errors)), entry
        return entry["validation_loss"], entry


def join(parts: list[Output]) -> Output:
    """Batches of outputs as one, without readouts."""

    def cat(named: Sequence[Mapping[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
        return {
            name: {task: torch.cat([part[name][task] for part in named]) for task in named[0][name]}
            for name in named[0]
        }

    return Output(
        {task: torch.cat([part.decisions[task] for part in parts]) for task in parts[0].decisions},
        cat([part.branches for part in parts]),
        {name: torch.cat([part.seen[name] for part in parts]) for name in parts[0].seen},
        torch.stack([part.auxiliary for part in parts]).mean(),
        cat([part.alone for part in parts]),
    )
