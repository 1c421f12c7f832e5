"""Whether a graph takes and gives what its manifest says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Manifest, Sensor, Task

Array = np.ndarray[Any, Any]

TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)"}

Signature = dict[str, tuple[str, tuple[int | None, ...]]]
"""Type and shape by name; an axis that must be free, as that of the batch, is None."""


def check_signature(graph: Any, manifest: Manifest, where: str) -> None:
    """Compare names, types and shapes of all inputs and outputs; the batch axis must be free.

    Args:
        graph: an open session of ONNX Runtime.
        manifest: of the bundle.
        where: for messages.

    Raises:
        BundleError: something differs.
    """
    wanted: Signature = {}
    for name, sensor in manifest.sensors.items():
        wanted |= _sensor(name, sensor, sensor.shape, sensor.dtype)
    wanted = {name: wanted[name] for name in manifest.inputs}
    _compare("inputs", graph.get_inputs(), wanted, where)
    _compare("outputs", graph.get_outputs(), _answers(manifest), where)


def check_step_signature(graph: Any, manifest: Manifest, where: str) -> None:
    """The same of the graph of one step.

    Raises:
        BundleError: something differs.
    """
    assert manifest.step_graph is not None
    told, wanted = manifest.step_graph, Signature()
    for name, one in told.sensors.items():
        sensor = manifest.sensors[name]
        wanted |= _sensor(name, sensor, one.shape, "float32" if one.samples is None else sensor.dtype)
    taken = {part.input: (TYPES[part.dtype], part.shape) for part in told.state}
    given = {part.output: (TYPES[part.dtype], part.shape) for part in told.state}
    _compare("inputs", graph.get_inputs(), {name: wanted[name] for name in told.inputs} | taken, where)
    _compare("outputs", graph.get_outputs(), _answers(manifest) | given, where)


def take_answers(tasks: Mapping[str, Task], outputs: Sequence[Array], batch: int) -> dict[str, Array]:
    """What a graph answered, by task.

    Raises:
        BundleError: it has another shape, or is not finite.
    """
    for (name, task), output in zip(tasks.items(), outputs, strict=True):
        if output.shape != (batch, len(task.classes) or 1) or not np.isfinite(output).all():
            raise BundleError(
                f"{name}: the graph must answer {[batch, len(task.classes) or 1]} finite numbers, but gave "
                f"{list(output.shape)}{'' if np.isfinite(output).all() else ' with some that are not'}"
            )
    return dict(zip(tasks, outputs, strict=True))


def _sensor(name: str, sensor: Sensor, shape: tuple[int | None, ...], dtype: str) -> Signature:
    """Every input that a sensor may have."""
    found: Signature = {
        name: (TYPES[dtype], (None, *shape)),
        f"{name}_present": ("tensor(bool)", (None,)),
        f"{name}_length": ("tensor(int64)", (None,)),
    }
    if sensor.statistics is not None:
        found[f"{name}_shift"] = found[f"{name}_scale"] = ("tensor(float)", (None, *sensor.statistics))
    return found


def _answers(manifest: Manifest) -> Signature:
    return {name: ("tensor(float)", (None, len(task.classes) or 1)) for name, task in manifest.tasks.items()}


def _compare(what: str, nodes: Iterable[Any], wanted: Signature, where: str) -> None:
    found = {node.name: node for node in nodes}
    differing = sorted(found.keys() ^ wanted.keys())
    if differing:
        raise BundleError(f"{where} must have the {what} of the manifest, but {differing[0][:60]!r} is not in both")
    for name, (type_, shape) in wanted.items():
        got = found[name]
        sizes = [None if isinstance(size, str) else size for size in got.shape or ()]
        fixed = all(w is None or g in (None, w) for w, g in zip(shape, sizes, strict=False))
        free = all(g is None for w, g in zip(shape, sizes, strict=False) if w is None)
        if got.type != type_ or len(sizes) != len(shape) or not fixed or not free:
            raise BundleError(
                f"{where}: {name[:60]!r} must be {type_} {[size or 'any' for size in shape]}, but is "
                f"{str(got.type)[:60]} {str(got.shape)[:60]}"
            )
