"""Ask a model: decisions for rows of a study, with any sensors unplugged."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from fusionkit.core.levels import Batch
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.heads.task import Task


def unplug(batch: Batch, sensors: Iterable[str]) -> Batch:
    """Say that these sensors are not there."""
    inputs = dict(batch.inputs)
    for name in sensors:
        if name in inputs:
            inputs[name] = inputs[name]._replace(present=torch.zeros_like(inputs[name].present))
    return Batch(inputs, batch.targets, batch.index)


@torch.no_grad()
def outputs(
    model: FusionModel, loader: Loader, rows: Array, *, absent: Iterable[str] = (), batch: int | None = None
) -> list[Output]:
    """Outputs batch by batch (as many records as the loader has at once, if not said), in evaluation mode."""
    _in_evaluation(model)
    batch = batch or loader.chunk
    absent = tuple(absent)
    chunks = np.array_split(rows, max(1, -(-len(rows) // batch)))
    return [model(unplug(loader.batch(torch.from_numpy(chunk)), absent).inputs) for chunk in chunks if len(chunk)]


def predict(
    model: FusionModel, loader: Loader, rows: Array, *, absent: Iterable[str] = (), batch: int | None = None
) -> dict[str, Array]:
    """Decisions per task as float64 arrays over rows, in the form of the task."""
    parts = outputs(model, loader, rows, absent=absent, batch=batch)
    tasks = parts[0].decisions if parts else {}
    return {task: torch.cat([part.decisions[task] for part in parts]).cpu().double().numpy() for task in tasks}


def prediction(task: Task, decision: Array) -> Array:
    """A decision as metrics want it: probabilities, or values."""
    return task.prediction(torch.from_numpy(decision)).numpy()


def _in_evaluation(model: nn.Module) -> None:
    if model.training:
        model.eval()
