"""Export a run: load a fold's model, take some of its records, write the bundle, measure it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core.levels import Batch, Window
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.data.split_options import CALIBRATION
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation.bundled import answer, as_prediction
from fusionkit.evaluation.multiplications import count_multiplications
from fusionkit.export.bundle import Draft, add_reference, draft_bundle
from fusionkit.export.calibration import calibrate_tasks, describe_calibration
from fusionkit.export.graph import ExportError
from fusionkit.export.int8 import Quantised, compare_scores, quantise
from fusionkit.export.latency import Latency, measure_latency
from fusionkit.export.parity import Parity, some
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.streaming import refuse_bundles
from fusionkit.runtime import Session
from fusionkit.runtime.manifest import HeldOut
from fusionkit.training.arm import FUSED
from fusionkit.training.fold import FoldResult, load_result
from fusionkit.training.material import Material, open_study
from fusionkit.training.run import Run
from fusionkit.training.trained import Trained, load_trained

COMPARED = 8
"""Test records that the bundle is compared with torch on."""

Extend = Callable[[Draft, Trained, dict[str, Window]], None]
"""Adds to a bundle before it is measured and written."""


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        path: of the bundle.
        size: bytes of it.
        parity: how far it is from torch, as float32.
        latency: of one window.
        macs: multiplications with addition of one window.
        parameters: numbers of the model.
        calibrated: temperature of every task that the run's calibration groups could mend.
        quantised: what eight bits did, where they were asked for.
    """

    path: Path
    size: int
    parity: Parity
    latency: Latency
    macs: int
    parameters: int
    calibrated: dict[str, float]
    quantised: Quantised | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "parity": self.parity.largest,
            "cases": self.parity.cases,
            "outputs": self.parity.as_dict(),
            "p50_ms": self.latency.p50,
            "p99_ms": self.latency.p99,
            "macs": self.macs,
            "parameters": self.parameters,
            "temperatures": self.calibrated,
            "quantised": None if self.quantised is None else self.quantised.as_dict(),
        }

    def say(self) -> str:
        """A line for people."""
        tempered = ", ".join(f"{task} {t:.2f}" for task, t in self.calibrated.items())
        return (
            f"bundle {self.path}: {self.size / 1e6:.2f} MB, {self.parameters:,} parameters, {self.macs:,} multiplications; "
            f"differs from torch by at most {self.parity.largest:.1e} in {self.parity.cases} cases; "
            f"one window p50 {self.latency.p50:.2f} ms, p99 {self.latency.p99:.2f} ms"
            + (f"; temperature: {tempered}" if tempered else "")
        )


@dataclass(frozen=True)
class Held:
    """A fold's model with its study, for asking it about records.

    Attributes:
        trained: the model.
        study: what it was trained on.
        loader: windows of all records with their statistics.
        fold: number of the fold, and digest of the split.
        result: of the fold.
        targets: of all records, by task.
    """

    trained: Trained
    study: Study
    loader: Loader
    fold: HeldOut
    result: FoldResult
    targets: dict[str, Array]

    def windows(self, rows: Array) -> Batch:
        """Of some records."""
        return self.loader.batch(torch.from_numpy(np.asarray(rows)))

    def sample(self) -> Batch:
        """Some test records, those first that have all sensors."""
        rows = self.result.rows["test"]
        there = np.sum([self.study.sensors[n].present[rows] for n in self.trained.recipe.graph.modalities], axis=0)
        rows = rows[np.argsort(-there, kind="stable")][:COMPARED]
        return self.windows(np.resize(rows, max(2, len(rows))))


def export_run(
    run: Run,
    path: Path,
    *,
    fold: int | None = None,
    opset: int | None = None,
    int8: bool = False,
    extend: Extend | None = None,
) -> Exported:
    """Write the bundle of a fold (the first that is trained, if none is named).

    Args:
        run: finished, at least that fold.
        path: where the bundle goes.
        fold: whose model.
        opset: version of the ONNX operators; by default the recipe's.
        int8: whether weights become whole numbers of eight bits, and what that costs is measured.
        extend: adds to the bundle, such as the graph of one step.

    Raises:
        ExportError: the recipe or the model forbids it, or the bundle answers otherwise than torch.
        DataError: the run is not finished.
    """
    held = open_fold(run, fold)
    return finish(held, path, opset=opset, int8=int8, extend=extend)


