"""The typed fusion graph: nodes of one operation each, checked by level while the recipe is read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError, did_you_mean

Level = Literal["early", "intermediate", "late"]
Problem = tuple[str, str]

ALONE = "fused"  # the name of the one node that the short form makes
LEVELS = ("early", "intermediate", "late")


class GraphError(ConfigError):
    """A graph breaks rules.

    Attributes:
        problems: every one as (path, message). A path lies in the recipe's fusion section (``graph.speech.inputs``);
            only ``tasks.<task>.from`` starts at the recipe itself.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in self.problems))


@dataclass(frozen=True)
class Node:
    """One operation of the graph.

    Attributes:
        name: what later nodes and tasks call it.
        kind: the operation's registered name.
        level: at which level it works.
        inputs: modalities or earlier nodes, in the recipe's order.
        options: the operation's options, checked.
        encoder: an early node's encoder, ``kind`` and options; None for other nodes.
    """

    name: str
    kind: str
    level: Level
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its inputs, and the modalities they start from.

    Attributes:
        nodes: the last one is the end, which every task reads unless it names another node.
        modalities: every sensor, in the recipe's order.
        dim: width of a token.
    """

    nodes: tuple[Node, ...]
    modalities: tuple[str, ...]
    dim: int

    @property
    def end(self) -> Node:
        """The one node that no other node takes."""
        return self.nodes[-1]

    def __getitem__(self, name: str) -> Node:
        """The node of that name.

        Raises:
            UnknownNameError: no node has that name.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise UnknownNameError("node", name, [node.name for node in self.nodes])


def parse_graph(section: Any, modalities: Sequence[str], tasks_from: Mapping[str, str] | None = None) -> Graph:
    """Read a recipe's fusion section.

    Args:
        section: the short form ``{kind: rcft, dim: 64, layers: 2}``, one node named ``fused`` over all modalities;
            or the long form ``{dim: 64, graph: {name: {kind, inputs, ...options}}}``. None is allowed with one modality.
        modalities: names of the recipe's sensors.
        tasks_from: the node that a task names, by task.

    Raises:
        GraphError: every rule that is broken, with its path.

    Example:
        >>> parse_graph({"kind": "rcft"}, ["eeg", "audio"]).end.inputs
        ('eeg', 'audio')
    """
    return _Reading(modalities).read({} if section is None else section, tasks_from or {})


