"""What is compared: recipes that differ in what a study asks, and beside them what each of them must beat."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fusionkit.compare.cells.key import uncompared
from fusionkit.core.errors import ConfigError
from fusionkit.fusion.graph import parse_graph
from fusionkit.recipe.load import load_recipe, parse_recipe
from fusionkit.recipe.sections import Recipe, plain
from fusionkit.recipe.write import dump_flow, dump_recipe
from fusionkit.training.arm import alone

LATE_MEAN = "late mean"
Role = Literal["strategy", "sensor", "late mean"]


@dataclass(frozen=True)
class Strategy:
    """One way to answer the tasks.

    Attributes:
        label: how tables call it.
        recipe: trained in every fold and with every seed; it trains no sensor alone beside itself.
        role: ``strategy`` was asked for; ``sensor`` and ``late mean`` stand beside the others in every comparison.
    """

    label: str
    recipe: Recipe
    role: Role = "strategy"


@dataclass(frozen=True)
class Setting:
    """Strategies that share data and split, so that they may be compared.

    Attributes:
        label: what tells it from other settings; empty where there is one.
        strategies: those asked for first, then every sensor alone and the late mean.
    """

    label: str
    strategies: tuple[Strategy, ...]

    @property
    def recipe(self) -> Recipe:
        """The first strategy's: it says how records are read and divided."""
        return self.strategies[0].recipe

    @property
    def reference(self) -> str | None:
        """The late mean: the one that is added, or a strategy that is the very same; None where there is neither."""
        mean = _compared(_late_mean(self.recipe))
        return next((one.label for one in self.strategies if _compared(one.recipe) == mean), None)


@dataclass(frozen=True)
class Axis:
    """One ``--vary KEY=VALUE,VALUE``: the overrides that it stands for."""

    key: str
    values: tuple[str, ...]

    @property
    def settles(self) -> bool:
        """Whether it changes the records or their split, so that what it tells apart is not compared."""
        return self.key.split(".")[0] == "data"


