"""From a recipe and its data to the recipe whose graph the training records ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from fusionkit.compare.suggestion.page import build_page
from fusionkit.compare.suggestion.proposal import crossing_groups, propose, sharing_groups
from fusionkit.compare.suggestion.suggest import Findings, measure
from fusionkit.compare.suggestion.vectors import compared
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.data.splits import Fold
from fusionkit.data.study import Study
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump
from fusionkit.training.records import divide


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


def suggest(
    recipe: Recipe,
    study: Study,
    *,
    task: str | None = None,
    seeds: int = 5,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Suggestion:
    """Measure on the recipe's training records, and propose.

    Args:
        recipe: sensors, tasks and split; its graph does not matter.
        study: its study.
        task: what decides; the first by default.
        seeds: how often records are cut and networks trained.
        report: hears how many networks of how many are trained.

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
    material, streams = compared(recipe, study, task, seeds, torch.device("cpu"))
    found = measure(material, list(recipe.modalities), streams, report)
    unit = "nats" if material.classes else "variances"
    lines = [*explain(found, unit), *seen_by_others(divide(recipe, study.records).folds)]
    text = _write(recipe, found, task, lines)
    graph = parse_recipe(text, "suggested.yaml").graph
    return Suggestion(found, lines, text, build_page(f"{recipe.name}: a graph for {task}", found, graph, lines, unit))


def explain(found: Findings, unit: str) -> list[str]:
    """What follows, a sentence each."""
    names = found.names

    def pair(i: int, j: int) -> str:
        return f"{names[i]} and {names[j]}"

    lines = [f"{pair(i, j)} say something only together: joined before the decision" for i, j in found.synergies]
    crossings = crossing_groups(found, found.synergies)
    for pairs in crossings:
        said = "; ".join(pair(i, j) for i, j in pairs)
        if len(pairs) > 1:
            lines.append(f"one crossing may serve these pairs: {said}")
        elif len(crossings) > 1:
            lines.append(f"{said} need a crossing of their own")
    shared = sharing_groups(found, [one for one in range(len(names)) if one not in found.idle])
    for group in shared:
        places = list(combinations(group, 2))
        alike = _span([float(found.alike.mean[i, j]) for i, j in places], 2)
        cost = _span([float(found.distance[i, j]) for i, j in places], 3)
        said = ", ".join(names[one] for one in group[:-1]) + f" and {names[group[-1]]}"
        lines.append(f"{said} see the same (CKA {alike}) and may share layers (heterogeneity {cost} {unit})")
    together = {place for group in shared for place in combinations(group, 2)}
    for i, j in found.redundant:
        if (i, j) not in together:
            layers = (
                "stand apart, though they could share layers" if (i, j) in found.sharing else "need layers of their own"
            )
            alike, cost = f"{float(found.alike.mean[i, j]):.2f}", f"{found.distance[i, j]:.3f}"
            lines.append(f"{pair(i, j)} see the same (CKA {alike}) but {layers} (heterogeneity {cost} {unit})")
    gains = {one: float(found.benefit.mean[one]) for one in found.helpful if one not in found.synergies}
    if gains:
        best = sorted(gains, key=lambda one: -gains[one])
        rest = f", and {len(best) - 4} pairs more" if len(best) > 4 else ""
        said = ", ".join(f"{pair(i, j)} ({gains[i, j]:.3f} {unit})" for i, j in best[:4])
        lines.append(f"together better than the better of the two: {said}{rest}")
    lines += [
        f"the past of {names[i]} foretells {names[j]} ({found.links.share[i, j]:.0%} of what its own past leaves)"
        for i, j in found.linked
    ]
    if len(found.idle) == len(names):
        return [*lines, "no sensor was found to say anything: a late mean of all, for want of a reason"]
    lines += [f"{names[one]} adds nothing that could be measured: left out" for one in found.idle]
    return lines or ["every sensor says something of its own: decided alone, merged late"]


def seen_by_others(folds: Sequence[Fold]) -> list[str]:
    """What to say where other folds test on records that the first one trains or validates on, and that chose."""
    used = np.concatenate([folds[0].train, folds[0].validation])
    others = [number for number, fold in enumerate(folds) if number and np.isin(fold.test, used).any()]
    if not others:
        return []
    return [
        f"chosen on records that {len(others)} of {len(folds)} folds test on: only fold 0 may be scored with this graph"
    ]


def _span(values: Sequence[float], digits: int) -> str:
    """Smallest to largest: ``0.13 to 0.16``, or one of them where they look alike."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _write(recipe: Recipe, found: Findings, task: str, lines: Sequence[str]) -> str:
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
        *lines,
    ]
    return "\n# ".join(comment) + "\n" + dump(data)