class _Reading:
    """One pass over a fusion section that collects every problem."""

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = tuple(modalities)
        self.problems: list[Problem] = []

    def read(self, section: Any, tasks_from: Mapping[str, str]) -> Graph:
        if not isinstance(section, Mapping):
            raise GraphError([("", f"fusion must be a mapping, got {section!r}")])
        dim = self._dim(section.get("dim", 64))
        entries, short = self._entries(section)
        nodes: dict[str, Node | None] = {}  # None: known by name, broken otherwise
        for name, entry in entries.items():
            nodes[name] = self._node(name, entry, nodes.keys() | entries.keys(), "" if short else f"graph.{name}.")
        order = self._order(nodes)
        if order is not None and entries:
            self._check_levels(nodes)
            self._check_ends(nodes)
        for task, name in tasks_from.items():
            if name not in nodes:
                known = sorted(nodes)
                message = f"no node named {name!r}{did_you_mean(str(name), known)}; known: {known}"
                self.problems.append((f"tasks.{task}.from", message))
        if self.problems:
            raise GraphError(self.problems)
        assert order is not None
        return Graph(tuple(node for name in order if (node := nodes[name]) is not None), self.modalities, dim)

    def _dim(self, dim: Any) -> int:
        if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
            self.problems.append(("dim", f"must be a whole number of at least 1, got {dim!r}"))
            return 64
        return dim

    def _entries(self, section: Mapping[Any, Any]) -> tuple[dict[str, Any], bool]:
        """The nodes as the recipe writes them, and whether it is the short form."""
        rest = {key: value for key, value in section.items() if key != "dim"}
        if "graph" not in rest:
            if "kind" not in rest and len(self.modalities) == 1:
                rest["kind"] = "vote"
            if "kind" not in rest:
                known = ["dim", "graph", "kind"]
                near = [f"{key!r}{hint}" for key in rest if (hint := did_you_mean(str(key), known))]
                found = f", but it has {near[0]}" if near else ""
                self.problems.append(("", f"several modalities need a kind or a graph to be fused{found}"))
                return {}, True
            if ALONE in self.modalities:
                self.problems.append(("", f"the short form names its node {ALONE!r}, but a modality has that name"))
            return {ALONE: {"inputs": list(self.modalities), **rest}}, True
        for key in rest:
            if key != "graph":
                hint = "; it belongs to a node" if key == "kind" else did_you_mean(str(key), ["dim", "graph"])
                self.problems.append((str(key), f"no such key beside a graph{hint}; known: ['dim', 'graph']"))
        graph = rest["graph"]
        if not isinstance(graph, Mapping) or not graph:
            self.problems.append(("graph", f"must name at least one node, got {graph!r}"))
            return {}, False
        return {str(name): entry for name, entry in graph.items()}, False

    def _node(self, name: str, entry: Any, names: Iterable[str], path: str) -> Node | None:
        """Check one node by itself."""
        if path:  # the long form: the user chose the name
            here = path[:-1]
            if name in self.modalities:
                self.problems.append((here, "a node may not be named like a modality"))
            elif not re.fullmatch(r"\w[\w-]*", name):
                self.problems.append((here, "a node's name must be letters, digits, '_' and '-'"))
            if not isinstance(entry, Mapping):
                self.problems.append((here, f"a node must be a mapping with kind and inputs, got {entry!r}"))
                return None
        options = {str(key): value for key, value in entry.items()}
        kind, given, encoder = (options.pop(key, None) for key in ("kind", "inputs", "encoder"))
        inputs = self._inputs(given, [*self.modalities, *(other for other in names if other != name)], name, path)
        cls = self._component(registry.fusion, kind, f"{path}kind")
        if cls is None:
            return None
        level: Level | None = getattr(cls, "level", None)
        if level not in LEVELS:
            self.problems.append((f"{path}kind", f"must be a fusion operation, but {kind!r} has the level {level!r}"))
            return None
        checked = self._options(cls, options, path)
        if level != "early" and encoder is not None:
            message = f"only an early node has its own encoder, but {kind!r} is {level}"
            self.problems.append((f"{path}encoder", message))
            encoder = None
        elif level == "early":
            encoder = self._encoder({"kind": "mlp"} if encoder is None else encoder, f"{path}encoder")
        return Node(name, kind, level, inputs, checked, encoder)

    def _inputs(self, given: Any, known: Sequence[str], name: str, path: str) -> tuple[str, ...]:
        """Check names of inputs; an unknown one is read as the nearest, so that one slip is one problem."""
        where = f"{path}inputs"
        if not isinstance(given, Sequence) or isinstance(given, str) or not given:
            self.problems.append((where, f"must be a list of modalities or earlier nodes, got {given!r}"))
            return ()
        inputs: list[str] = []
        for one in given:
            if one != name and one not in known:
                hint = did_you_mean(str(one), known)
                self.problems.append((where, f"no modality or node named {one!r}{hint}; known: {sorted(known)}"))
                one = next((other for other in known if hint.endswith(f"{other!r}?")), None)
            elif one in inputs:
                self.problems.append((where, f"an input may be named once, but {one!r} is named again"))
            if one is not None and one not in inputs:
                inputs.append(one)
        return tuple(inputs)

    def _component(self, family: registry.Registry, kind: Any, where: str) -> type | None:
        if not isinstance(kind, str):
            self.problems.append(
                (where, f"must be given, one of {family.kinds()}" + (f", got {kind!r}" if kind else ""))
            )
            return None
        try:
            return family.get(kind)
        except UnknownNameError as error:
            self.problems.append((where, str(error)))
            return None

    def _options(self, cls: type, options: Mapping[str, Any], path: str) -> dict[str, Any]:
        model = registry.options_model(cls)
        try:
            checked = model(**options)
        except ValidationError as error:
            for line in registry.option_errors(model, error, ""):
                option, _, message = line.partition(": ")
                self.problems.append((f"{path}{option}", message))
            return {}
        return {name: getattr(checked, name) for name in checked.model_fields_set}

    def _encoder(self, encoder: Any, path: str) -> dict[str, Any] | None:
        if not isinstance(encoder, Mapping):
            self.problems.append((path, f"must be a mapping with a kind, got {encoder!r}"))
            return None
        options = {str(key): value for key, value in encoder.items()}
        kind = options.pop("kind", "mlp")
        cls = self._component(registry.encoders, kind, f"{path}.kind")
        if cls is None:
            return None
        if getattr(cls, "level", "features") != "features":
            self.problems.append(
                (f"{path}.kind", f"an early node's encoder takes features, but {kind!r} takes windows")
            )
        return {"kind": kind, **self._options(cls, options, f"{path}.")}

    def _order(self, nodes: Mapping[str, Node | None]) -> list[str] | None:
        """Names so that each comes after its inputs, otherwise in the recipe's order; None where there is a cycle."""
        waiting = {
            name: {one for one in node.inputs if nodes.get(one) is not None and one not in self.modalities}
            for name, node in nodes.items()
            if node is not None
        }
        order: list[str] = []
        while waiting:
            ready = next((name for name, before in waiting.items() if before <= set(order)), None)
            if ready is None:
                cycle = _cycle({name: before - set(order) for name, before in waiting.items()})
                message = f"a graph may have no cycle, but {' -> '.join(cycle)}"
                self.problems.append((f"graph.{cycle[0]}.inputs", message))
                return None
            order.append(ready)
            del waiting[ready]
        return order

    def _check_levels(self, nodes: Mapping[str, Node | None]) -> None:
        for node in nodes.values():
            for one in node.inputs if node is not None else ():
                source = nodes.get(one)
                if node is None or source is None or one in self.modalities:
                    continue
                where = f"graph.{node.name}.inputs"
                if source.level == "late":
                    message = f"a late node may only be last, but {one!r} ({source.kind}) feeds {node.name!r}"
                    self.problems.append((where, message))
                elif node.level == "early":
                    article = "an" if source.level[0] in "ei" else "a"
                    message = f"an early node takes the features of modalities, but {one!r} ({source.kind}) is {article} {source.level} node"
                    self.problems.append((where, message))

    def _check_ends(self, nodes: Mapping[str, Node | None]) -> None:
        if any(node is None or not node.inputs for node in nodes.values()):
            return  # what a broken node takes is not known
        taken = {one for node in nodes.values() if node is not None for one in node.inputs}
        for name in self.modalities:
            if name not in taken:
                self.problems.append(("graph", f"every modality must be used, but {name!r} feeds no node"))
        ends = [name for name in nodes if name not in taken]
        if len(ends) > 1:
            self.problems.append(("graph", f"a graph has one end, but no node takes {', '.join(map(repr, ends))}"))


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """One cycle in the direction of flow, ``a -> b -> a``, among nodes of which each waits for another."""
    path = [next(iter(waiting))]
    while True:
        before = min(waiting[path[-1]])
        if before in path:
            return [before, *reversed(path[path.index(before) :])]
        path.append(before)
