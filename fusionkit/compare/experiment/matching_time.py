"""Strategies of one pace: what a step of training of each takes is brought close to what one of the first takes."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fusionkit.compare.cells.key import uncompared
from fusionkit.compare.experiment.matching import LARGEST, Knob, Workshop, check_different, knobs
from fusionkit.compare.experiment.step import Clock, TrainingStep, time_in_turn
from fusionkit.compare.experiment.strategy import Setting, Strategy, beside
from fusionkit.core.errors import ConfigError
from fusionkit.data.splits import Split
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump_flow
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.device import pick_device
from fusionkit.training.listener import Listener
from fusionkit.training.order import derive_seed

CLOSE = 0.1
"""Share of the first one's step that another may take more or less."""
ROUNDS, FEWEST, SECONDS = 15, 5, 1.5
FINAL = 3
"""How many times longer all are timed beside each other before and after."""

Pace = Callable[[Recipe], float]
"""How many times as long as the first one's a step takes."""


@dataclass(frozen=True)
class Turned:
    """What was turned of a strategy: a knob's name and its new value; an empty name where it stays as it is."""

    knob: str = ""
    value: int = 0


def match_step_time(setting: Setting, split: Split, listener: Listener, kept: Path) -> tuple[Setting, tuple[str, ...]]:
    """Bring a step of training of every strategy within 10 % of the first one's, and say in words what that took.

    What is turned is what `match_parameters` turns. Steps are those of the first fold's first training batch, by
    processor time on one thread, or by the clock on the GPU that trains; each is timed in turn with the first one's
    and the median of the quotients counts, so that other work on the machine slows both. A strategy that nothing
    brings within 10 % is turned only where that takes at least half of the distance, and it is said. Since another
    measurement would not give the same widths, they are kept for whoever resumes.

    Args:
        setting: its strategies.
        split: see `Workshop`.
        listener: hears of ingestion.
        kept: file of what was turned.

    Raises:
        ConfigError: two strategies differ in nothing but their size.
    """
    first, *others = [one for one in setting.strategies if one.role == "strategy"]
    digest = hashlib.sha256(dump_flow([uncompared(one.recipe) for one in (first, *others)]).encode()).hexdigest()
    known = _read(kept, digest)
    if known is None:
        known = _measure(first, others, split, listener)
        said = {
            "match": "step_time",
            "digest": digest,
            "turned": {label: vars(one) for label, one in known[0].items()},
            "notes": list(known[1]),
        }
        write_atomically(kept, (json.dumps(said, indent=1) + "\n").encode())
    turned, notes = known
    found = [first, *(replace(one, recipe=_turn(one.recipe, turned[one.label])) for one in others)]
    check_different(found, "step_time")
    return replace(setting, strategies=tuple(beside(found))), notes


def _measure(
    first: Strategy, others: Sequence[Strategy], split: Split, listener: Listener
) -> tuple[dict[str, Turned], tuple[str, ...]]:
    device = pick_device(first.recipe.train.device)
    workshops = {one.label: Workshop(one.recipe, split, listener, device) for one in (first, *others)}
    reference = _step(workshops[first.label], first.recipe)
    turned = {}
    for number, one in enumerate(others):
        listener.prepare(number, len(others), "matching of steps")
        turned[one.label] = closest(one.recipe, partial(_pace, reference, workshops[one.label]))
    listener.prepare(len(others), len(others), "matching of steps")
    steps = [reference]
    for one in others:
        steps += [_step(workshops[one.label], recipe) for recipe in (one.recipe, _turn(one.recipe, turned[one.label]))]
    times = time_in_turn(
        steps, FINAL * ROUNDS, fewest=FINAL * FEWEST, seconds=FINAL * SECONDS * len(steps) / 2, clock=_clock(device)
    )
    own = 1e3 * median(times[0])
    notes = [f"steps of training are matched to those of {first.label!r}: {own:.1f} ms on {device.type}"]
    for number, one in enumerate(others):
        before, after = (_quotient(times[2 * number + place], times[0]) for place in (1, 2))
        notes.append(f"{one.label!r}: {_say(own, before, after, turned[one.label], one.recipe)}")
    return turned, tuple(notes)


