"""Weights of eight bits, and what they cost: measured on records that the model never saw."""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.metrics import metrics_of
from fusionkit.evaluation.statistics.resampled import resample_metric
from fusionkit.export.graph import SCOPES, ExportError, check_operators
from fusionkit.export.latency import Latency
from fusionkit.heads.task import Task

KIND = "int8-dynamic"
OPERATORS = ("MatMul", "Gemm")
"""What is quantised: matrices, for which ONNX has `MatMulInteger`.

Convolutions stay as they are: `ConvInteger` made the quick-start model 1.5 times slower on a CPU instead of faster, for
8 % less size. A recurrent layer has no operator for whole numbers in the standard.
"""
FRONT_ENDS = "front_ends"


@dataclass(frozen=True)
class Change:
    """One metric of one task, paired over subjects.

    Attributes:
        before: as float32.
        after: as int8.
        difference: ``after`` less ``before``.
    """

    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Quantised:
    """What eight bits did.

    Attributes:
        operators: how many of each were quantised.
        records: that were asked: the fold's own test records.
        scores: by task and metric.
        bytes: of the graph, before and after.
        latency: of one window, before and after.
    """

    operators: dict[str, int]
    records: int
    scores: dict[str, dict[str, Change]]
    bytes: tuple[int, int]
    latency: tuple[Latency, Latency]

    def as_dict(self) -> dict[str, Any]:
        """As the manifest keeps it; what is not a number is null."""
        scores = {
            task: {
                metric: {part: _plain(one) for part, one in vars(change).items()} for metric, change in found.items()
            }
            for task, found in self.scores.items()
        }
        return {
            "kind": KIND,
            "operators": self.operators,
            "records": self.records,
            "scores": scores,
            "bytes": {"before": self.bytes[0], "after": self.bytes[1]},
            "latency_ms": {"before": self.latency[0].as_dict(), "after": self.latency[1].as_dict()},
        }


def quantise(graph: bytes) -> tuple[bytes, dict[str, int]]:
    """Weights of matrices as int8, activations quantised as they come; front ends stay as they are.

    Volts of an EEG and bins of a Fourier transform span more decades than eight bits do.

    Args:
        graph: as `fusionkit.export.graph.export_onnx` gives it.

    Returns:
        The graph, and how many operators of each kind were quantised.

    Raises:
        ExportError: it has none that could be.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load_from_string(graph)
    kept = [node.name for node in model.graph.node if _of_front_end(node)]
    before = Counter(node.op_type for node in model.graph.node)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        logging.disable(logging.WARNING)  # advice to pre-process, which torch's exporter has done
        try:
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=list(OPERATORS),
                nodes_to_exclude=kept,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
        finally:
            logging.disable(logging.NOTSET)
        made = onnx.load(path)
    used = {entry.domain for entry in made.opset_import if any(n.domain == entry.domain for n in made.graph.node)}
    for entry in [e for e in made.opset_import if e.domain not in ("", *used)]:  # named and not used
        made.opset_import.remove(entry)
    check_operators(made)
    after = Counter(node.op_type for node in made.graph.node)
    done = {kind: before[kind] - after[kind] for kind in OPERATORS if before[kind] > after[kind]}
    if not done:
        raise ExportError(f"a graph must have {', '.join(OPERATORS)} with weights to be quantised, but has none")
    return bytes(made.SerializeToString()), done


def compare_scores(
    tasks: Mapping[str, Task],
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    targets: Mapping[str, Array],
    groups: Array,
) -> dict[str, dict[str, Change]]:
    """Every metric of every task before and after, and their difference, over the same draws of subjects.

    Args:
        tasks: by name.
        before: predictions of some records, by task.
        after: likewise.
        targets: of the same records.
        groups: their subjects.
    """
    found: dict[str, dict[str, Change]] = {}
    for name, task in tasks.items():
        if np.isnan(targets[name]).all():
            continue
        found[name] = {}
        for metric, formula in metrics_of(task).items():
            drawn = resample_metric(formula, [before[name], after[name]], targets[name], groups, seed=0)
            parts: tuple[Callable[[Array], Array], ...] = (
                lambda s: s[..., 0],
                lambda s: s[..., 1],
                lambda s: s[..., 1] - s[..., 0],
            )
            found[name][metric] = Change(*(drawn.then(part).interval() for part in parts))
    if not found:
        raise DataError("int8 must be judged by labelled test records, but the fold has none")
    return found


def _of_front_end(node: onnx.NodeProto) -> bool:
    """Whether a node computes features: torch notes the module that it comes from."""
    scopes = [entry.value for entry in node.metadata_props if entry.key == SCOPES]
    return any(FRONT_ENDS in scope for scope in scopes) or any(FRONT_ENDS in name for name in node.input)


def _plain(interval: Interval) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(interval).items()}
