"""Whether a graph takes and gives what its manifest says."""

from typing import Any

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Manifest

TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


def check_signature(graph: Any, manifest: Manifest, where: str) -> None:
    """Compare names, types and shapes of all inputs and outputs; the batch axis must be free.

    Args:
        graph: an open session of ONNX Runtime.
        manifest: of the bundle.
        where: for messages.

    Raises:
        BundleError: something differs.
    """
    wanted: dict[str, tuple[str, tuple[int | None, ...]]] = {}
    for name, sensor in manifest.sensors.items():
        wanted[name] = (TYPES[sensor.dtype], sensor.shape)
        wanted[f"{name}_present"] = ("tensor(bool)", ())
        wanted[f"{name}_length"] = ("tensor(int64)", ())
        if sensor.statistics is not None:
            wanted[f"{name}_shift"] = wanted[f"{name}_scale"] = ("tensor(float)", sensor.statistics)
    wanted = {name: wanted[name] for name in manifest.inputs}
    _compare("inputs", {node.name: node for node in graph.get_inputs()}, wanted, where)
    answers: dict[str, tuple[str, tuple[int | None, ...]]] = {
        name: ("tensor(float)", (len(task.classes) or 1,)) for name, task in manifest.tasks.items()
    }
    _compare("outputs", {node.name: node for node in graph.get_outputs()}, answers, where)


def _compare(
    what: str, found: dict[str, Any], wanted: dict[str, tuple[str, tuple[int | None, ...]]], where: str
) -> None:
    differing = sorted(found.keys() ^ wanted.keys())
    if differing:
        raise BundleError(f"{where} must have the {what} of the manifest, but {differing[0][:60]!r} is not in both")
    for name, (type_, shape) in wanted.items():
        got = found[name]
        sizes = [None if isinstance(size, str) else size for size in got.shape or ()]
        fixed = all(w is None or g in (None, w) for w, g in zip((None, *shape), sizes, strict=False))
        free = bool(sizes) and all(g is None for w, g in zip((None, *shape), sizes, strict=False) if w is None)
        if got.type != type_ or len(sizes) != len(shape) + 1 or not fixed or not free:
            raise BundleError(
                f"{where}: {name[:60]!r} must be {type_} {['batch', *(size or 'any' for size in shape)]}, but is "
                f"{str(got.type)[:60]} {str(got.shape)[:60]}"
            )
