"""What the command line changes in a recipe: ``train.epochs=3 fusion.kind=rcft modalities=eeg,audio``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fusionkit.core.errors import did_you_mean
from fusionkit.recipe.problem import Key, Places, RecipeError, dotted
from fusionkit.recipe.yaml import read_text, scalar

SELECTIONS = {"modalities": "sensor", "tasks": "task"}
"""Sections from which ``section=name``, ``section=name,name`` or ``section=[name, name]`` picks entries."""

GENERATOR = frozenset({"add", "use", "keep", "task", "epochs", "batch"})
_KEPT: dict[tuple[str, ...], frozenset[str]] = {
    ("data",): frozenset({"split", "unlabelled", "allow_leakage", "cache", "resident"}),
    ("data", "unlabelled"): frozenset({"transductive"}),
    ("data", "split"): frozenset({"by", "validation", "seed"}),
    ("modalities", "*"): frozenset({"column", "start", "stop", "encoder", "align", "smooth", "normalise"}),
    ("tasks", "*"): frozenset({"column", "from", "weight"}),
    ("fusion",): frozenset({"dim"}),
    ("augment", "*"): GENERATOR,
    ("augment", "*", "*"): GENERATOR,
    ("fusion", "graph", "*"): frozenset({"inputs"}),
}


@dataclass(frozen=True)
class Override:
    """One ``KEY=VALUE`` of the command line."""

    key: Key
    value: Any

    @property
    def selects(self) -> bool:
        """Whether it picks entries of a section and sets nothing."""
        return len(self.key) == 1 and self.key[0] in SELECTIONS and not isinstance(self.value, dict)


def parse_override(text: str) -> Override:
    """Read one ``a.b=c``. The value is YAML where it starts with a bracket, a brace or a quote, else a scalar.

    Raises:
        RecipeError: there is no ``=``, a part of the key is empty, or the value is no YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError([f"command line: an override must be KEY=VALUE, but got {text!r}"])
    parts = name.strip().split(".")
    if not all(parts):
        raise RecipeError([f"command line: a key must be names joined by dots, but got {name!r}"])
    value = value.strip()
    if value[:1] not in ("[", "{", '"', "'"):
        return Override(tuple(parts), scalar(value))
    try:
        return Override(tuple(parts), read_text(f"value: {value}", "command line").data["value"])
    except RecipeError as error:
        reason = error.lines[0].partition("a recipe must be YAML, but ")[2] or error.lines[0].partition(": ")[2]
        raise RecipeError([f"command line: {name}: a value must be YAML, but {reason}"]) from None


def apply_overrides(data: dict[str, Any], places: Places, texts: Iterable[str]) -> list[str]:
    """Change ``data`` in place and note in ``places`` what comes from the command line.

    A key may be new: whether it has a meaning is for the recipe's reader to say. A part that is a number picks
    from a list. Selections come last, keys before what is under them, and ``kind`` before its siblings, whatever
    the order on the command line; of two values for one key the later counts.

    A new ``kind`` takes the options of the old one away; what belongs to the place and not to the kind stays (a
    sensor's column, normalisation and encoder, a task's column and weight, the split of the data, the ``dim`` of
    the fusion, the inputs of a node). ``fusion.kind=...`` also replaces a graph by one node over all sensors.

    Returns:
        Problems, each with its place.
    """
    problems: list[str] = []
    overrides: list[Override] = []
    for text in texts:
        try:
            overrides.append(parse_override(text))
        except RecipeError as error:
            problems.extend(error.lines)
    for override in sorted(overrides, key=lambda it: (it.selects, len(it.key), it.key[-1] != "kind")):
        change = _select if override.selects else _set
        problem = change(data, places, override)
        if problem is not None:
            problems.append(f"command line: {dotted(override.key)}: {problem}")
    return problems


def _set(data: dict[str, Any], places: Places, override: Override) -> str | None:
    place: Any = data
    key: Key = ()
    for depth, part in enumerate(override.key):
        last = depth == len(override.key) - 1
        if isinstance(place, list):
            if not (isinstance(part, str) and part.isdecimal() and int(part) < len(place)):
                return f"{dotted(key)} must be picked from by a number below {len(place)}, but got {part!r}"
            part = int(part)
        elif not isinstance(place, dict):
            return f"only a mapping or a list has keys, but {dotted(key)} is {place!r}"
        key = (*key, part)
        if last:
            if part == "kind" and isinstance(place, dict):
                _drop_options(place, places, key[:-1], override.value)
            place[part] = override.value
            places.override(key)
        elif isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
            place = place[part]
        else:
            place = place[part]
    return None


def _drop_options(place: dict[str, Any], places: Places, key: Key, kind: Any) -> None:
    if place.get("kind") == kind:
        return
    kept: frozenset[str] = frozenset()
    for pattern, names in _KEPT.items():
        if len(pattern) == len(key) and all(part in ("*", here) for part, here in zip(pattern, key, strict=True)):
            kept = names
    for name in [name for name in place if name not in kept]:
        del place[name]
        places.forget((*key, name))


def _select(data: dict[str, Any], places: Places, override: Override) -> str | None:
    section = str(override.key[0])
    entries = data.get(section)
    wanted = override.value.split(",") if isinstance(override.value, str) else override.value
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        return f"a selection must be a name or a list of names, but got {override.value!r}"
    if not isinstance(entries, dict):
        return None  # the reader says what is wrong with the section
    for name in wanted:
        if name not in entries:
            return f"no {SELECTIONS[section]} named {name!r}{did_you_mean(name, entries)}; known: {sorted(entries)}"
    dropped = [name for name in entries if name not in wanted]
    for name in dropped:
        del entries[name]
        places.forget((section, name))
    if section == "modalities":
        _forget_sensors(data, places, dropped)
    return None


def _forget_sensors(data: dict[str, Any], places: Places, dropped: Sequence[str]) -> None:
    """Take sensors out of augmentations, pretraining and the graph; nodes without an input vanish, and so on upwards."""
    augment = data.get("augment")
    if isinstance(augment, dict):
        for name in dropped:
            augment.pop(name, None)
    stages = data.get("pretrain")
    for stage in stages if isinstance(stages, list) else [stages]:
        if isinstance(stage, dict) and isinstance(stage.get("encoders"), list):
            stage["encoders"] = [name for name in stage["encoders"] if name not in dropped]
    init = data.get("init")
    if isinstance(init, dict) and isinstance(init.get("heads"), dict):
        init["heads"] = {name: other for name, other in init["heads"].items() if name not in dropped}
    fusion = data.get("fusion")
    graph = fusion.get("graph") if isinstance(fusion, dict) else None
    if not isinstance(graph, dict):
        return
    gone = set(dropped)
    while gone:
        empty = set()
        for node, entry in graph.items():
            inputs = entry.get("inputs") if isinstance(entry, dict) else None
            if isinstance(inputs, list) and any(name in gone for name in inputs if isinstance(name, str)):
                entry["inputs"] = [name for name in inputs if name not in gone]
                if not entry["inputs"]:
                    empty.add(node)
        for node in empty:
            del graph[node]
            places.forget(("fusion", "graph", node))
        gone = empty
