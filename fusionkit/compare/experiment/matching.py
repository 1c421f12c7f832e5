"""Strategies of one size: what each of them has of parameters is brought close to what the first has."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fusionkit.compare.cells.key import uncompared
from fusionkit.compare.experiment.strategy import Setting, Strategy, beside
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import options_model
from fusionkit.data.splits import Split
from fusionkit.fusion.model import FusionModel
from fusionkit.recipe.build import build_model
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump_flow, dump_recipe
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material, open_study
from fusionkit.training.records import learn_tasks

CLOSE = 0.05
LARGEST = 64
OWN = ("width", "rank", "hidden")
"""Options that say how large an operation is and that no encoder sees."""


@dataclass(frozen=True)
class Knob:
    """A number of a recipe that its size goes with.

    Attributes:
        name: the key, for people.
        value: that the recipe has.
        unit: that every other value must be a multiple of.
        turn: the recipe with another value.
    """

    name: str
    value: int
    unit: int
    turn: Callable[[int], Recipe]


def match_parameters(setting: Setting, split: Split, listener: Listener) -> tuple[Setting, tuple[str, ...]]:
    """Bring every strategy within 5 % of the first one's parameters, as built, and say in words what that took.

    First the operation's own ``width``, ``rank`` or ``hidden`` is turned, which leaves the encoders as they are; where
    it has none, or that is not enough, ``fusion.dim``, which is the width of what encoders hand over, too. Where
    neither comes within 5 %, the closer one is taken, and that is said. Sensors alone and the late mean keep the
    encoders of the first.

    Args:
        setting: its strategies.
        split: sensors that must be fitted before a model is built are fitted to the training part of its first fold.
        listener: hears of ingestion.

    Raises:
        ConfigError: two strategies differ in nothing but their size.
    """
    asked = [one for one in setting.strategies if one.role == "strategy"]
    first, *others = asked
    wanted = _Counter(first.recipe, split, listener).count(first.recipe)
    notes = [f"parameters are matched to those of {first.label!r}: {wanted:,}"]
    found = [first]
    for strategy in others:
        count = _Counter(strategy.recipe, split, listener).count
        recipe, said = _closest(strategy.recipe, count, wanted)
        found.append(replace(strategy, recipe=recipe))
        notes.append(f"{strategy.label!r}: {said}")
    check_different(found, "parameters")
    return replace(setting, strategies=tuple(beside(found))), tuple(notes)


def _closest(recipe: Recipe, count: Callable[[Recipe], int], wanted: int) -> tuple[Recipe, str]:
    """The recipe that comes close first, or the closest, and what was turned."""
    best, has, turned = recipe, count(recipe), ""
    for knob in knobs(recipe):
        if abs(has - wanted) <= CLOSE * wanted:
            break
        for value in _around(knob, count, wanted):
            made = knob.turn(value)
            if abs(count(made) - wanted) < abs(has - wanted):
                best, has, turned = made, count(made), f" with {knob.name} {value} for {knob.value}"
    off = (has - wanted) / wanted
    missed = (
        "" if abs(off) <= CLOSE else f", which is not within {CLOSE:.0%}; nothing that could be turned comes closer"
    )
    return best, f"{has:,} parameters ({off:+.1%}){turned or ' as it is'}{missed}"


def knobs(recipe: Recipe) -> Iterator[Knob]:
    """What can be turned, in order: ``width``, ``rank`` or ``hidden`` of operations, then ``fusion.dim``."""
    for place, node in enumerate(recipe.graph.nodes):
        options = options_model(registry.fusion.get(node.kind))(**node.options)
        for name in OWN:
            value = getattr(options, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                yield Knob(f"{node.name}.{name}", value, 1, _turn_option(recipe, place, name))
    heads = math.lcm(2, *_heads(recipe.resolved()))
    yield Knob("fusion.dim", recipe.graph.dim, heads, lambda dim: _with_dim(recipe, dim))


def _turn_option(recipe: Recipe, place: int, name: str) -> Callable[[int], Recipe]:
    def turn(value: int) -> Recipe:
        nodes = list(recipe.graph.nodes)
        nodes[place] = replace(nodes[place], options={**nodes[place].options, name: value})
        return replace(recipe, graph=replace(recipe.graph, nodes=tuple(nodes)))

    return turn


def _with_dim(recipe: Recipe, dim: int) -> Recipe:
    return replace(recipe, fusion={**recipe.fusion, "dim": dim}, graph=replace(recipe.graph, dim=dim))


def _heads(part: Any) -> Iterator[int]:
    """Numbers of attention heads anywhere, which divide ``dim``."""
    if isinstance(part, Mapping):
        for name, value in part.items():
            if name == "heads" and isinstance(value, int):
                yield value
            else:
                yield from _heads(value)
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _heads(one)


def _around(knob: Knob, count: Callable[[Recipe], int], wanted: int) -> tuple[int, ...]:
    """The largest value that stays below the wanted count and the one after it, where the recipe can be built."""

    def enough(multiple: int) -> bool:
        try:
            return count(knob.turn(multiple * knob.unit)) >= wanted
        except ConfigError:
            return multiple * knob.unit > knob.value  # smaller or larger than the parts allow

    low, high = 0, 1
    limit = max(1, LARGEST * knob.value // knob.unit)
    while high < limit and not enough(high):
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return tuple(value * knob.unit for value in (low, high) if value and _builds(knob.turn(value * knob.unit), count))


def _builds(recipe: Recipe, count: Callable[[Recipe], int]) -> bool:
    try:
        return count(recipe) > 0
    except ConfigError:
        return False


def check_different(strategies: Sequence[Strategy], match: str) -> None:
    """Refuse strategies that matching made the same.

    Raises:
        ConfigError: two differ in nothing but their size.
    """
    seen: dict[str, str] = {}
    for strategy in strategies:
        said = dump_flow(uncompared(strategy.recipe))
        if said in seen:
            raise ConfigError(
                f"--match {match} must leave strategies that differ, but {seen[said]!r} and {strategy.label!r} "
                "differ in nothing but their size"
            )
        seen[said] = strategy.label


class Workshop:
    """Builds models of recipes that have the same sensors and records, as training does in the first fold.

    Args:
        recipe: one of them.
        split: sensors that must be fitted before a model is built are fitted to the training part of its first fold.
        listener: hears of ingestion.
        device: where features are computed.
    """

    def __init__(self, recipe: Recipe, split: Split, listener: Listener, device: torch.device) -> None:
        study = open_study(recipe, listener.prepare)
        self.rows, self.device = split.folds[0].train, device
        self.material = Material(recipe, study, device, listener.prepare)
        self.modalities = self.material.fit_modalities(recipe, self.rows, (), recipe.seed)
        self.tasks, self.targets = learn_tasks(recipe, study.records)
        for name, task in self.tasks.items():
            task.fit(self.targets[name][self.rows], name)

    def build(self, recipe: Recipe) -> FusionModel:
        """The model as built, on the CPU.

        Raises:
            ConfigError: it cannot be built.
        """
        with torch.random.fork_rng(devices=()):
            read = parse_recipe(dump_recipe(recipe), "matched")
            return build_model(read, self.modalities, self.material.stored, self.tasks)


class _Counter:
    """Counts parameters of recipes that have the same sensors and records."""

    def __init__(self, recipe: Recipe, split: Split, listener: Listener) -> None:
        self.workshop = Workshop(recipe, split, listener, torch.device("cpu"))
        self.known: dict[str, int] = {}

    def count(self, recipe: Recipe) -> int:
        """All that a model has as built.

        Raises:
            ConfigError: it cannot be built.
        """
        said = dump_flow(recipe.resolved()["fusion"])
        if said not in self.known:
            self.known[said] = sum(parameter.numel() for parameter in self.workshop.build(recipe).parameters())
        return self.known[said]
