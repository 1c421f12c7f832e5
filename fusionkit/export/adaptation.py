"""A bundle for a new wearer: a few labelled minutes of theirs, and no training of the encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.core.levels import Batch, Window
from fusionkit.core.modality import Array
from fusionkit.data.features import CPU
from fusionkit.data.loading import Loader, LoaderInput
from fusionkit.data.study import Study
from fusionkit.evaluation.conformal import Kind
from fusionkit.evaluation.formula import LEAST
from fusionkit.evaluation.predict import predict, prediction
from fusionkit.evaluation.recalibration import can_be_recalibrated, logarithms, recalibrate
from fusionkit.evaluation.temperature import fit_temperature_near, temper
from fusionkit.export.bundle import draft_bundle
from fusionkit.export.calibration import LEVELS, describe_calibration, put_aside
from fusionkit.export.head_tuning import HeadTuning, tune_heads
from fusionkit.export.minutes import divide, seconds_of
from fusionkit.export.person import take_wearer, worn_inputs
from fusionkit.export.run import COMPARED, complete, refuse
from fusionkit.heads.task import Task
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.training.arm import FUSED
from fusionkit.training.fold import load_result
from fusionkit.training.material import open_study
from fusionkit.training.records import build_source
from fusionkit.training.run import Run
from fusionkit.training.trained import Trained, load_trained

SETS: tuple[Kind, ...] = ("lac",)


@dataclass(frozen=True)
class Retempered:
    """One task's temperature.

    Attributes:
        before: of the run's calibration groups; 1 without any.
        after: of the bundle.
        loss_before: negative log-likelihood of the records that decided, at ``before``.
        loss_after: likewise at the temperature of the records before them.
        kept: whether the new one was better, and taken.
    """

    before: float
    after: float
    loss_before: float
    loss_after: float
    kept: bool


@dataclass(frozen=True)
class Adapted:
    """What an adaptation did.

    Attributes:
        path: of the new bundle.
        size: bytes of it.
        records: labelled ones it was adapted with.
        judged: how many of them, the latest of each recording, decided what is kept.
        seconds: of signal; None where no sensor has time.
        sha256: digest of the calibration data.
        worn: sensors whose alignment or statistics the bundle knows.
        temperatures: by task.
        heads: what tuning them did; None where nobody asked.
        notes: what was left as it is, and why.
    """

    path: Path
    size: int
    records: int
    judged: int
    seconds: float | None
    sha256: str
    worn: tuple[str, ...]
    temperatures: dict[str, Retempered]
    heads: HeadTuning | None
    notes: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """As the manifest keeps it: nothing of what was recorded."""
        return {
            "records": self.records,
            "judged": self.judged,
            "seconds": self.seconds,
            "sha256": self.sha256,
            "sensors": list(self.worn),
            "temperatures": {name: dict(vars(one)) for name, one in self.temperatures.items()},
            "heads": None if self.heads is None else self.heads.as_dict(),
        }

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"path": str(self.path), "bytes": self.size, **self.about(), "notes": list(self.notes)}

    def say(self) -> list[str]:
        """Lines for people."""
        length = "" if self.seconds is None else f", {self.seconds:g} s"
        lines = [f"adapted to {self.records} labelled records{length}; the last {self.judged} of them decided"]
        if self.worn:
            lines.append(f"knows the wearer's {', '.join(self.worn)}: no calibration at the start")
        if self.heads is not None:
            done = f"heads of epoch {self.heads.epoch}" if self.heads.kept else "heads as they were"
            lines.append(f"{done}: loss {self.heads.before:.3f} before, {self.heads.after:.3f} at best")
        for name, one in self.temperatures.items():
            done = "taken" if one.kept else "not taken"
            lines.append(
                f"{name}: temperature {one.before:.2f} before, {one.after:.2f} now; the new one, {done}, has loss "
                f"{one.loss_after:.3f}, the old one {one.loss_before:.3f}"
            )
        return [*lines, *(f"note: {note}" for note in self.notes), f"bundle {self.path}: {self.size / 1e6:.2f} MB"]


def adapt_run(
    run: Run,
    overrides: Sequence[str],
    path: Path,
    *,
    fold: int | None = None,
    heads: bool = False,
    epochs: int = 20,
    lr: float = 1e-3,
) -> Adapted:
    """Write a bundle that knows a new wearer.

    Alignment and statistics, where the recipe takes them of a person, are those of the calibration. A temperature near
    the run's is fitted to all of it but the end of every recording, and taken if the end is answered better by it; then
    it is fitted anew to all, and bars of sets are those of the run's calibration groups at it. With ``heads`` these are tuned likewise, and if they are kept, the temperature is that of the end alone,
    which they have not seen. Nothing is kept that is worse by this measure.

    Args:
        run: whose model.
        overrides: ``data.path=...``: records of one person, with labels.
        path: where the bundle goes.
        fold: whose model; by default the first that is trained.
        heads: whether heads are tuned.
        epochs: of tuning, at most.
        lr: its learning rate.

    Raises:
        ConfigError: no data, or a change of what was trained.
        DataError: other sensors or rates, no labels, one class only, too few records, several people.
        ExportError: no bundle can be made of the run.
    """
    _check(overrides)
    number = fold if fold is not None else (run.folds() or [0])[0]
    trained = load_trained(run, number)
    refuse(trained.recipe)
    asked = load_recipe(str(run.folder / "recipe.yaml"), overrides)
    asked = replace(asked, data=asked.data.model_copy(update={"unlabelled": None}), augment={})
    columns, where = build_source(asked).columns(), build_source(asked).title
    asked = replace(asked, tasks={name: entry for name, entry in asked.tasks.items() if entry.column in columns})
    study = open_study(asked, expected=trained.stored)
    with Study.open(run.study) as own:
        signals, aside = own.signals(), _put_aside(run, number, trained, own)
    if study.signals() == signals:
        raise ConfigError(
            "an adaptation must be to other data than the run's, but these are the signals it was made from"
        )
    with located(where):
        targets, notes = _targets(asked, study, trained.tasks)
        fit, judge = divide(study, targets)
    rows = np.sort(np.concatenate([fit, judge]))
    opset, tolerance = trained.recipe.export.opset, trained.recipe.export.tolerance
    windows = _sample(trained, study, rows)
    draft, _ = draft_bundle(trained, windows, path, opset=opset, tolerance=tolerance)
    wearer = take_wearer(draft.session(), trained.recipe, study, trained.modalities)
    loader = Loader(study, worn_inputs(wearer, study, trained.modalities), targets, CPU, False)
    tuned = None
    if heads:
        tasks = {name: trained.tasks[name] for name in targets}
        weights = {name: trained.recipe.tasks[name].weight for name in targets}
        tuned = tune_heads(trained.model, tasks, weights, loader, fit, judge, epochs=epochs, lr=lr)
        if tuned.kept:
            draft, _ = draft_bundle(trained, windows, path, opset=opset, tolerance=tolerance)
    draft.manifest["trained_on"], temperatures = signals, {}
    for name, answered in aside.items():
        draft.manifest["tasks"][name].update(describe_calibration(recalibrate(*answered, kinds=SETS, levels=LEVELS)))
    for name, target in targets.items():
        if not can_be_recalibrated(trained.tasks[name]):
            continue
        parts = [_Said(_answers(trained, loader, part, name), target[part]) for part in (fit, judge)]
        if any(part.empty for part in parts):
            notes.append(f"{name}: its temperature is as it was, for no record of the end is labelled")
            continue
        changed = tuned is not None and tuned.kept
        unseen = parts[1:] if changed else parts
        one = _retemper(draft.manifest["tasks"][name].get("temperature", 1.0), unseen)
        temperatures[name] = one
        if one.kept or changed:
            said, right = (np.concatenate([vars(part)[key] for part in unseen]) for key in ("probabilities", "target"))
            if name in aside and not changed:  # more records, by the same heads
                said, right = aside[name]
            mended = recalibrate(said, right, kinds=SETS, levels=LEVELS, temperature=one.after)
            draft.manifest["tasks"][name].update(describe_calibration(mended))
    draft.files["wearer.npz"] = wearer.to_bytes()
    adapted = Adapted(
        path=path,
        size=0,
        records=len(rows),
        judged=len(judge),
        seconds=seconds_of(study, rows),
        sha256=study.digest,
        worn=tuple(name for name in trained.modalities if name in {*wearer.matrix, *wearer.running}),
        temperatures=temperatures,
        heads=tuned,
        notes=tuple(notes),
    )
    draft.manifest["adapted"] = adapted.about()
    complete(draft, trained, {name: w for name, w in windows.inputs.items() if isinstance(w, Window)})
    draft.write()
    return replace(adapted, size=path.stat().st_size)


@dataclass(frozen=True)
class _Said:
    """Probabilities of some records, and what was right."""

    probabilities: Array
    target: Array

    @property
    def empty(self) -> bool:
        return bool(np.isnan(self.target).all())

    def loss(self, temperature: float) -> float:
        """Mean negative log-likelihood at a temperature."""
        rows = np.flatnonzero(~np.isnan(self.target))
        mended = temper(logarithms(self.probabilities[rows]), temperature)
        right = mended[np.arange(len(rows)), self.target[rows].astype(np.int64)]
        return float(-np.log(np.maximum(right, LEAST)).mean())


def _retemper(before: float, parts: Sequence[_Said]) -> Retempered:
    """A temperature of the first part, judged by the last (which is the same where there is one), then of all."""
    first, last = parts[0], parts[-1]
    tried = fit_temperature_near(logarithms(first.probabilities), first.target, before)
    losses = last.loss(before), last.loss(tried)
    kept = losses[1] < losses[0]
    said, right = (np.concatenate([vars(part)[key] for part in parts]) for key in ("probabilities", "target"))
    after = fit_temperature_near(logarithms(said), right, before) if kept else before
    return Retempered(before, after, *losses, kept)


def _check(overrides: Sequence[str]) -> None:
    wrong = [text for text in overrides if not text.startswith(("data.", "run."))]
    if wrong:
        raise ConfigError(f"only data.* and run.* may be changed after training, but got {wrong}")
    if not any(text.startswith("data.") for text in overrides):
        raise ConfigError("an adaptation must be to other data than the run's: give data.path=...")


def _targets(recipe: Recipe, study: Study, tasks: Mapping[str, Task]) -> tuple[dict[str, Array], list[str]]:
    """Targets of every task that something can be learned about, and notes on the others."""
    targets: dict[str, Array] = {}
    notes, seen = [], []
    for name, entry in recipe.tasks.items():
        task = tasks[name]
        target = task.encode(study.records.known(entry.column), name)
        found = np.unique(target[~np.isnan(target)])
        seen += [task.classes[int(number)] for number in found] if task.classes and target.ndim == 1 else []
        if len(found) > 1:
            targets[name] = target
        else:
            notes.append(f"{name}: as it was, for its labels are {'one class' if len(found) else 'missing'}")
    if not targets:
        got = f"has {seen[0]!r} alone" if seen else "has none"
        raise DataError(f"an adaptation must have labels of two classes or more of a task, but {got}")
    return targets, notes


def _sample(trained: Trained, study: Study, rows: Array) -> Batch:
    inputs = {name: LoaderInput(modality) for name, modality in trained.modalities.items()}
    return Loader(study, inputs, {}, CPU, False).batch(np.resize(rows, min(COMPARED, len(rows))))


def _answers(trained: Trained, loader: Loader, rows: Array, name: str) -> Array:
    return prediction(trained.tasks[name], predict(trained.model, loader, rows)[name])


def _put_aside(run: Run, fold: int, trained: Trained, study: Study) -> dict[str, tuple[Array, Array]]:
    """What the run's own calibration groups were answered, and what was right."""
    targets = {n: t.encode(study.records.known(trained.recipe.tasks[n].column), n) for n, t in trained.tasks.items()}
    return put_aside(trained.tasks, load_result(run.arm_folder(fold, FUSED)), targets)