def parse_axis(text: str) -> Axis:
    """Read ``fusion.kind=concat,rcft``; a comma within brackets, braces or quotes parts nothing.

    Raises:
        ConfigError: it names no key, or fewer than two different values.
    """
    key, equals, rest = text.partition("=")
    values, depth, quote = [""], 0, ""
    for letter in rest:
        quote = "" if letter == quote else letter if not quote and letter in "\"'" else quote
        depth += 0 if quote else (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quote:
            values.append("")
        else:
            values[-1] += letter
    given = tuple(value.strip() for value in values)
    if not equals or not key.strip() or len(given) < 2 or not all(given) or len(set(given)) < len(given):
        raise ConfigError(f"--vary must be KEY=VALUE,VALUE with two or more different values, but got {text!r}")
    return Axis(key.strip(), given)


def settings(recipes: Sequence[str], overrides: Sequence[str], vary: Sequence[str]) -> list[Setting]:
    """Every combination of recipes and varied values, grouped into settings that share data and split.

    Args:
        recipes: shipped ones or paths.
        overrides: changes to all of them.
        vary: as `parse_axis` reads it.

    Raises:
        ConfigError: there is nothing to compare, two strategies are the same recipe, or they do not answer the same
            tasks from the same records.
    """
    axes = [parse_axis(text) for text in vary]
    for axis in axes:
        if sum(axis.key == other.key for other in axes) > 1:
            raise ConfigError(f"--vary must name every key once, but {axis.key} is there twice")
    outer = [axis for axis in axes if axis.settles]
    inner = [axis for axis in axes if not axis.settles]
    if len(recipes) * len(list(itertools.product(*(axis.values for axis in inner)))) < 1:
        raise ConfigError("a comparison must have a recipe, but got none")
    found = []
    for fixed in _combinations(outer):
        made = []
        for recipe in recipes:
            for chosen in _combinations(inner):
                changes = [f"{key}={value}" for key, value in [*fixed, *chosen]]
                label = _label(recipe if len(recipes) > 1 else "", chosen) or recipe
                made.append(Strategy(label, _bare(load_recipe(recipe, [*overrides, *changes]))))
        _check(made)
        found.append(Setting(_label("", fixed), tuple(beside(made))))
    return found


def _combinations(axes: Sequence[Axis]) -> list[list[tuple[str, str]]]:
    return [
        list(zip([a.key for a in axes], values, strict=True)) for values in itertools.product(*(a.values for a in axes))
    ]


def _label(recipe: str, chosen: Sequence[tuple[str, str]]) -> str:
    """One varied key needs no name, several do."""
    if len(chosen) == 1:
        parts = [chosen[0][1]]
    else:
        parts = [f"{key.rpartition('.')[2]}={value}" for key, value in chosen]
    return " ".join([recipe, *parts]).strip()


def _bare(recipe: Recipe) -> Recipe:
    """Without sensors alone, which are strategies of their own, and with the seed of its split written down."""
    split = recipe.data.split
    seed = recipe.seed if split.seed is None else split.seed
    data = recipe.data.model_copy(update={"split": split.model_copy(update={"seed": seed})})
    return replace(recipe, data=data, train=recipe.train.model_copy(update={"single_sensors": False}))


def _check(strategies: Sequence[Strategy]) -> None:
    first = strategies[0]
    seen: dict[str, str] = {}
    for strategy in strategies:
        for section in ("data", "tasks"):
            theirs, ours = (_asked(one.recipe, section) for one in (strategy, first))
            if theirs != ours:
                raise ConfigError(
                    f"strategies must have the same {section} to be compared, but those of {strategy.label!r} and "
                    f"{first.label!r} differ"
                )
        if strategy.recipe.seed != first.recipe.seed:
            raise ConfigError(
                f"strategies must have the same seed to be paired, but those of {strategy.label!r} and {first.label!r} are "
                f"{strategy.recipe.seed} and {first.recipe.seed}; --seeds says how many are trained from it on"
            )
        said = _compared(strategy.recipe)
        if said in seen:
            raise ConfigError(f"strategies must differ, but {strategy.label!r} and {seen[said]!r} are the same recipe")
        seen[said] = strategy.label


def _asked(recipe: Recipe, section: str) -> Any:
    """What must be alike: the records and their parts, and which labels are answered by which kind of task."""
    if section == "data":
        return plain(recipe.data)
    return {name: (entry.kind, entry.column, entry.options) for name, entry in recipe.tasks.items()}


def beside(strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies, every sensor of any of them alone, and the late mean over those of the first."""
    found = list(strategies)
    said = {_compared(strategy.recipe) for strategy in strategies}
    sensors: dict[str, Recipe] = {}
    for strategy in strategies:
        for sensor in strategy.recipe.modalities:
            sensors.setdefault(sensor, strategy.recipe)
    if len(sensors) > 1:
        for sensor, recipe in sensors.items():
            own = _alone(recipe, sensor)
            if _compared(own) not in said:
                found.append(Strategy(f"{sensor} alone", own, "sensor"))
        mean = _late_mean(strategies[0].recipe)
        if _compared(mean) not in said:
            found.append(Strategy(LATE_MEAN, mean, "late mean"))
    return found


def notes_of_alone(setting: Setting) -> list[str]:
    """What a sensor alone cannot learn from that a strategy does, for a report must not keep it quiet."""
    used = {
        one.kind for strategy in setting.strategies for stage in strategy.recipe.pretrain for one in stage.objectives
    }
    notes = []
    for strategy in setting.strategies:
        if strategy.role == "sensor":
            own = {one.kind for stage in strategy.recipe.pretrain for one in stage.objectives}
            if used - own:
                lacking = " and ".join(sorted(used - own))
                notes.append(f"{strategy.label!r} begins without {lacking}, which learns nothing from it by itself")
    return notes


def _alone(recipe: Recipe, sensor: str) -> Recipe:
    """`alone`, pretrained by those objectives that its one encoder can learn from, with the head of its own branch."""
    own = _own_heads(alone(recipe, sensor), [sensor])
    stages = []
    for stage in recipe.pretrain:
        if sensor in stage.encoders:
            each = [stage.model_copy(update={"encoders": (sensor,), "objectives": (one,)}) for one in stage.objectives]
            kept = tuple(one.objectives[0] for one in each if _reads(replace(own, pretrain=(one,))))
            stages += [stage.model_copy(update={"encoders": (sensor,), "objectives": kept})] if kept else []
    if recipe.pretrain and not stages and own.init.from_ is None:
        own = replace(own, init=own.init.model_copy(update={"freeze": "none", "lr_scale": 1.0}))
    return replace(own, pretrain=tuple(stages))


def _own_heads(recipe: Recipe, branches: Sequence[str]) -> Recipe:
    heads = {branch: other for branch, other in recipe.init.heads.items() if branch in branches}
    return replace(recipe, init=recipe.init.model_copy(update={"heads": heads}))


def _reads(recipe: Recipe) -> bool:
    try:
        parse_recipe(dump_recipe(recipe), "alone")
    except ConfigError:
        return False
    return True


def _late_mean(recipe: Recipe) -> Recipe:
    """The same encoders and heads, a branch a sensor, and the mean of what the branches answer."""
    fusion: Mapping[str, Any] = {"kind": "vote", "rule": "mean", "dim": recipe.graph.dim}
    tasks = {name: entry.model_copy(update={"from_": None}) for name, entry in recipe.tasks.items()}
    sensors = list(recipe.modalities)
    mean = replace(recipe, fusion=fusion, graph=parse_graph(fusion, sensors), tasks=tasks)
    return _own_heads(mean, sensors)


def _compared(recipe: Recipe) -> str:
    """What tells strategies apart: all that a result depends on."""
    return dump_flow(uncompared(recipe))
