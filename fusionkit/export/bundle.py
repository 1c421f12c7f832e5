"""From a trained run to one file: the graph, its manifest, what sensors learned, and reference answers."""

import hashlib
import importlib.metadata
import io
import itertools
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusionkit
from fusionkit.core.levels import Batch, Window
from fusionkit.core.recording import describe_stored
from fusionkit.data.alignment import describe_alignment
from fusionkit.export.graph import Deployed, ExportError, SensorInput, export_onnx, flatten, input_names
from fusionkit.recipe.build import needs_features
from fusionkit.recipe.write import dump_recipe
from fusionkit.runtime import Bundle, Session
from fusionkit.runtime.manifest import FORMAT, VERSION, read_manifest
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.trained import Trained

LAYOUTS = {1: "time", 2: "channel, time", 3: "3, height, width"}


@dataclass(frozen=True)
class Parity:
    """How far the bundle's answers are from torch's, at worst, over batches and subsets of sensors."""

    largest: float
    cases: int


def sensor_inputs(trained: Trained, batch: Batch) -> dict[str, SensorInput]:
    """What the graph takes of each sensor, read off a batch of windows."""
    described = {}
    for name in trained.recipe.graph.modalities:
        window = batch.inputs[name]
        assert isinstance(window, Window)
        timed = trained.stored[name].sample_rate is not None or trained.modalities[name].fitted
        shape: tuple[int | None, ...] = tuple(window.values.shape[1:])
        if timed:
            shape = (*shape[:-1], None)
        features = trained.model.front_end(name).shape if name in needs_features(trained.recipe) else None
        normalised = trained.recipe.modalities[name].normalise.kind not in ("none", "training")
        statistics = (features.channel, features.subchannel) if normalised and features is not None else None
        described[name] = SensorInput(shape, window.values.dtype, timed, statistics)
    return described


def write_bundle(trained: Trained, windows: Batch, path: Path, *, opset: int, tolerance: float) -> Parity:
    """Export, compare with torch, and write only if they agree.

    Args:
        trained: the model.
        windows: some records' windows with their statistics, to compare on.
        path: where the bundle goes.
        opset: version of the ONNX operators.
        tolerance: largest difference allowed between any two answers (relative to 1 or the answer, if larger).

    Raises:
        ExportError: torch cannot export the model, or the answers differ by more.
    """
    sensors = sensor_inputs(trained, windows)
    deployed = Deployed(trained.model.cpu().eval(), sensors, trained.tasks).eval()
    inputs = {name: _with_statistics(windows.inputs[name], sensors[name]) for name in sensors}
    try:
        longer = {name: _longer(window, sensors[name]) for name, window in inputs.items()}
        graph = export_onnx(deployed, [tensor[:2].clone() for tensor in flatten(longer, sensors)], opset)
    except ExportError:
        sensors = {name: _fixed(sensor, inputs[name]) for name, sensor in sensors.items()}
        deployed = Deployed(trained.model, sensors, trained.tasks).eval()
        graph = export_onnx(deployed, [tensor[:2].clone() for tensor in flatten(inputs, sensors)], opset)
    files = {"model.onnx": graph, "recipe.yaml": dump_recipe(trained.recipe).encode()}
    for name, modality in trained.modalities.items():
        files.update({f"files/{name}/{file}": content for file, content in modality.files().items()})
    manifest = _manifest(trained, sensors, opset)
    session = Session(Bundle(path, read_manifest(manifest), files))
    parity = compare(deployed, session, inputs, tolerance)
    files["reference.npz"] = _reference(session, inputs, sensors)
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    _write(path, files)
    return parity


def compare(deployed: Deployed, session: Session, inputs: Mapping[str, Window], tolerance: float) -> Parity:
    """Answers of torch and of the bundle, for batch 1 and N and for every non-empty subset of sensors.

    Raises:
        ExportError: they differ by more than ``tolerance``.
    """
    names, largest, cases = list(inputs), 0.0, 0
    subsets = [c for size in range(1, len(names) + 1) for c in itertools.combinations(names, size)]
    if len(subsets) > 64:  # above six sensors: all alone, all but one, all
        subsets = [c for c in subsets if len(c) in (1, len(names) - 1, len(names))]
    for batch in (1, len(next(iter(inputs.values())).present)):
        for subset in subsets:
            given = {n: _first(inputs[n], batch, here=n in subset) for n in names}
            with torch.no_grad():
                wanted = deployed(*flatten(given, deployed.sensors))
            got = session.predict(
                {n: w.values.numpy() for n, w in given.items()},
                lengths={n: w.length.numpy() for n, w in given.items()},
                present={n: w.present.numpy() for n, w in given.items()},
                statistics={
                    n: (w.shift.numpy(), w.scale.numpy())
                    for n, w in given.items()
                    if w.shift is not None and w.scale is not None
                },
            )
            for task, tensor in zip(deployed.tasks, wanted, strict=True):
                true = tensor.double().numpy()
                far = float(np.max(np.abs(got[task] - true) / np.maximum(1, np.abs(true)), initial=0))
                largest, cases = max(largest, far), cases + 1
                if not far <= tolerance:
                    raise ExportError(
                        f"{task}: the bundle must answer as torch does to {tolerance:g}, but differs by {far:.3g} "
                        f"(batch {batch}, sensors {', '.join(subset)})"
                    )
    return Parity(largest, cases)


