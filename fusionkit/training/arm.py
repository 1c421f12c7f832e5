"""The models that a run trains on the same split: the recipe's own, and every sensor alone beside it."""

from dataclasses import dataclass, replace

from fusionkit.fusion.graph import parse_graph
from fusionkit.recipe.sections import Recipe

FUSED = "fused"


@dataclass(frozen=True)
class Arm:
    """One model to train: its name, and the recipe that builds it."""

    name: str
    recipe: Recipe


def alone(recipe: Recipe, sensor: str) -> Recipe:
    """The same recipe with one sensor: its own encoder, and heads on it."""
    fusion = {"kind": "vote", "dim": recipe.graph.dim}
    graph = parse_graph(fusion, [sensor])
    tasks = {name: entry.model_copy(update={"from_": None}) for name, entry in recipe.tasks.items()}
    augment = {name: entries for name, entries in recipe.augment.items() if name == sensor}
    modalities = {sensor: recipe.modalities[sensor]}
    return replace(recipe, modalities=modalities, fusion=fusion, graph=graph, tasks=tasks, augment=augment)


def arms(recipe: Recipe) -> list[Arm]:
    """The recipe's model first, then each sensor alone where the recipe wants that and has several."""
    made = [Arm(FUSED, recipe)]
    if recipe.train.single_sensors and len(recipe.modalities) > 1:
        made += [Arm(sensor, alone(recipe, sensor)) for sensor in recipe.modalities]
    return made
