"""Look through an ONNX file before ONNX Runtime does: nothing foreign, nothing from elsewhere, no size that is a lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import OPSETS
from fusionkit.runtime.wire import numbers, text, walk

DOMAINS = ("", "ai.onnx")
REFUSED = {
    "Loop": "goes on as long as the graph likes",
    "RandomNormal": "draws at random",
    "RandomNormalLike": "draws at random",
    "RandomUniform": "draws at random",
    "RandomUniformLike": "draws at random",
    "Multinomial": "draws at random",
    "Bernoulli": "draws at random",
    "ImageDecoder": "decodes files",
    "StringNormalizer": "works on text",
    "RegexFullMatch": "works on text",
    "StringConcat": "works on text",
    "StringSplit": "works on text",
    "TfIdfVectorizer": "works on text",
}
"""Operators of the standard that no exported model has."""
BYTES_OF = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of a number by the data type of its tensor; text and numbers of half a byte are left out."""
MOST_NODES = 200_000
MOST_NUMBERS = 2**29
DEEPEST = 8
IR_VERSIONS = range(3, 14)


_VALUE = {1: None, 2: {1: {2: {1: {2: None, 3: None}}}, 6: None}, 3: None}
"""Where an input, output or value has text: its name, names of its axes."""


@dataclass
class _Count:
    """What of a whole file was seen."""

    nodes: int = 0
    opsets: list[int] = field(default_factory=list)
    graphs: int = 0


def inspect_graph(content: bytes, where: str) -> None:
    """Check an ONNX file as far as this is possible without running it.

    - Operators are of the ONNX standard alone, in a version from 18 to 26; none of `REFUSED`; no functions, no
      training part, no sparse or text tensors.
    - Weights lie in the file: no external data; a tensor has as many bytes as its shape and type say, and at most
      2**29 numbers.
    - There are at most 200,000 nodes, and graphs within graphs are at most 8 deep.

    What it cannot see is how much memory and time the operators take: a graph may blow up a small tensor.

    Args:
        content: of the file.
        where: for messages.

    Raises:
        BundleError: it breaks a rule.
    """
    count = _Count()
    for number, value in walk(memoryview(content), where):
        if number == 1 and value not in IR_VERSIONS:
            raise BundleError(
                f"{where} must be of ONNX IR 3 to 13, but says {value if isinstance(value, int) else '?'}"
            )
        if number == 7:
            count.graphs += 1
            _graph(_message(value, where), where, count, 1)
        elif number == 8:
            _opset(_message(value, where), where, count)
        elif number in (2, 3, 4, 6):
            text(value, where)
        elif number in (20, 25):
            raise BundleError(f"{where} must hold a graph alone, but brings functions or training of its own")
    if count.graphs != 1 or not count.opsets:
        raise BundleError(f"{where} must hold one graph and the version of its operators, but has not")


def _opset(content: memoryview, where: str, count: _Count) -> None:
    domain, version = "", 0
    for number, value in walk(content, where):
        if number == 1:
            domain = text(value, where)
        elif number == 2 and isinstance(value, int):
            version = value
    if domain not in DOMAINS:
        raise BundleError(f"{where} must have operators of ONNX alone, but imports {domain[:60]!r}")
    if not OPSETS[0] <= version <= OPSETS[1]:
        raise BundleError(f"{where} must have operators of version {OPSETS[0]} to {OPSETS[1]}, but says {version}")
    count.opsets.append(version)


def _graph(content: memoryview, where: str, count: _Count, depth: int) -> None:
    if depth > DEEPEST:
        raise BundleError(f"{where} must have graphs at most {DEEPEST} deep, but has deeper ones")
    for number, value in walk(content, where):
        if number == 1:
            count.nodes += 1
            if count.nodes > MOST_NODES:
                raise BundleError(f"{where} must have at most {MOST_NODES} nodes, but has more")
            _node(_message(value, where), where, count, depth)
        elif number == 5:
            _tensor(_message(value, where), where)
        elif number in (2, 10):
            text(value, where)
        elif number in (11, 12, 13):
            _strings(_message(value, where), where, _VALUE)
        elif number == 15:
            raise BundleError(f"{where} must have plain tensors, but a sparse one is there")


def _node(content: memoryview, where: str, count: _Count, depth: int) -> None:
    for number, value in walk(content, where):
        if number == 5:
            _attribute(_message(value, where), where, count, depth)
        elif number in (1, 2, 3, 4, 6, 7, 8):
            said = text(value, where)
            if number == 4 and said in REFUSED:
                raise BundleError(f"{where} must not have the operator {said}, which {REFUSED[said]}")
            if number == 7 and said not in DOMAINS:
                raise BundleError(f"{where} must have operators of ONNX alone, but one is of {said[:60]!r}")


def _attribute(content: memoryview, where: str, count: _Count, depth: int) -> None:
    single = 0
    for number, value in walk(content, where):
        if number in (5, 10):
            _tensor(_message(value, where), where)
        elif number in (6, 11):
            _graph(_message(value, where), where, count, depth + 1)
        elif number in (22, 23):
            raise BundleError(f"{where} must have plain tensors, but a sparse one is there")
        elif number in (1, 13, 21):
            text(value, where)
        single += number in (5, 6)
    if single > 1:  # readers would melt them into one
        raise BundleError(f"{where} must have attributes of one value, but one has two")


def _tensor(content: memoryview, where: str) -> None:
    """Whether a tensor holds what its shape and type say."""
    shape: list[int] = []
    kind, raw, typed, name = 0, -1, 0, ""
    for number, value in walk(content, where):
        if number == 1:
            shape += numbers(value, where)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = text(value, where)[:60]
        elif number == 12:
            text(value, where)
        elif number == 9:
            raw = len(_message(value, where))
        elif number in (3, 6, 13) or (number == 14 and value != 0):
            raise BundleError(f"{where} must hold its weights, but external data, text or a part of a tensor is there")
        elif number in (4, 10):  # float or double, in rows of four or eight bytes
            width = 4 if number == 4 else 8
            typed += len(value) // width if isinstance(value, memoryview) else 1
        elif number in (5, 7, 11):
            typed += len(numbers(value, where))
    if kind not in BYTES_OF:
        raise BundleError(f"{where} must have tensors of numbers, but {name!r} is of type {kind}")
    size = 1
    for extent in shape:
        size *= extent
        if extent < 0 or size > MOST_NUMBERS:
            raise BundleError(
                f"{where} must have tensors of at most {MOST_NUMBERS} numbers, but {name!r} is {shape[:8]}"
            )
    held = raw if raw >= 0 else typed
    wanted = size * BYTES_OF[kind] if raw >= 0 else size
    if held != wanted or (raw >= 0 and typed):
        raise BundleError(f"{where}: tensor {name!r} of shape {shape[:8]} must hold as much, but holds something else")


def _strings(content: memoryview, where: str, places: Mapping[int, Any]) -> None:
    """Whether what is said to be text is text; ``places`` holds None for a text and its own places for a message."""
    for number, value in walk(content, where):
        if number in places:
            inner = places[number]
            if inner is None:
                text(value, where)
            else:
                _strings(_message(value, where), where, inner)


def _message(value: int | memoryview, where: str) -> memoryview:
    if isinstance(value, int):
        raise BundleError(f"{where} must be a graph, but a part of it is a number")
    return value
