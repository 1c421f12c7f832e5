"""From a recipe and its data to the recipe whose graph the training records ask for."""

from dataclasses import dataclass

import torch

from fusionkit.compare.page import build_page
from fusionkit.compare.suggest import Findings, measure, propose
from fusionkit.compare.vectors import compared
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.data.study import Study
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump


@dataclass(frozen=True)
class Suggestion:
    """What to do, and why.

    Attributes:
        found: what was measured.
        sentences: what it means.
        recipe: the recipe as text.
        page: HTML.
    """

    found: Findings
    sentences: list[str]
    recipe: str
    page: str


def suggest(recipe: Recipe, study: Study, *, task: str | None = None, seeds: int = 5) -> Suggestion:
    """Measure on the recipe's training records, and propose.

    Args:
        recipe: sensors, tasks and split; its graph does not matter.
        study: its study.
        task: what decides; the first by default.
        seeds: see `fusionkit.compare.suggest.measure`.

    Raises:
        ConfigError: there are not two sensors, or the task has several labels.
        UnknownNameError: there is no such task.
        DataError: too few groups train.
    """
    if len(recipe.modalities) < 2:
        raise ConfigError(f"a graph is chosen for two sensors or more, but the recipe has {list(recipe.modalities)}")
    task = next(iter(recipe.tasks)) if task is None else task
    if task not in recipe.tasks:
        raise UnknownNameError("task", task, recipe.tasks)
    material = compared(recipe, study, task, seeds, torch.device("cpu"))
    found = measure(material, list(recipe.modalities))
    text, lines = _write(recipe, found, task), explain(found)
    graph = parse_recipe(text, "suggested.yaml").graph
    unit = "nats" if material.classes else "variances"
    return Suggestion(found, lines, text, build_page(f"{recipe.name}: a graph for {task}", found, graph, lines, unit))


def explain(found: Findings) -> list[str]:
    """What follows, a sentence each."""
    names = found.names
    lines = [
        f"{names[i]} and {names[j]} say something only together: joined before the decision" for i, j in found.synergies
    ]
    lines += [
        f"{names[i]} and {names[j]} see the same (CKA {float(found.alike.mean[i, j]):.2f})" for i, j in found.redundant
    ]
    if len(found.idle) == len(names):
        return [*lines, "no sensor was found to say anything: a late mean of all, for want of a reason"]
    lines += [f"{names[one]} adds nothing that could be measured: left out" for one in found.idle]
    return lines or ["every sensor says something of its own: decided alone, merged late"]


def _write(recipe: Recipe, found: Findings, task: str) -> str:
    graph = propose(found)
    dropped = [] if len(found.idle) == len(found.names) else [found.names[one] for one in found.idle]
    data = recipe.resolved()
    for section in ("modalities", "augment"):
        data[section] = {name: entry for name, entry in data[section].items() if name not in dropped}
    for entry in data["tasks"].values():
        entry.pop("from", None)  # a node of the old graph
    data["expect"] = {}  # of the old graph, too
    data["name"] = f"{recipe.name}_suggested"
    dim = recipe.graph.dim
    data["fusion"] = {"dim": dim, "graph": graph} if graph else {"kind": "vote", "dim": dim}
    comment = [
        f"# Graph suggested by `fusionkit suggest {recipe.file}` for {task}, from training records.",
        *explain(found),
    ]
    return "\n# ".join(comment) + "\n" + dump(data)
