"""Plain data from YAML: no tags, no code, no surprises, and the line of every key.

The subset is small on purpose: one document that is a mapping, text keys given once, scalars read by `scalar`.
An alias is counted at its expanded size before anything is expanded, so a bomb costs nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from fusionkit.recipe.problem import Key, Places, RecipeError, dotted

MAX_BYTES = 2**20
MAX_VALUES = 10_000
MAX_DEPTH = 32

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,300})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str", "seq", "map")}
_TYPES: dict[str, type] = {"null": type(None), "bool": bool, "int": int, "float": float}


@dataclass(frozen=True)
class Document:
    """What a YAML file says: plain data, and the line (from 1) of every key."""

    data: dict[str, Any]
    lines: dict[Key, int]


def scalar(text: str) -> Any:
    """Read an unquoted scalar by the rules of YAML 1.2, so that ``yes``, ``no``, ``on`` and ``off`` stay text.

    ``1e-3`` is a number; ``007``, ``1:30`` and ``2026-11-22`` are text: a subject or a date, no arithmetic.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
        return float(text)
    return text


def read_file(path: Path, file: str) -> Document:
    """Read a recipe's file, called ``file`` in messages.

    Raises:
        RecipeError: it is missing, too large, no UTF-8, or as `read_text` says.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise RecipeError([f"{file}: a recipe may have {MAX_BYTES} bytes, but this file has more"])
    except OSError as error:
        raise RecipeError([f"{file}: a recipe must be a file that can be read, but {error.strerror}"]) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RecipeError([f"{file}:{line}: a recipe must be UTF-8, but byte {error.start} is not"]) from None
    return read_text(text, file)


def read_text(text: str, file: str) -> Document:
    """Read one YAML document that is a mapping.

    Raises:
        RecipeError: it is no YAML, no mapping, too large or too deep, has a tag, or gives a key twice (all such
            keys are listed).
    """
    places = Places(file)
    try:
        root = _compose(yaml.parse(text, Loader=_LOADER), file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = file if mark is None else f"{file}:{mark.line + 1}"
        hint = (
            "; inside braces write '???' with quotes"
            if mark and "???" in "".join(text.split("\n")[mark.line : mark.line + 1])
            else ""
        )
        raise RecipeError([f"{where}: a recipe must be YAML, but {error.problem or error.context}{hint}"]) from None
    except yaml.YAMLError as error:
        raise RecipeError([f"{file}: a recipe must be YAML, but {str(error).splitlines()[0]}"]) from None
    if root.kind != "map":
        got = "a list" if root.kind == "seq" else "nothing" if root.value is None else repr(root.value)[:40]
        raise RecipeError([places.say((), f"a recipe must be a mapping (name: ..., data: ...), but this is {got}")])
    lines: dict[Key, int] = {}
    twice: list[str] = []
    data = _expand(root, (), lines, twice, file)
    if twice:
        raise RecipeError(twice)
    return Document(data, lines)


@dataclass
class _Node:
    kind: str
    line: int
    value: Any = None  # a scalar, a list of nodes, or a list of (key, line, node)
    text: str = ""  # a scalar as it is written
    size: int = 1  # values after expansion of aliases
    height: int = 0
    key: tuple[str, int] | None = field(default=None, repr=False)  # the key that waits for its value


def _compose(events: Iterator[yaml.Event], file: str) -> _Node:
    """Make a tree of nodes; aliases share a node, so this takes time and memory of the text alone."""
    top = _Node("seq", 1, [])
    open_nodes = [top]
    anchors: dict[str, _Node] = {}
    count = documents = 0
    for event in events:
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse(file, line, "a recipe must be one document, but another one starts here")
        if isinstance(event, yaml.CollectionEndEvent):
            node = open_nodes.pop()
            _attach(open_nodes[-1], node, file)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            if count > MAX_VALUES:
                _refuse(file, line, f"a recipe may hold {MAX_VALUES} values, but this one holds more")
            if isinstance(event, yaml.AliasEvent):
                known = anchors.get(str(event.anchor))
                if known is None or any(known is other for other in open_nodes):
                    _refuse(file, line, f"an alias must follow its anchor, but *{event.anchor} has none before it")
                _attach(open_nodes[-1], known, file, line)
                continue
            made = _start(event, file, line)
            if isinstance(event, yaml.ScalarEvent):
                _attach(open_nodes[-1], made, file)
            else:
                open_nodes.append(made)
                if len(open_nodes) > MAX_DEPTH:
                    _refuse(file, line, f"a recipe may be {MAX_DEPTH} levels deep, but this one is deeper")
            if event.anchor is not None:
                anchors[event.anchor] = made
    return top.value[0] if top.value else _Node("scalar", 1)


def _start(event: yaml.NodeEvent, file: str, line: int) -> _Node:
    tag: str | None = getattr(event, "tag", None)
    if tag is not None and tag != "!" and tag not in _TAGS:
        _refuse(file, line, f"tags are not for recipes, but got {tag.replace('tag:yaml.org,2002:', '!!')}")
    name = _TAGS.get(tag or "")
    if not isinstance(event, yaml.ScalarEvent):
        return _Node("map" if isinstance(event, yaml.MappingStartEvent) else "seq", line, [])
    if name == "str" or (name is None and not event.implicit[0]):
        return _Node("scalar", line, event.value, event.value)
    if event.value == "<<":
        _refuse(file, line, "merge keys (<<) are not for recipes; write the keys out")
    value = scalar(event.value)
    if name is not None and not isinstance(value, _TYPES.get(name, ())):
        _refuse(file, line, f"{event.value!r} must be what its tag says, but it is no !!{name}")
    return _Node("scalar", line, value, event.value)


def _attach(parent: _Node, node: _Node, file: str, line: int | None = None) -> None:
    line = node.line if line is None else line
    if parent.kind == "map" and parent.key is None:
        if node.kind != "scalar":
            _refuse(file, line, "a key must be text, but this one is a list or a mapping")
        parent.key = (node.text, line)
        return
    parent.size += node.size
    parent.height = max(parent.height, node.height + 1)
    if parent.size > MAX_VALUES:
        _refuse(file, line, f"a recipe may hold {MAX_VALUES} values, but its aliases expand to more")
    if parent.height > MAX_DEPTH:
        _refuse(file, line, f"a recipe may be {MAX_DEPTH} levels deep, but its aliases make it deeper")
    if parent.kind == "map" and parent.key is not None:
        parent.value.append((*parent.key, node))
        parent.key = None
    else:
        parent.value.append(node)


def _expand(node: _Node, key: Key, lines: dict[Key, int], twice: list[str], file: str) -> Any:
    if node.kind == "seq":
        for index, item in enumerate(node.value):
            lines[(*key, index)] = item.line
        return [_expand(item, (*key, index), lines, twice, file) for index, item in enumerate(node.value)]
    if node.kind == "map":
        result: dict[str, Any] = {}
        for name, line, value in node.value:
            here = (*key, name)
            if name in result:
                twice.append(
                    f"{file}:{line}: {dotted(here)}: a key may be given once, but it is on line {lines[here]} too"
                )
                continue
            lines[here] = line
            result[name] = _expand(value, here, lines, twice, file)
        return result
    return node.value


def _refuse(file: str, line: int, message: str) -> NoReturn:
    raise RecipeError([f"{file}:{line}: {message}"])
