"""Shapes and parameter counts of a recipe's parts, for `fusionkit show` and the report."""

from typing import Any

import numpy as np
from torch import nn

from fusionkit.core.modality import Modality
from fusionkit.data.study import Study
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_modalities, build_model, build_tasks
from fusionkit.recipe.sections import Recipe
from fusionkit.training.material import open_study


def describe(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """By sensor, node and ``heads``: ``shapes`` for people, ``parameters`` as a number. Reads the recipe's data.

    A vocabulary is fitted to all records here, since there is no split: its size may differ from a fold's.
    """
    study = open_study(recipe)
    tasks = build_tasks(recipe)
    for name, task in tasks.items():
        labels = study.records.known(recipe.tasks[name].column)
        task.learn(labels, name)
        task.fit(task.encode(labels, name), name)
    modalities = build_modalities(recipe)
    for name, modality in modalities.items():
        _fit(study, name, modality)
    stored = {name: study.sensors[name].stored for name in recipe.modalities}
    return describe_model(recipe, build_model(recipe, modalities, stored, tasks), study, tasks)


def describe_model(
    recipe: Recipe, model: FusionModel, study: Study, tasks: dict[str, Task]
) -> dict[str, dict[str, Any]]:
    """As `describe`, of a model that is built."""
    notes: dict[str, dict[str, Any]] = {}
    for name in recipe.graph.modalities:
        stored = study.sensors[name].stored
        parts = [f"{recipe.modalities[name].kind}"]
        if stored.sample_rate is not None:
            parts.append(f"{len(stored.channels) or 1} x {stored.seconds:g} s at {stored.sample_rate:g} Hz")
        elif stored.item:
            parts.append(" x ".join(str(size) for size in stored.item))
        count = 0
        if name in model.front_ends:
            shape = model.front_end(name).shape
            parts.append(f"features {shape.channel} x {shape.subchannel} a step")
            count += _count(model.front_ends[name])
        if name in model.encoders:
            encoder = recipe.modalities[name].encoder
            parts.append(f"{'' if encoder is None else encoder.kind} to {recipe.graph.dim}")
            count += _count(model.encoders[name])
        notes[name] = _note(parts, count)
    for node in recipe.graph.nodes:
        parts, count = [f"{len(node.inputs)} inputs to {recipe.graph.dim}"], 0
        for group in (model.operations, model.encoders):
            if node.name in group:
                count += _count(group[node.name])
        if node.level == "late":
            count += _count(model.merges) + _count(model.branch_heads)
            parts.append("heads: " + ", ".join(_answers(tasks)))
        notes[node.name] = _note(parts, count)
    if len(model.heads):
        notes["heads"] = _note(_answers(tasks), _count(model.heads))
    return notes


def _fit(study: Study, name: str, modality: Modality) -> None:
    if modality.fitted:
        sensor = study.sensors[name]
        rows = np.flatnonzero(sensor.present)
        modality.fit((sensor.slice(int(row)) for row in rows), np.random.default_rng(0))


def _answers(tasks: dict[str, Task]) -> list[str]:
    return [f"{name} ({len(task.classes)})" if task.classes else name for name, task in tasks.items()]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _note(parts: list[str], parameters: int) -> dict[str, Any]:
    return {"shapes": ", ".join(parts), "parameters": parameters}
