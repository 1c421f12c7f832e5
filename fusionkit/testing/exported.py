"""Checks of the exported graph: torch.export and ONNX, with dynamic batch and time."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.core.levels import Window
from fusionkit.testing.case import Answer, Case, compare
from fusionkit.testing.masking import filled, longer_by
from fusionkit.testing.result import require
from fusionkit.testing.streams import Stream, Streams, without

OPSET = 20


class Flat(nn.Module):
    """A component that takes and gives plain tensors, as a graph does."""

    def __init__(self, case: Case, module: nn.Module, example: Streams) -> None:
        super().__init__()
        self.module = module
        self._case = (case,)  # in a tuple: not a part
        self._kinds = {name: (type(stream), [part is not None for part in stream]) for name, stream in example.items()}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer one batch."""
        left = list(tensors)
        inputs: dict[str, Stream] = {}
        for name, (kind, given) in self._kinds.items():
            parts: list[Any] = [left.pop(0) if there else None for there in given]
            inputs[name] = kind(*parts)
        return tuple(flat_answer(self._case[0].answer(self.module, inputs)).values())


def flat_answer(answer: Answer) -> dict[str, Tensor]:
    """The outputs of a graph by name."""
    masks = {f"{name}_mask": mask for name, mask in answer.masks.items() if name == "values"}
    return {**answer.rows, **masks}


def flat_inputs(inputs: Streams) -> dict[str, Tensor]:
    """The inputs of a graph by name."""
    return {
        f"{name}_{field}": part
        for name, stream in inputs.items()
        for field, part in zip(stream._fields, stream, strict=True)
        if part is not None
    }


def dynamic_shapes(case: Case, inputs: Streams) -> tuple[dict[int, Any], ...]:
    """Which axes may change: the batch everywhere, and the steps of every stream where they are free."""
    batch = torch.export.Dim("batch")
    shapes: list[dict[int, Any]] = []
    for name, stream in inputs.items():
        free = case.free_steps(name)
        for field, part in zip(stream._fields, stream, strict=True):
            if part is None:
                continue
            axes: dict[int, Any] = {0: batch}
            if free and field in ("values", "mask", "time"):
                axes[part.ndim - 1 if isinstance(stream, Window) else 1] = torch.export.Dim.DYNAMIC
            shapes.append(axes)
    return tuple(shapes)


def trials(case: Case) -> list[Streams]:
    """Inputs of other sizes than the example: one row, more rows and longer, a sensor absent."""
    longer = longer_by(case.growth, case, case.inputs(rows=5, seed=8))
    more = case.inputs(rows=7, seed=9)
    if case.hides:
        more = without(more, next(iter(more)), torch.tensor([True, False] * 3 + [True]))
    return [filled(given, "zeros") for given in (case.inputs(rows=1, seed=7), longer, more)]


def torch_export(case: Case, module: nn.Module) -> None:
    """torch.export with dynamic batch and time answers within 1e-5 of the component."""
    program = _program(case, module).module()
    for inputs in trials(case):
        flat = flat_inputs(inputs)
        with torch.no_grad():
            found = program(*flat.values())
        _match(case, module, inputs, found, 1e-5, "torch.export")


def onnx_export(case: Case, module: nn.Module) -> None:
    """The ONNX graph (opset 20), run by onnxruntime, answers within 1e-4 of the component."""
    import onnxruntime

    example = flat_inputs(case.inputs(rows=3))
    names = list(flat_answer(case.ask(module, case.inputs(rows=3))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "component.onnx"
        with quiet():
            program = torch.onnx.export(
                _program(case, module), opset_version=OPSET, dynamo=True, verbose=False,
                input_names=list(example), output_names=names,
            )  # fmt: skip
        require(program is not None, "the exporter must give a program, but gave none")
        assert program is not None
        program.save(str(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        taken = [node.name for node in session.get_inputs()]
        for inputs in trials(case):
            flat = {name: part.numpy() for name, part in flat_inputs(inputs).items() if name in taken}
            found = [torch.from_numpy(part) for part in session.run(names, flat)]
            _match(case, module, inputs, found, 1e-4, "onnxruntime")


def _program(case: Case, module: nn.Module) -> torch.export.ExportedProgram:
    """The exported program; made once a case, since every check gets a component of the same weights."""
    if case.program is None:
        example = case.inputs(rows=3)
        flat = Flat(case, module, example).eval()
        with torch.no_grad():
            case.program = torch.export.export(
                flat, tuple(flat_inputs(example).values()), dynamic_shapes=(dynamic_shapes(case, example),)
            )
    return case.program


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's remarks on what is not installed to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _match(
    case: Case, module: nn.Module, inputs: Streams, found: Sequence[Tensor], tolerance: float, what: str
) -> None:
    wanted = case.ask(module, inputs)
    rows = len(next(iter(inputs.values())).present)
    for (name, values), other in zip(flat_answer(wanted).items(), found, strict=True):
        mask = wanted.masks.get(name)
        if mask is not None and not case.hides:
            values, other = values[mask], other[mask]
        compare(other, values, tolerance, f"{what}, {rows} rows: {name}")