def _manifest(trained: Trained, sensors: Mapping[str, SensorInput], opset: int) -> dict[str, Any]:
    described = {}
    for name, sensor in sensors.items():
        stored, kind = trained.stored[name], trained.recipe.modalities[name].kind
        described[name] = {
            "kind": kind,
            "layout": "token" if trained.modalities[name].fitted else _layout(sensor),
            "shape": list(sensor.shape),
            "dtype": str(sensor.dtype).removeprefix("torch."),
            "longest": stored.longest,
            "sample_rate": stored.sample_rate,
            "channels": list(stored.channels),
            "unit": stored.unit,
            "align": describe_alignment(trained.recipe.modalities[name].align, stored),
            "normalise": trained.recipe.modalities[name].normalise.model_dump(mode="json"),
            "statistics": None if sensor.statistics is None else list(sensor.statistics),
            "chain": trained.modalities[name].chain(stored),
            "stored": describe_stored(stored),
            "lacks": trained.modalities[name].front_end(stored).lacks,
        }
    tasks = {
        name: {
            "kind": trained.recipe.tasks[name].kind,
            "classes": list(task.classes),
            "outcome": task.outcome,
            "state": task.state(),
        }
        for name, task in trained.tasks.items()
    }
    versions = {package: importlib.metadata.version(package) for package in ("torch", "onnx", "onnxruntime", "numpy")}
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": trained.recipe.name,
        "sensors": described,
        "tasks": tasks,
        "inputs": input_names(sensors),
        "opset": opset,
        "versions": {"fusionkit": fusionkit.__version__, **versions},
    }


def _layout(sensor: SensorInput) -> str:
    return "channel, band, time" if sensor.timed and len(sensor.shape) == 3 else LAYOUTS[len(sensor.shape)]


def _reference(session: Session, inputs: Mapping[str, Window], sensors: Mapping[str, SensorInput]) -> bytes:
    """Made-up inputs (nobody's signals) and their answers, so that a receiver can check the bundle."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, window in inputs.items():
        values = window.values[:2].numpy()
        if values.dtype.kind == "f":
            spread = float(np.std(values)) or 1.0
            values = generator.normal(float(np.mean(values)), spread, values.shape).astype(values.dtype)
        else:
            values = np.ones_like(values)
        arrays[name] = values
    identity = {
        name: (np.zeros((2, *s.statistics), np.float32), np.ones((2, *s.statistics), np.float32))
        for name, s in sensors.items()
        if s.statistics
    }
    answers = session.predict(arrays, statistics=identity)
    buffer = io.BytesIO()
    named = {f"input_{k}": v for k, v in arrays.items()} | {f"output_{k}": v for k, v in answers.items()}
    np.savez_compressed(buffer, allow_pickle=False, **named)
    return buffer.getvalue()


def _with_statistics(level: Any, sensor: SensorInput) -> Window:
    assert isinstance(level, Window)
    if sensor.statistics is None or level.shift is not None:
        return level
    shape = (len(level.present), *sensor.statistics)
    return level._replace(shift=torch.zeros(shape), scale=torch.ones(shape))


def _longer(window: Window, sensor: SensorInput) -> Window:
    """Twice the time, so that the exporter sees more than one step and does not take one for a constant."""
    if not sensor.timed:
        return window
    return window._replace(values=torch.cat([window.values] * 2, -1), length=2 * window.length)


def _fixed(sensor: SensorInput, window: Window) -> SensorInput:
    return SensorInput(tuple(window.values.shape[1:]), sensor.dtype, sensor.timed, sensor.statistics)


def _first(window: Window, batch: int, *, here: bool) -> Window:
    parts = [None if part is None else part[:batch] for part in window]
    cut = Window(*parts)  # type: ignore[arg-type]
    return cut if here else cut._replace(present=torch.zeros_like(cut.present))


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    write_atomically(path, content.getvalue())
