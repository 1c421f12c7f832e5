"""From plain data to a checked recipe: every section against its model, every component against its signature."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError, did_you_mean
from fusionkit.core.registry import Registry, import_plugin, option_problems
from fusionkit.fusion.graph import Graph, GraphError, parse_graph
from fusionkit.heads.single_label import SingleLabelTask
from fusionkit.recipe.build import encoded
from fusionkit.recipe.catalogue import load_sensors
from fusionkit.recipe.problem import Key, Places, dotted
from fusionkit.recipe.sections import (
    NAME,
    SECTIONS,
    Choice,
    ChoiceType,
    DataSection,
    ExportSection,
    GeneratorEntry,
    HeadsSection,
    InitSection,
    KeepSection,
    ModalityEntry,
    ObjectiveEntry,
    Recipe,
    RunSection,
    StageSection,
    StreamEntry,
    TaskEntry,
    TrainSection,
    UnlabelledSection,
    choice_model,
    task_conflicts,
)
from fusionkit.recipe.stages import refuse_stages
from fusionkit.recipe.streaming import refuse_streams

OPEN = "???"
"""Stands in a recipe for a value that the command line must give."""

_ALONE = (registry.modalities, registry.heads, registry.augment)  # components made of their options alone

_FIXED = {"export": ExportSection, "run": RunSection}

Model = TypeVar("Model", bound=BaseModel)


def _open(value: Any, key: Key) -> Iterator[Key]:
    if value == OPEN:
        yield key
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _open(part, (*key, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _open(part, (*key, index))


class Reader:
    """One pass over a recipe's data that collects every problem; what has one becomes None on the way.

    Args:
        places: where values come from.
        data: the recipe as plain data, overrides applied.
        complete: whether a value that is left open with ``???`` is a problem.
    """

    def __init__(self, places: Places, data: dict[str, Any], complete: bool) -> None:
        self.places = places
        self.data = data
        self.open = list(_open(data, ()))
        self.problems: list[tuple[Key, str]] = []
        if complete:
            self.must_give(self.open)

    def problem(self, key: Key, message: str) -> None:
        """Note one problem."""
        self.problems.append((key, message))

    def must_give(self, keys: Iterable[Key]) -> None:
        """Note values that only the command line can give."""
        for key in keys:
            self.problem(key, f"must be given on the command line: {dotted(key)}=VALUE")

    def lines(self) -> list[str]:
        """Every problem once, with its place: down the file, then the command line."""
        ordered = sorted(self.problems, key=lambda found: self.places.order(found[0]))
        return list(dict.fromkeys(self.places.say(key, message) for key, message in ordered))

    def read(self, stem: str, file: str) -> Recipe | None:
        """Read every section; None where there is a problem.

        Args:
            stem: the name of a recipe that says none.
            file: how the recipe is called in messages.
        """
        data = self.data
        for name in data:
            if name not in SECTIONS:
                self.problem((name,), f"no such section{did_you_mean(name, SECTIONS)}; known: {list(SECTIONS)}")
        name = data.get("name") or re.sub(r"[^A-Za-z0-9_-]+", "-", stem)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
            self.problem(("name",), f"a name must be letters, digits, - and _ (it names a folder), but got {name!r}")
        seed = data.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            self.problem(("seed",), f"a seed must be a whole number from 0 to 2**32 - 1, but got {seed!r}")
        parts: dict[str, Any] = {"name": name, "seed": seed, "plugins": self.plugins()}
        parts["data"] = self.source(data.get("data"))
        parts["modalities"] = {
            key: self.modality(key, raw) for key, raw in self.entries("modalities", "sensor").items()
        }
        parts["tasks"] = {key: self.task(key, raw) for key, raw in self.entries("tasks", "task").items()}
        parts["fusion"] = self.mapping(data.get("fusion"), ("fusion",))
        parts["graph"] = self.graph(parts["fusion"], list(parts["modalities"]))
        parts["augment"] = self.augment(list(parts["modalities"]), parts["tasks"])
        parts["heads"] = self.model(HeadsSection, data.get("heads"), ("heads",))
        parts["pretrain"] = self.pretrain(data.get("pretrain"), parts["graph"], list(parts["modalities"]))
        parts["init"] = self.init(data.get("init"), bool(data.get("pretrain")), parts["graph"])
        parts["train"] = self.train(data.get("train"))
        for section, model in _FIXED.items():
            parts[section] = self.model(model, data.get(section), (section,))
        parts["expect"] = self.mapping(data.get("expect"), ("expect",))
        if self.problems:
            return None
        recipe = Recipe(**parts, file=file, open=tuple(dotted(key) for key in self.open))
        for task, entry in recipe.tasks.items():
            node = recipe.graph[entry.from_ or recipe.graph.end.name]
            if node.level == "late" and not registry.heads.build(entry.kind, entry.options).mergeable:
                message = (
                    f"a {entry.kind} with these options must read a joined stream, but {node.name!r} is a late node"
                )
                self.problem(("tasks", task), message)
        alone = isinstance(self.data.get("pretrain"), dict)  # one stage, without a list around it
        for place, number, message in refuse_stages(recipe):
            self.problem(("pretrain", *(() if alone else (place,)), "objectives", number), message)
        if recipe.export.streaming:
            for key, message in refuse_streams(recipe):
                self.problem(key, message)
        blends = next((node.kind for node in recipe.graph.nodes if node.options.get("online")), None)
        if blends is not None and recipe.generators:
            what = f"{blends} with online=true holds out training records that generated ones are made of, too"
            self.problem(("augment", next(iter(recipe.generators))), f"{what}: give online=false, or no generator")
        return None if self.problems else recipe

    def plugins(self) -> tuple[str, ...]:
        """Import what the recipe lists; importing registers."""
        names = self.data.get("plugins") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.problem(("plugins",), f"must be a list of modules, but got {names!r}")
            return ()
        for index, name in enumerate(names):
            try:
                import_plugin(name)
            except ConfigError as error:
                self.problem(("plugins", index), str(error))
        return tuple(names)

    def mapping(self, raw: Any, key: Key) -> dict[str, Any]:
        """A mapping, empty where the section is not given."""
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            self.problem(key, f"must be a mapping, but got {_short(raw)}")
            return {}
        return raw

    def entries(self, section: str, what: str) -> dict[str, Any]:
        """The named entries of a section that must have some."""
        entries = self.mapping(self.data.get(section), (section,))
        if not entries:
            self.problem((section,), f"a recipe must have at least one {what}")
        for name in entries:
            if not NAME.fullmatch(name):
                self.problem((section, name), f"a {what} must be named with letters, digits and _, but got {name!r}")
        return entries

    def model(self, model: type[Model], raw: Any, key: Key) -> Model | None:
        """Check a section, or an entry, against its model."""
        if raw is None:
            raw = {}
        if not isinstance(raw, dict):
            self.problem(key, f"must be a mapping, but got {_short(raw)}")
            return None
        try:
            return model(**raw)
        except ValidationError as error:
            found = [((*key, *place), message) for place, message in option_problems(model, error, raw)]
        wrong = [(place, message) for place, message in found if place not in self.open]
        if not wrong:  # only ??? stands where a number should: go on with the default
            try:
                return model(**{name: value for name, value in raw.items() if (*key, name) not in self.open})
            except ValidationError:
                self.must_give(place for place, _ in found)
        self.problems.extend(wrong)
        return None

    def choice(
        self, base: type[ChoiceType], family: Registry, raw: Any, key: Key, default: str | None = None
    ) -> ChoiceType | None:
        """Check ``kind`` and its options; ``default`` is the kind where none is given."""
        if raw is None and default is None:
            self.problem(key, "must be given")
            return None
        if not isinstance(raw, dict | None):
            self.problem(key, f"must be a mapping with a kind, but got {_short(raw)}")
            return None
        options = {"kind": default} | (raw or {})
        kind = options["kind"]
        if kind is None or not isinstance(kind, str):
            known = family.kinds()
            self.problem((*key, "kind"), f"must be given, one of {known}" + ("" if kind is None else f", got {kind!r}"))
            return None
        if kind == OPEN:
            self.must_give([(*key, "kind")])
            return None
        try:
            model = choice_model(base, family.get(kind), f"{family.family} component")
        except ConfigError as error:
            self.problem((*key, "kind"), str(error))
            return None
        except UnknownNameError as error:
            self.problem((*key, "kind"), str(error))
            return None
        chosen = self.model(model, options, key)
        if chosen is not None and family in _ALONE and not any(place[: len(key)] == key for place in self.open):
            try:
                family.build(kind, chosen.options)  # rules between options live in the constructor
            except ConfigError as error:
                self.problem(key, str(error))
        return chosen

    def source(self, raw: Any) -> DataSection | None:
        """Where records come from, and records without labels beside them, which something must learn from."""
        key: Key = ("data", "unlabelled")
        beside = raw.get("unlabelled") if isinstance(raw, dict) else None
        own = raw if beside is None else {part: value for part, value in raw.items() if part != "unlabelled"}
        section = self.choice(DataSection, registry.sources, own, ("data",))
        if beside is None:
            return section
        chosen = self.choice(UnlabelledSection, registry.sources, beside, key)
        train = self.data.get("train")
        if not self.data.get("pretrain") and not (isinstance(train, dict) and train.get("consistency")):
            self.problem(key, "is for pretrain or train.consistency, but the recipe has neither")
        return None if section is None else section.model_copy(update={"unlabelled": chosen})

    def modality(self, name: str, raw: Any) -> ModalityEntry | None:
        """A sensor, with the encoder that it gets."""
        key: Key = ("modalities", name)
        encoder = raw.get("encoder") if isinstance(raw, dict) else None
        shared = {part: value for part, value in raw.items() if part != "encoder"} if isinstance(raw, dict) else raw
        entry = self.choice(ModalityEntry, registry.modalities, shared, key)
        if entry is None:
            return None
        default = registry.modalities.get(entry.kind).encoder
        chosen = self.choice(Choice, registry.encoders, encoder, (*key, "encoder"), default)
        return entry.model_copy(update={"encoder": chosen, "column": entry.column or name})

    def task(self, name: str, raw: Any) -> TaskEntry | None:
        """A task."""
        entry = self.choice(TaskEntry, registry.heads, raw, ("tasks", name))
        return None if entry is None else entry.model_copy(update={"column": entry.column or name})

    def train(self, raw: Any) -> TrainSection | None:
        """How weights are learned, with what stands between the tasks."""
        kinds = {"balance": (registry.balancing, "fixed"), "surgery": (registry.surgery, "none")}
        apart = {*kinds, "consistency"}
        own = {part: value for part, value in raw.items() if part not in apart} if isinstance(raw, dict) else raw
        section = self.model(TrainSection, own, ("train",))
        given = raw if isinstance(raw, dict) else {}
        consistency = self.consistency(given.get("consistency"))
        chosen = {
            part: self.choice(Choice, family, given.get(part), ("train", part), default)
            for part, (family, default) in kinds.items()
        }
        if section is None:
            return None
        section = section.model_copy(update={**chosen, "consistency": consistency})
        for part, message in task_conflicts(section):
            self.problem(("train", part), message)
        return section

    def consistency(self, raw: Any) -> tuple[Choice, ...]:
        """What is learned from records without labels; each method is made once, to see whether its options fit."""
        key: Key = ("train", "consistency")
        if raw is None or raw == []:
            return ()
        if not isinstance(raw, list):
            self.problem(key, f"must be a list of methods, but got {_short(raw)}")
            return ()
        tasks = self.data.get("tasks")
        kinds = [
            entry.get("kind")
            for entry in (tasks.values() if isinstance(tasks, dict) else ())
            if isinstance(entry, dict)
        ]
        known = [kind for kind in kinds if kind in registry.heads.kinds()]
        classed = {str(kind): 1.0 for kind in known if registry.heads.get(kind).outcome == "probabilities"}
        chosen = []
        for place, entry in enumerate(raw):
            found = self.choice(Choice, registry.consistency, entry, (*key, place))
            if found is None:
                continue
            try:
                if known and not any(at[: len(key)] == key for at in self.open):
                    registry.consistency.build(found.kind, found.options, classed, 1)
            except ConfigError as error:
                self.problem((*key, place), str(error))
            chosen.append(found)
        if len({choice.options["ratio"] for choice in chosen}) > 1:
            ratios = [choice.options["ratio"] for choice in chosen]
            self.problem(key, f"methods share their batches, so that ratio must be one for all, but got {ratios}")
        return tuple(chosen)

    def graph(self, section: Any, sensors: list[str]) -> Graph | None:
        """The fusion graph; operations that need no data are made once, to see whether they fit."""
        if not sensors:
            return None
        nodes = section.get("graph")
        for place, names in ((("modalities",), sensors), (("fusion", "graph"), nodes)):
            for name in names if isinstance(names, Mapping | list) else ():
                if hasattr(nn.ModuleDict, str(name)):  # torch keeps modules beside its own methods
                    self.problem((*place, name), f"this name belongs to torch, choose another than {name!r}")
        if "fused" in sensors:  # the run's folders are called after sensors and the whole
            self.problem(("modalities", "fused"), "this name belongs to the whole model, choose another than 'fused'")
        for name in ("pretrained", "generated"):
            if name in sensors:
                self.problem(("modalities", name), "this name belongs to a folder of runs, choose another")
        if "all" in sensors:  # results are kept by the sensor that was unplugged, and for all of them
            self.problem(("modalities", "all"), "this name belongs to all sensors together, choose another than 'all'")
        tasks = self.data.get("tasks")
        tasks_from = {
            name: entry["from"]
            for name, entry in (tasks.items() if isinstance(tasks, dict) else ())
            if isinstance(entry, dict) and isinstance(entry.get("from"), str)
        }
        try:
            graph = parse_graph(section, sensors, tasks_from)
        except GraphError as error:
            for path, message in error.problems:
                key: Key = tuple(int(part) if part.isdecimal() else part for part in path.split(".") if part)
                self.problem(key if key[:1] == ("tasks",) else ("fusion", *key), message)
            return None
        for node in graph.nodes:
            given: dict[str, tuple[Any, ...]] = {  # what is known without data; early nodes need their features
                "intermediate": (dict.fromkeys(node.inputs, graph.dim), graph.dim, 1.0),
                "late": (node.inputs,),
            }
            try:
                if node.level in given:
                    with torch.random.fork_rng(devices=[]):
                        registry.fusion.build(node.kind, node.options, *given[node.level])
            except ConfigError as error:
                self.problem(("fusion", "graph", node.name) if "graph" in section else ("fusion",), str(error))
        return graph

    def augment(self, sensors: list[str], tasks: Mapping[str, TaskEntry | None]) -> dict[str, tuple[Choice, ...]]:
        """Augmentations by sensor; a mapping is one of them."""
        chosen: dict[str, tuple[Choice, ...]] = {}
        for name, entries in self.mapping(self.data.get("augment"), ("augment",)).items():
            key: Key = ("augment", name)
            if name not in sensors:
                self.problem(key, f"no sensor named {name!r}{did_you_mean(name, sensors)}; known: {sorted(sensors)}")
            if not isinstance(entries, dict | list):
                self.problem(key, f"must be a list of augmentations, but got {_short(entries)}")
                continue
            keys: list[Key] = [key] if isinstance(entries, dict) else [(*key, n) for n in range(len(entries))]
            entries = [entries] if isinstance(entries, dict) else entries
            known = {*registry.augment.kinds(), *registry.generators.kinds()}
            if any(isinstance(raw, dict) and raw.get("kind") not in known for raw in entries):
                load_sensors()  # one that the recipe does not use may bring it
            found = [self.augmentation(raw, place, tasks) for raw, place in zip(entries, keys, strict=True)]
            chosen[name] = tuple(choice for choice in found if choice is not None)
            if sum(isinstance(choice, GeneratorEntry) for choice in chosen[name]) > 1:
                self.problem(key, "a sensor may have one generator, but here are more")
        return chosen

    def augmentation(self, raw: Any, key: Key, tasks: Mapping[str, TaskEntry | None]) -> Choice | None:
        """One augmentation, of batches or of the records themselves."""
        kind = raw.get("kind") if isinstance(raw, dict) else None
        generators, both = registry.generators.kinds(), [*registry.augment.kinds(), *registry.generators.kinds()]
        if not isinstance(kind, str) or kind in registry.augment.kinds():
            return self.choice(Choice, registry.augment, raw, key)
        if kind not in generators:
            if kind == OPEN:
                self.must_give([(*key, "kind")])
            else:
                self.problem((*key, "kind"), str(UnknownNameError("augment component", kind, both)))
            return None
        entry = self.choice(GeneratorEntry, registry.generators, raw, key)
        if entry is None:
            return None
        if entry.use == "full" and entry.keep is not None:
            self.problem((*key, "keep"), "chooses records for use=selective, but use is full")
        if entry.use == "selective" and entry.keep is None:
            entry = entry.model_copy(update={"keep": KeepSection.model_validate({})})
        classed = [task for task, asked in tasks.items() if asked is not None and _has_classes(asked)]
        if entry.task is not None and entry.task not in classed:
            near = did_you_mean(entry.task, classed)
            self.problem(
                (*key, "task"), f"no task with one class a record named {entry.task!r}{near}; known: {classed}"
            )
        if entry.task is None and len(classed) != 1:
            what = f"one of {classed}" if classed else "but no task has one class a record"
            self.problem((*key, "task"), f"must be given, {what}")
        return entry if entry.task is not None or not classed else entry.model_copy(update={"task": classed[0]})

    def pretrain(self, raw: Any, graph: Graph | None, sensors: list[str]) -> tuple[StageSection, ...]:
        """The stages of pretraining; a mapping is one of them."""
        if raw is None:
            return ()
        if not isinstance(raw, dict | list):
            self.problem(("pretrain",), f"must be a stage or a list of stages, but got {_short(raw)}")
            return ()
        stages = [raw] if isinstance(raw, dict) else raw
        keys: list[Key] = [("pretrain",)] if isinstance(raw, dict) else [("pretrain", n) for n in range(len(raw))]
        made = [self.stage(stage, key, graph, sensors) for key, stage in zip(keys, stages, strict=True)]
        return tuple(stage for stage in made if stage is not None)

    def stage(self, raw: Any, key: Key, graph: Graph | None, sensors: list[str]) -> StageSection | None:
        """One stage of pretraining; where no encoders are named, all are trained."""
        entries = raw.get("objectives") if isinstance(raw, dict) else None
        if not isinstance(entries, list) or not entries:
            if isinstance(raw, dict):
                self.problem((*key, "objectives"), f"must be a list of objectives, but got {_short(entries)}")
            else:
                self.problem(key, f"must be a mapping, but got {_short(raw)}")
            return None
        known = [name for name in sensors if graph is None or name in encoded(graph)]
        chosen = [
            self.choice(ObjectiveEntry, registry.objectives, entry, (*key, "objectives", place))
            for place, entry in enumerate(entries)
        ]
        objectives = tuple(objective for objective in chosen if objective is not None)
        own = {name: value for name, value in raw.items() if name not in ("objectives", "stream")}
        found, stream = self.model(_StageAlone, own, key), None
        if raw.get("stream") is not None:
            stream = self.choice(StreamEntry, registry.buffers, raw["stream"], (*key, "stream"))
            if stream is None:
                return None
        if found is None or len(objectives) < len(entries):
            return None
        if stream is not None and found.epochs != 1:
            what = f"the records of a stream come once, so that epochs must be 1, but got {found.epochs}"
            self.problem((*key, "epochs" if "epochs" in raw else "stream"), what)
        for name in found.encoders:
            if name not in sensors:
                what = f"no sensor named {name!r}{did_you_mean(name, sensors)}; known: {sorted(sensors)}"
                self.problem((*key, "encoders"), what)
            elif name not in known:
                self.problem(
                    (*key, "encoders"), f"{name!r} has no encoder of its own: an early node joins its features"
                )
        if not known:
            self.problem(key, "a sensor must have an encoder of its own, but early nodes join all features before")
        encoders = [name for name in known if not found.encoders or name in found.encoders]
        made = {"objectives": objectives, "encoders": tuple(encoders), "stream": stream}
        return StageSection(**{**found.model_dump(), **made})

    def init(self, raw: Any, pretrains: bool, graph: Graph | None) -> InitSection | None:
        """Where encoders come from, and how training treats them."""
        section = self.model(InitSection, raw, ("init",))
        if section is None:
            return None
        if section.from_ is None and section.transductive is not None:
            self.problem(("init", "transductive"), "is said of another run, but init.from names none")
        if section.from_ is None and not pretrains and (section.freeze != "none" or section.lr_scale != 1):
            part = "freeze" if section.freeze != "none" else "lr_scale"
            self.problem(("init", part), "is for encoders that were trained before: give pretrain or init.from, too")
        if section.heads and section.from_ is None:
            self.problem(("init", "heads"), "are those of another run, but init.from names none")
        if section.heads and graph is not None:
            branches = graph.end.inputs
            if graph.end.level != "late":
                self.problem(("init", "heads"), f"are for the branches of a late node, but {graph.end.kind} is none")
            elif unknown := [name for name in section.heads if name not in branches]:
                what = f"no branch named {unknown[0]!r}{did_you_mean(unknown[0], branches)}; known: {sorted(branches)}"
                self.problem(("init", "heads"), what)
        return section


class _StageAlone(StageSection):
    """A stage without its objectives, which are read one by one."""

    objectives: tuple[ObjectiveEntry, ...] = ()


def _has_classes(entry: TaskEntry) -> bool:
    """Whether a record has one class of a task."""
    return issubclass(registry.heads.get(entry.kind), SingleLabelTask)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
