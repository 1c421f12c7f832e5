"""From a trained model to one file: graphs, a manifest, what sensors learned, and reference answers."""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import fusionkit
from fusionkit.core.levels import Batch, Window
from fusionkit.core.recording import describe_stored
from fusionkit.data.alignment import describe_alignment
from fusionkit.export.features import compare_features, feature_graphs
from fusionkit.export.graph import Deployed, ExportError, SensorInput, export_onnx, flatten, input_names
from fusionkit.export.parity import Parity, compare
from fusionkit.recipe.build import needs_features
from fusionkit.recipe.sections import Choice, Recipe, RunSection
from fusionkit.recipe.write import dump_recipe
from fusionkit.runtime import Bundle, BundleError, Session
from fusionkit.runtime.archive import unpack
from fusionkit.runtime.filters import Chain
from fusionkit.runtime.manifest import FORMAT, VERSION, read_manifest
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.trained import Trained

Source = TypeVar("Source", bound=Choice)
LAYOUTS = {1: "time", 2: "channel, time", 3: "3, height, width"}


@dataclass(frozen=True)
class Draft:
    """A bundle that is not written yet.

    Attributes:
        path: where it goes.
        manifest: what it will say, as plain data.
        files: all others by name.
    """

    path: Path
    manifest: dict[str, Any]
    files: dict[str, bytes]

    def session(self) -> Session:
        """What it answers."""
        return Session(Bundle(self.path, read_manifest(self.manifest), self.files))

    def write(self) -> None:
        """Put it under its name, whole or not at all.

        Raises:
            BundleError: it breaks a rule of its own reader.
        """
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        manifest = {**self.manifest, "sha256": hashes}
        read_manifest(manifest)
        files = {**self.files, "manifest.json": (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
        unpack(content, str(self.path), content.tell())
        write_atomically(self.path, content.getvalue())


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


def draft_bundle(trained: Trained, windows: Batch, path: Path, *, opset: int, tolerance: float) -> tuple[Draft, Parity]:
    """Export and compare with torch.

    Args:
        trained: the model.
        windows: some records' windows with their statistics, to compare on.
        path: where the bundle will go.
        opset: version of the ONNX operators.
        tolerance: largest difference allowed between any two answers (relative to 1 or the answer, if larger).

    Raises:
        ExportError: torch cannot export the model, or the answers differ by more.
    """
    sensors = sensor_inputs(trained, windows)
    deployed = Deployed(trained.model.cpu().eval(), sensors, trained.tasks).eval()
    inputs = {name: _with_statistics(windows.inputs[name], sensors[name]) for name in sensors}
    longer = {name: _longer(window, sensors[name]) for name, window in inputs.items()}
    features = feature_graphs(trained, sensors, longer, opset)
    try:
        graph = export_onnx(deployed, [tensor[:2].clone() for tensor in flatten(longer, sensors)], opset)
    except ExportError:
        sensors = {name: _fixed(sensor, inputs[name]) for name, sensor in sensors.items()}
        deployed = Deployed(trained.model, sensors, trained.tasks).eval()
        graph = export_onnx(deployed, [tensor[:2].clone() for tensor in flatten(inputs, sensors)], opset)
    files = {"model.onnx": graph, "recipe.yaml": dump_recipe(portable(trained.recipe)).encode()}
    files |= {f"features/{name}.onnx": content for name, content in features.items()}
    for name, modality in trained.modalities.items():
        files.update({f"files/{name}/{file}": content for file, content in modality.files().items()})
    draft = Draft(path, _manifest(trained, sensors, inputs, opset), files)
    try:
        session = draft.session()
    except BundleError as error:  # torch took the example's batch for a constant
        raise ExportError(f"the model must export for batches of any size, but {error}") from None
    parity = compare(deployed, session, inputs, tolerance)
    parity = Parity((*parity.rows, *compare_features(trained, features, inputs, tolerance)))
    return draft, parity


def portable(recipe: Recipe) -> Recipe:
    """A recipe without the folders of the machine where it was trained: of paths the last name alone."""
    data = _last_name(recipe.data).model_copy(update={"cache": None})
    if data.unlabelled is not None:
        data = data.model_copy(update={"unlabelled": _last_name(data.unlabelled)})
    start = recipe.init.from_
    init = recipe.init.model_copy(update={"from_": start and Path(start).name})
    return replace(recipe, data=data, init=init, run=RunSection.model_validate({}))


def _last_name(source: Source) -> Source:
    path = source.options.get("path")
    return source if path is None else source.model_copy(update={"path": Path(path).name})


def add_reference(draft: Draft, windows: Mapping[str, Any]) -> None:
    """Put made-up inputs (nobody's signals) and their answers in, so that a receiver can check the bundle."""
    session, generator = draft.session(), np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, window in windows.items():
        values = window.values[:2].numpy()
        if values.dtype.kind == "f":
            real = values[np.isfinite(values)].astype(np.float64)  # a channel that was not measured is NaN
            mean, spread = (float(real.mean()), float(real.std())) if len(real) else (0.0, 0.0)
            values = generator.normal(mean, spread or 1.0, values.shape).astype(values.dtype)
            limits = session.sensors[name].limits
            values = values if limits is None else values.clip(*limits)
        else:
            values = np.ones_like(values)
        arrays[name] = values
    identity = {
        name: (np.zeros((2, *sensor.statistics), np.float32), np.ones((2, *sensor.statistics), np.float32))
        for name, sensor in session.sensors.items()
        if sensor.statistics
    }
    answers = session.predict(arrays, statistics=identity)
    buffer = io.BytesIO()
    named = {f"input_{k}": v for k, v in arrays.items()} | {f"output_{k}": v for k, v in answers.items()}
    np.savez_compressed(buffer, **named)
    draft.files["reference.npz"] = buffer.getvalue()


def _manifest(
    trained: Trained, sensors: Mapping[str, SensorInput], windows: Mapping[str, Window], opset: int
) -> dict[str, Any]:
    recipe = trained.recipe
    described = {name: _sensor(trained, name, sensor, windows[name]) for name, sensor in sensors.items()}
    tasks = {
        name: {
            "kind": recipe.tasks[name].kind,
            "classes": list(task.classes),
            "outcome": task.outcome,
            "state": task.state(),
        }
        for name, task in trained.tasks.items()
    }
    seconds = max((s for name in sensors if (s := trained.stored[name].seconds) is not None), default=None)
    if seconds is None and recipe.export.step is not None:
        raise ExportError(f"export.step={recipe.export.step:g}: a sensor must have time to be streamed, but none has")
    versions = {package: importlib.metadata.version(package) for package in ("torch", "onnx", "onnxruntime", "numpy")}
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": recipe.name,
        "sensors": described,
        "tasks": tasks,
        "inputs": input_names(sensors),
        "opset": opset,
        "versions": {"fusionkit": fusionkit.__version__, **versions},
        "window": {"seconds": seconds, "step": recipe.export.step or seconds},
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
    }


def _sensor(trained: Trained, name: str, sensor: SensorInput, window: Window) -> dict[str, Any]:
    stored, entry, modality = trained.stored[name], trained.recipe.modalities[name], trained.modalities[name]
    chain = modality.chain(stored)
    front_end = trained.model.front_end(name) if name in needs_features(trained.recipe) else None
    limits = modality.limits
    if front_end is not None and front_end.vocabulary:
        limits = (0, front_end.vocabulary - 1)
    stream = None
    if chain is not None:
        rate = None if stored.sample_rate is None else float(stored.sample_rate / Chain(chain).ratio)
        stream = {"sample_rate": rate, "channels": list(stored.channels), "unit": stored.unit}
    return {
        "kind": entry.kind,
        "layout": "token" if modality.fitted else _layout(sensor),
        "shape": list(sensor.shape),
        "dtype": str(sensor.dtype).removeprefix("torch."),
        "longest": stored.longest,
        "sample_rate": stored.sample_rate,
        "channels": list(stored.channels),
        "unit": stored.unit,
        "align": describe_alignment(entry.align, stored),
        "normalise": entry.normalise.model_dump(mode="json"),
        "statistics": None if sensor.statistics is None else list(sensor.statistics),
        "chain": chain,
        "stored": describe_stored(stored),
        "window": {"samples": window.values.shape[-1] if sensor.timed else 1, "seconds": stored.seconds},
        "stream": stream,
        "limits": None if limits is None else list(limits),
        "lacks": front_end is not None and front_end.lacks,
    }


def _layout(sensor: SensorInput) -> str:
    return "channel, band, time" if sensor.timed and len(sensor.shape) == 3 else LAYOUTS[len(sensor.shape)]


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
