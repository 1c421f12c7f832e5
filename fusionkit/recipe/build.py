"""From a checked recipe to built parts. Components never see a recipe: they get built parts and plain values."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, located
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd, Modality, Stored
from fusionkit.fusion.graph import Graph
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import Recipe


def build_modalities(recipe: Recipe) -> dict[str, Modality]:
    """The sensors of a recipe, not yet fitted."""
    made = {}
    for name, entry in recipe.modalities.items():
        with located(f"modalities.{name}"):
            made[name] = registry.modalities.build(entry.kind, entry.options)
    return made


def build_tasks(recipe: Recipe) -> dict[str, Task]:
    """The tasks of a recipe, not yet fitted."""
    made = {}
    for name, entry in recipe.tasks.items():
        with located(f"tasks.{name}"):
            made[name] = registry.heads.build(entry.kind, entry.options)
    return made


def encoder_kind(recipe: Recipe, name: str, modality: Modality) -> tuple[str, dict[str, Any]]:
    """Kind and options of a sensor's encoder: the recipe's, else the sensor's default."""
    encoder = recipe.modalities[name].encoder
    options = dict(encoder or {})
    return options.pop("kind", modality.encoder), options


def encoded(graph: Graph) -> set[str]:
    """Sensors whose tokens are used: inputs of intermediate and late nodes."""
    return {
        name for node in graph.nodes if node.level != "early" for name in node.inputs if name in set(graph.modalities)
    }


def needs_features(recipe: Recipe, modalities: Mapping[str, Modality]) -> set[str]:
    """Sensors whose features are used: by an early node, or by an encoder that takes features."""
    used = {name for node in recipe.graph.nodes if node.level == "early" for name in node.inputs}
    for name in encoded(recipe.graph):
        kind, _ = encoder_kind(recipe, name, modalities[name])
        if registry.encoders.get(kind).level == "features":
            used.add(name)
    return used & set(recipe.modalities)


def needs_window(recipe: Recipe, modalities: Mapping[str, Modality], name: str) -> bool:
    """Whether a sensor must be loaded as raw windows: its encoder takes them, or an augmentation works on them."""
    kind, _ = encoder_kind(recipe, name, modalities[name])
    if name in encoded(recipe.graph) and registry.encoders.get(kind).level == "window":
        return True
    return any(registry.augment.get(entry["kind"]).level == "window" for entry in recipe.augment.get(name, []))


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
        if name in needs_features(recipe, modalities):
            with located(f"modalities.{name}"):
                front_ends[name] = modalities[name].front_end(stored[name])
    shapes: dict[str, FeatureShape] = {name: front_end.shape for name, front_end in front_ends.items()}
    timed = [seconds for name in graph.modalities if (seconds := stored[name].seconds) is not None]
    duration = max(timed, default=None)

    encoders: dict[str, nn.Module] = {}
    for name in graph.modalities:
        if name in encoded(graph):
            kind, options = encoder_kind(recipe, name, modalities[name])
            window = registry.encoders.get(kind).level == "window"
            with located(f"modalities.{name}.encoder"):
                shape = modalities[name].window_shape(stored[name]) if window else shapes[name]
                encoders[name] = registry.encoders.build(kind, options, shape, dim)

    operations: dict[str, nn.Module] = {}
    merges: dict[str, nn.Module] = {}
    for node in graph.nodes:
        with located(f"fusion.{node.name}"):
            if node.level == "early":
                inputs = {name: shapes[name] for name in node.inputs}
                operations[node.name] = early = registry.fusion.build(node.kind, node.options, inputs, duration)
                options = dict(node.encoder or {})
                encoder = options.pop("kind", "mlp")
                if registry.encoders.get(encoder).level != "features":
                    raise ConfigError(f"an early node's encoder must take features, but {encoder!r} takes windows")
                encoders[node.name] = registry.encoders.build(encoder, options, early.shape, dim)
            elif node.level == "intermediate":
                widths = dict.fromkeys(node.inputs, dim)
                operations[node.name] = registry.fusion.build(node.kind, node.options, widths, dim, duration)
            else:
                for task in tasks:
                    merges[task] = registry.fusion.build(node.kind, node.options, tuple(node.inputs))

    return FusionModel(
        graph,
        front_ends=front_ends,
        encoders=encoders,  # type: ignore[arg-type]
        operations=operations,  # type: ignore[arg-type]
        merges=merges,  # type: ignore[arg-type]
        heads=_build_heads(recipe, graph, tasks, dim),
        augmentations={
            name: [
                registry.augment.build(entry["kind"], {k: v for k, v in entry.items() if k != "kind"})
                for entry in entries
            ]
            for name, entries in recipe.augment.items()
        },
        modality_dropout=recipe.train.modality_dropout if len(graph.modalities) > 1 else 0.0,
        value_tasks=[name for name, task in tasks.items() if task.outcome == "value"],
    )