def open_fold(run: Run, fold: int | None) -> Held:
    """Load what a bundle is made of.

    Raises:
        ExportError: the recipe forbids bundles.
        DataError: the run is not finished, or its data have changed since.
    """
    number = fold if fold is not None else (run.folds() or [0])[0]
    trained = load_trained(run, number)
    recipe = trained.recipe
    refuse(recipe)
    study = open_study(recipe)
    run.check_unchanged(study, "an export")
    material = Material(recipe, study, torch.device("cpu"))
    inputs = {name: material.windows(name, trained.modalities[name]) for name in recipe.graph.modalities}
    loader = Loader(study, inputs, {}, torch.device("cpu"), False)
    targets = {n: t.encode(study.records.known(recipe.tasks[n].column), n) for n, t in trained.tasks.items()}
    fold_of = HeldOut(number, Split.load(run.folder / "split.json", study.records).digest)
    return Held(trained, study, loader, fold_of, load_result(run.arm_folder(number, FUSED)), targets)


def refuse(recipe: Recipe) -> None:
    """Refuse a recipe that no bundle can follow.

    Raises:
        ExportError: it smooths over more than a window.
    """
    reason = refuse_bundles(recipe)
    if reason is not None:
        raise ExportError(f"no bundle can be made of this run: {reason}")


def finish(
    held: Held, path: Path, *, opset: int | None = None, int8: bool = False, extend: Extend | None = None
) -> Exported:
    """Make, measure and write the bundle of a fold; see `export_run`."""
    trained, export = held.trained, held.trained.recipe.export
    batch = held.sample()
    draft, parity = draft_bundle(
        trained, batch, path, opset=export.opset if opset is None else opset, tolerance=export.tolerance
    )
    windows = {name: w for name, w in batch.inputs.items() if isinstance(w, Window)}
    quantised = _quantise(held, draft, windows) if int8 else None
    aside = (
        held.result.rows.get(CALIBRATION) if int8 else None
    )  # bars must be of the answers that are compared with them
    answers = None if aside is None else ask_session(draft.session(), held, aside)
    fitted = calibrate_tasks(trained.tasks, held.result, held.targets, answers)
    draft.manifest.update(trained_on=held.study.signals(), held_out=asdict(held.fold))
    for task, one in fitted.items():
        draft.manifest["tasks"][task] |= describe_calibration(one)
    if extend is not None:
        extend(draft, trained, windows)
    macs, latency = complete(draft, trained, windows)
    draft.write()
    return Exported(
        path=path,
        size=path.stat().st_size,
        parity=parity,
        latency=latency,
        macs=macs,
        parameters=draft.manifest["parameters"],
        calibrated={task: one.temperature for task, one in fitted.items()},
        quantised=quantised,
    )


def complete(draft: Draft, trained: Trained, windows: dict[str, Window]) -> tuple[int, Latency]:
    """Count, measure, and put reference answers in: what any bundle has before it is written."""
    single = {name: some(window, slice(1), here=True) for name, window in windows.items()}
    macs = count_multiplications(trained.model, {n: w._replace(present=w.present | True) for n, w in single.items()})
    add_reference(draft, windows)
    latency = measure_latency(draft.session(), windows)
    draft.manifest.update({"macs": macs, "latency_ms": latency.as_dict()})
    return macs, latency


def _quantise(held: Held, draft: Draft, windows: dict[str, Window]) -> Quantised:
    """Put the graph of eight bits in the place of the other, and ask both about the fold's test records."""
    rows = held.result.rows["test"]
    plain = draft.session()
    graph, operators = quantise(draft.files["model.onnx"])
    sizes = len(draft.files["model.onnx"]), len(graph)
    draft.files["model.onnx"] = graph
    small = draft.session()
    found = compare_scores(
        held.trained.tasks,
        ask_session(plain, held, rows),
        ask_session(small, held, rows),
        {task: target[rows] for task, target in held.targets.items()},
        held.study.records.group("subject")[rows],
    )
    times = measure_latency(plain, windows), measure_latency(small, windows)
    made = Quantised(operators, len(rows), found, sizes, times)
    draft.manifest["quantised"] = made.as_dict()
    return made


def ask_session(session: Session, held: Held, rows: Array, size: int = 64) -> dict[str, Array]:
    """Predictions of a bundle for records of a run, as metrics want them."""
    parts: dict[str, list[Array]] = {name: [] for name in held.trained.tasks}
    for chunk in np.array_split(rows, max(1, -(-len(rows) // size))):
        windows = {name: w for name, w in held.windows(chunk).inputs.items() if isinstance(w, Window)}
        for name, values in answer(session, windows).items():
            parts[name].append(as_prediction(held.trained.tasks[name], values))
    return {name: np.concatenate(part) for name, part in parts.items()}
