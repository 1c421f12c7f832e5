"""From a checked recipe to built parts. Components never see a recipe: they get built parts and plain values."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from fusionkit.augment.augmentation import Augmentation
from fusionkit.augment.sensor_corruption import SensorCorruption
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, located
from fusionkit.core.levels import FeatureShape, WindowShape
from fusionkit.core.modality import FrontEnd, Modality, Stored
from fusionkit.data.smoothing import NoSmoothing, SmoothedFrontEnd, crosses_records
from fusionkit.fusion.graph import Graph
from fusionkit.fusion.model import FusionModel
from fusionkit.fusion.operation import IntermediateFusion, LateFusion
from fusionkit.heads.gate import TaskHeads
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import Choice, GeneratorEntry, Recipe


def build_modalities(recipe: Recipe) -> dict[str, Modality]:
    """The sensors of a recipe, not yet fitted."""
    made = {}
    for name, entry in recipe.modalities.items():
        with located(f"modalities.{name}"):
            made[name] = registry.modalities.build(entry.kind, entry.options)
    return made


def build_front_end(recipe: Recipe, name: str, modality: Modality, stored: Stored) -> FrontEnd:
    """A sensor's front end, with the smoothing that stays within a window.

    Raises:
        ConfigError: the front end's steps have no time to be smoothed in.
    """
    front_end, smooth = modality.front_end(stored), recipe.modalities[name].smooth
    if isinstance(smooth, NoSmoothing) or crosses_records(smooth):
        return front_end
    if not front_end.shape.timed or front_end.shape.trains:
        raise ConfigError(f"smooth: features must have times to be smoothed, but those of {name} have none")
    return SmoothedFrontEnd(front_end, smooth)


def build_tasks(recipe: Recipe) -> dict[str, Task]:
    """The tasks of a recipe, not yet fitted."""
    made = {}
    for name, entry in recipe.tasks.items():
        with located(f"tasks.{name}"):
            made[name] = registry.heads.build(entry.kind, entry.options)
    return made


def encoded(graph: Graph) -> set[str]:
    """Sensors whose tokens are used: inputs of intermediate and late nodes."""
    return {
        name for node in graph.nodes if node.level != "early" for name in node.inputs if name in set(graph.modalities)
    }


def needs_features(recipe: Recipe) -> set[str]:
    """Sensors whose features are used: by an early node, or by an encoder that takes features.

    Those that the graph names and the recipe lacks, as it does when a sensor is unplugged, are left out.
    """
    used = {name for node in recipe.graph.nodes if node.level == "early" for name in node.inputs}
    for name in encoded(recipe.graph) & set(recipe.modalities):
        if _encoder_level(recipe, name) == "features":
            used.add(name)
    return used & set(recipe.modalities)


def needs_window(recipe: Recipe, name: str) -> bool:
    """Whether a sensor must be loaded as raw windows: its encoder takes them, or training changes them."""
    if name in encoded(recipe.graph) and _encoder_level(recipe, name) == "window":
        return True
    if recipe.train.sensor_corruption and len(recipe.graph.modalities) > 1:
        return True
    return any(registry.augment.get(entry.kind).level == "window" for entry in recipe.changes(name))


def window_shape(modality: Modality, stored: Stored) -> WindowShape:
    """What an encoder that takes windows is built for."""
    return WindowShape(modality.window_shape(stored), stored.sample_rate, stored.unit)


def _encoder_level(recipe: Recipe, name: str) -> str:
    encoder = recipe.modalities[name].encoder
    assert encoder is not None  # filled in when the recipe was read
    return str(registry.encoders.get(encoder.kind).level)


def build_model(
    recipe: Recipe, modalities: Mapping[str, Modality], stored: Mapping[str, Stored], tasks: Mapping[str, Task]
) -> FusionModel:
    """Build the model of a recipe with fresh weights from torch's global random state.

    Args:
        recipe: the checked recipe.
        modalities: its sensors, fitted where they must be.
        stored: what the study knows of each sensor.
        tasks: its tasks, fitted to the training labels.

    Raises:
        ConfigError: parts do not fit together; the message names the place in the recipe.
    """
    graph, dim = recipe.graph, recipe.graph.dim
    front_ends: dict[str, FrontEnd] = {}
    for name in recipe.modalities:
        if name in needs_features(recipe):
            with located(f"modalities.{name}"):
                front_ends[name] = build_front_end(recipe, name, modalities[name], stored[name])
    shapes: dict[str, FeatureShape] = {name: front_end.shape for name, front_end in front_ends.items()}
    timed = [seconds for name in graph.modalities if (seconds := stored[name].seconds) is not None]
    duration = max(timed, default=None)

    encoders: dict[str, nn.Module] = {}
    for name in graph.modalities:
        if name in encoded(graph):
            window = _encoder_level(recipe, name) == "window"
            with located(f"modalities.{name}.encoder"):
                shape = window_shape(modalities[name], stored[name]) if window else shapes[name]
                encoder = recipe.modalities[name].encoder
                assert encoder is not None
                encoders[name] = registry.encoders.build(encoder.kind, encoder.options, shape, dim)

    merged, direct = _readers(recipe, graph, tasks)
    operations: dict[str, nn.Module] = {}
    merges: dict[str, LateFusion] = {}
    for node in graph.nodes:
        with located(f"fusion.{node.name}"):
            if node.level == "early":
                inputs = {name: shapes[name] for name in node.inputs}
                operations[node.name] = early = registry.fusion.build(node.kind, node.options, inputs, duration)
                early_options = dict(node.encoder or {})
                kind = early_options.pop("kind", "mlp")
                if registry.encoders.get(kind).level != "features":
                    raise ConfigError(f"an early node's encoder must take features, but {kind!r} takes windows")
                encoders[node.name] = registry.encoders.build(kind, early_options, early.shape, dim)
            elif node.level == "intermediate":
                widths = dict.fromkeys(node.inputs, dim)
                operations[node.name] = registry.fusion.build(node.kind, node.options, widths, dim, duration)
            else:
                for task, asked in merged.items():
                    merge = registry.fusion.build(node.kind, node.options, tuple(node.inputs))
                    merge.bind(torch.as_tensor(asked.prior(), dtype=torch.float32))
                    merges[task] = merge

    branches = graph.end.inputs if merged else ()
    evidence = any(merge.takes_evidence for merge in merges.values())
    with located(f"fusion.{graph.end.name}"):
        branch_heads = {name: _build_heads(recipe, merged, dim, evidence) for name in branches}
    heads = {name: _build_heads(recipe, read, dim) for name, read in direct.items()}
    stream_heads: dict[str, dict[str, nn.Module]] = {}
    for node in graph.nodes:
        operation = operations.get(node.name)
        if not isinstance(operation, IntermediateFusion) or not operation.streams:
            continue
        answering = heads if evidence else {**heads, **branch_heads}  # evidence is no answer to a task
        if not (operation.shares_heads and node.name in answering):
            learnt = _tasks_after(recipe, graph, tasks, node.name)
            stream_heads[node.name] = {name: _build_heads(recipe, learnt, dim) for name in operation.streams}
    return FusionModel(
        graph,
        front_ends=front_ends,
        encoders=encoders,  # type: ignore[arg-type]
        operations=operations,  # type: ignore[arg-type]
        merges=merges,
        branch_heads=branch_heads,
        heads=heads,
        stream_heads=stream_heads,
        augmentations={
            name: _build_augmentations(name, entries, stored[name], modalities[name])
            for name, entries in recipe.augment.items()
        },
        modality_dropout=recipe.train.modality_dropout if len(graph.modalities) > 1 else 0.0,
        corruption=_build_corruption(recipe, modalities),
        standardise=[name for name, entry in recipe.modalities.items() if entry.normalise.kind != "none"],
        value_tasks=[name for name, task in tasks.items() if task.outcome == "value"],
    )


def _build_corruption(recipe: Recipe, modalities: Mapping[str, Modality]) -> SensorCorruption | None:
    share = recipe.train.sensor_corruption
    if not share or len(recipe.graph.modalities) < 2:
        return None
    limits = {name: limit for name in recipe.graph.modalities if (limit := modalities[name].limits) is not None}
    return SensorCorruption(share, recipe.train.corruption_strength, limits)


def _build_augmentations(
    name: str, entries: Sequence[Choice], stored: Stored, modality: Modality
) -> list[Augmentation]:
    made: list[Augmentation] = []
    for place, entry in enumerate(entries):
        if isinstance(entry, GeneratorEntry):
            continue
        with located(f"augment.{name}.{place}"):
            made.append(registry.augment.build(entry.kind, entry.options))
            made[-1].bind(stored)
            made[-1].meet(modality)
    return made


def _readers(
    recipe: Recipe, graph: Graph, tasks: Mapping[str, Task]
) -> tuple[dict[str, Task], dict[str, dict[str, Task]]]:
    """Tasks that the late node merges, and the others by the node that they read."""
    merged: dict[str, Task] = {}
    direct: dict[str, dict[str, Task]] = {}
    for name, task in tasks.items():
        node = graph[recipe.tasks[name].from_ or graph.end.name]
        if node.level == "late":
            merged[name] = task
        else:
            direct.setdefault(node.name, {})[name] = task
    return merged, direct


def _tasks_after(recipe: Recipe, graph: Graph, tasks: Mapping[str, Task], name: str) -> dict[str, Task]:
    """Tasks in whose answer a node has a part."""
    after = {name}
    for node in graph.nodes:
        if after & set(node.inputs):
            after.add(node.name)
    return {task: kind for task, kind in tasks.items() if (recipe.tasks[task].from_ or graph.end.name) in after}


def _build_heads(recipe: Recipe, tasks: Mapping[str, Task], dim: int, evidence: bool = False) -> TaskHeads:
    settings = recipe.heads
    return TaskHeads(
        dim,
        tasks,
        gate=settings.gate if len(tasks) > 1 else False,
        dropout=settings.dropout,
        sharing=settings.sharing if len(tasks) > 1 else "hard",
        experts=settings.experts,
        penalty=settings.penalty,
        evidence=evidence,
    )