def _say(own: float, before: float, after: float, turned: Turned, recipe: Recipe) -> str:
    missed = f", which is not within {CLOSE:.0%}"
    if not turned.knob:
        near = "" if abs(after - 1) <= CLOSE else f"{missed}; nothing that could be turned comes closer"
        return f"{before * own:.1f} ms ({before - 1:+.0%}) as it is{near}"
    value = next(knob.value for knob in knobs(recipe) if knob.name == turned.knob)
    return (
        f"{before * own:.1f} ms ({before - 1:+.0%}) before, {after * own:.1f} ms ({after - 1:+.0%}) with "
        f"{turned.knob} {turned.value} for {value}{'' if abs(after - 1) <= CLOSE else missed}"
    )


def closest(recipe: Recipe, pace: Pace) -> Turned:
    """What to turn so that the pace comes within 10 % of 1, by as little as will do; nothing where it is there already.

    Where nothing brings it there, what comes closest, if that is at least half of the way.
    """
    own = pace(recipe)
    if abs(own - 1) <= CLOSE:
        return Turned()
    best, off = Turned(), abs(math.log(own)) / 2
    for knob in knobs(recipe):
        found = _sought(knob, own, pace)
        near = [value for value, one in found.items() if abs(one - 1) <= CLOSE]
        if near:
            return Turned(knob.name, min(near, key=lambda value: abs(math.log(value / knob.value))))
        for value, one in found.items():
            if abs(math.log(one)) <= off:
                best, off = Turned(knob.name, value), abs(math.log(one))
    return best


def _sought(knob: Knob, own: float, pace: Pace) -> dict[int, float]:
    """Values with their paces: doubled or halved until the pace passes 1, then halved between, until one is close."""
    tried: dict[int, float] = {}

    def at(multiple: int) -> float:
        """0 or infinite where the parts allow no such value."""
        if multiple not in tried:
            try:
                tried[multiple] = pace(knob.turn(multiple * knob.unit))
            except ConfigError:
                tried[multiple] = math.inf if multiple * knob.unit > knob.value else 0.0
        return tried[multiple]

    low = high = max(1, knob.value // knob.unit)
    if own < 1:
        limit = LARGEST * high
        while high < limit and at(high := min(2 * high, limit)) < 1:
            low = high
    else:
        while low > 1 and at(low := low // 2) > 1:
            high = low
    while high - low > 1 and not any(abs(found - 1) <= CLOSE / 2 for found in tried.values()):
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < 1 else (low, middle)
    return {multiple * knob.unit: found for multiple, found in tried.items() if 0 < found < math.inf}


def _turn(recipe: Recipe, turned: Turned) -> Recipe:
    if not turned.knob:
        return recipe
    (knob,) = [one for one in knobs(recipe) if one.name == turned.knob]
    return knob.turn(turned.value)


def _step(workshop: Workshop, recipe: Recipe) -> TrainingStep:
    model = workshop.build(recipe).to(workshop.device)
    loader = workshop.material.loader(recipe, workshop.modalities, workshop.targets)
    rows = torch.from_numpy(workshop.rows)
    generator = torch.Generator().manual_seed(derive_seed("fit", recipe.seed))
    model.fit(lambda: (loader.batch(chunk) for chunk in torch.split(rows, loader.chunk)), generator)
    return TrainingStep(recipe, model, workshop.tasks, loader.batch(rows[: recipe.train.batch]), workshop.device)


def _pace(reference: TrainingStep, workshop: Workshop, recipe: Recipe) -> float:
    steps = [reference, _step(workshop, recipe)]
    first, second = time_in_turn(steps, ROUNDS, fewest=FEWEST, seconds=SECONDS, clock=_clock(workshop.device))
    return _quotient(second, first)


def _clock(device: torch.device) -> Clock:
    """Processor time where that is all that a step takes: other work on the machine does not count."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def _quotient(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def _read(kept: Path, digest: str) -> tuple[dict[str, Turned], tuple[str, ...]] | None:
    """What was measured before, of these very recipes."""
    try:
        said: Mapping[str, Any] = json.loads(kept.read_text())
        if said["match"] != "step_time" or said["digest"] != digest:
            return None
        turned = {str(label): Turned(str(one["knob"]), int(one["value"])) for label, one in said["turned"].items()}
        return turned, tuple(str(note) for note in said["notes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
