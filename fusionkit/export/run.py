"""Export a run: load a fold's model, take some of its records, write the bundle, measure it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core.levels import Window
from fusionkit.data.loading import Loader
from fusionkit.export.bundle import Parity, write_bundle
from fusionkit.export.graph import ExportError
from fusionkit.recipe.streaming import refuse_bundles
from fusionkit.runtime import Session
from fusionkit.training.arm import FUSED
from fusionkit.training.fold import load_result
from fusionkit.training.material import Material, open_study
from fusionkit.training.run import Run
from fusionkit.training.trained import load_trained


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    path: Path
    size: int
    parity: Parity
    latency_ms: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "parity": self.parity.largest,
            "cases": self.parity.cases,
            "p50_ms": self.latency_ms[0],
            "p99_ms": self.latency_ms[1],
        }

    def say(self) -> str:
        """A line for people."""
        p50, p99 = self.latency_ms
        return (
            f"bundle {self.path}: {self.size / 1e6:.2f} MB, differs from torch by at most {self.parity.largest:.1e} "
            f"in {self.parity.cases} cases, one window p50 {p50:.2f} ms, p99 {p99:.2f} ms"
        )


def export_run(run: Run, path: Path, *, fold: int | None = None, opset: int | None = None) -> Exported:
    """Write the bundle of a fold (the first that is trained, if none is named).

    Raises:
        ExportError: the recipe or the model forbids it, or the bundle answers otherwise than torch.
        DataError: the run is not finished.
    """
    number = fold if fold is not None else (run.folds() or [0])[0]
    trained = load_trained(run, number)
    recipe = trained.recipe
    reason = refuse_bundles(recipe)
    if reason is not None:
        raise ExportError(f"no bundle can be made of this run: {reason}")
    study = open_study(recipe)
    material = Material(recipe, study, torch.device("cpu"))
    inputs = {name: material.windows(name, trained.modalities[name]) for name in recipe.graph.modalities}
    loader = Loader(study, inputs, {}, torch.device("cpu"), False)
    rows = load_result(run.arm_folder(number, FUSED)).rows["test"][:8]
    batch = loader.batch(torch.from_numpy(np.resize(rows, max(2, len(rows)))))
    parity = write_bundle(trained, batch, path, opset=opset or recipe.export.opset, tolerance=recipe.export.tolerance)
    windows = {name: window for name, window in batch.inputs.items() if isinstance(window, Window)}
    return Exported(path, path.stat().st_size, parity, _latency(Session.load(path), windows))


def _latency(session: Session, windows: dict[str, Window], repeats: int = 100) -> tuple[float, float]:
    """Median and 99th percentile of one window's prediction in milliseconds, one thread."""
    values = {name: window.values[:1].numpy() for name, window in windows.items()}
    statistics = {
        name: (np.zeros((1, *shape), np.float32), np.ones((1, *shape), np.float32))
        for name, sensor in session.sensors.items()
        if (shape := sensor.statistics)
    }
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        session.predict(values, statistics=statistics)
        times.append(time.perf_counter() - began)
    p50, p99 = np.percentile(times[5:], [50, 99])
    return float(p50) * 1e3, float(p99) * 1e3
