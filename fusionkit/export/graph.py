"""The exported graph: raw windows and presence flags in, probabilities out, front ends inside."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from fusionkit.core.errors import FusionkitError
from fusionkit.core.levels import Window
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task

BATCH = torch.export.Dim("batch")
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch notes which module a node comes from."""


class ExportError(FusionkitError, RuntimeError):
    """A model cannot be exported, or what came out differs from it."""


@dataclass(frozen=True)
class SensorInput:
    """What one sensor's inputs to the graph look like.

    Attributes:
        shape: of a window without batch; None where it may vary.
        dtype: of the window.
        timed: whether a window has a real length (a time series, a sentence).
        statistics: channels and subchannels of shift and scale, or None.
    """

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    timed: bool
    statistics: tuple[int, int] | None


class Deployed(nn.Module):
    """A trained model with plain tensors in and out, in the order of `input_names` and of the tasks."""

    def __init__(self, model: FusionModel, sensors: Mapping[str, SensorInput], tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.model = model
        self.sensors = dict(sensors)
        self.tasks = dict(tasks)

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Probabilities of every task (yes of every label where there are several; a value for a regression)."""
        given = dict(zip(input_names(self.sensors), flat, strict=True))
        windows: dict[str, Window] = {}
        for name, sensor in self.sensors.items():
            values, present = given[name], given[f"{name}_present"]
            if sensor.timed:
                length = given[f"{name}_length"]
            else:
                length = torch.full_like(present, values.shape[-1], dtype=torch.int64)
            windows[name] = Window(values, length, present, given.get(f"{name}_shift"), given.get(f"{name}_scale"))
        decisions = self.model(windows).decisions
        return tuple(answer(task, decisions[name]) for name, task in self.tasks.items())


def answer(task: Task, decision: Tensor) -> Tensor:
    """A decision as what a user reads."""
    prediction = task.prediction(decision)
    return prediction[..., 1] if prediction.ndim == 3 else prediction


def input_names(sensors: Mapping[str, SensorInput]) -> list[str]:
    """Names of the graph's inputs in order: ``eeg, eeg_present, eeg_length, eeg_shift, eeg_scale`` as they apply."""
    names = []
    for name, sensor in sensors.items():
        names += [name, f"{name}_present"]
        names += [f"{name}_length"] if sensor.timed else []
        names += [f"{name}_shift", f"{name}_scale"] if sensor.statistics else []
    return names


def flatten(windows: Mapping[str, Window], sensors: Mapping[str, SensorInput]) -> list[Tensor]:
    """Windows as the graph's inputs."""
    flat: list[Tensor] = []
    for name, sensor in sensors.items():
        window = windows[name]
        flat += [window.values, window.present]
        flat += [window.length] if sensor.timed else []
        if sensor.statistics:
            assert window.shift is not None and window.scale is not None
            flat += [window.shift, window.scale]
    return flat


def export_onnx(deployed: Deployed, example: list[Tensor], opset: int) -> bytes:
    """The model as ONNX, with a free batch axis, and free time where a sensor's shape says None.

    Raises:
        ExportError: torch cannot export it.
    """
    shapes: list[dict[int, Any]] = []
    for name, sensor in deployed.sensors.items():
        others = len([n for n in input_names({name: sensor}) if n != name])
        shapes += [free_axes(sensor), *({0: BATCH} for _ in range(others))]
    inputs, outputs = input_names(deployed.sensors), list(deployed.tasks)
    return to_onnx(deployed, example, inputs=inputs, outputs=outputs, shapes={"flat": tuple(shapes)}, opset=opset)


def free_axes(sensor: SensorInput) -> dict[int, Any]:
    """Which axes of a sensor's batched windows may vary: the batch, and time where its shape says None."""
    return {0: BATCH} | {k + 1: torch.export.Dim.DYNAMIC for k, size in enumerate(sensor.shape) if size is None}


def to_onnx(
    module: nn.Module,
    example: Sequence[Tensor],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, Any],
    opset: int,
) -> bytes:
    """A module as ONNX, of the standard's own operators alone.

    Args:
        module: in evaluation.
        example: tensors that it is traced with.
        inputs: their names.
        outputs: names of what it answers.
        shapes: by argument of ``forward``, which axes are free, as `torch.export` takes it.
        opset: version of the operators.

    Raises:
        ExportError: torch cannot export it, or only with operators that are not of the standard.
    """
    module.eval()
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")  # speaks of torchvision, which we lack
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, of no use to the user
            program = torch.onnx.export(
                module,
                tuple(example),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=dict(shapes),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                optimize=True,
            )
    except Exception as error:
        cause = error.__cause__ or error  # the exporter's own message speaks of its steps
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise ExportError(f"the model must export to ONNX, but {reason[:300]}") from error
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    check_operators(model)
    strip(model.graph)
    return bytes(model.SerializeToString())


def strip(graph: onnx.GraphProto) -> None:
    """Take off what nobody runs: shapes of the example, and paths of the machine where the model was traced.

    Of every node only the module that it comes from (`SCOPES`) is kept.
    """
    del graph.value_info[:]
    for part in (graph, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    for node in graph.node:
        kept = [entry for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.doc_string = ""
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    strip(inner)


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse what a plain ONNX Runtime does not know.

    Raises:
        ExportError: an operator is of another domain than the standard's, or the graph brings functions of its own.
    """
    foreign = {node.domain for node in model.graph.node} | {entry.domain for entry in model.opset_import}
    foreign = {domain for domain in foreign if domain not in ("", "ai.onnx")} | {f.name for f in model.functions}
    if foreign:
        raise ExportError(f"a graph must have the operators of ONNX alone, but got {', '.join(sorted(foreign))}")
