"""Train one arm on one fold and keep what it answers."""

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionkit.core.errors import DataError, located
from fusionkit.core.modality import Array, Modality
from fusionkit.data.loading import Loader
from fusionkit.data.records import Records
from fusionkit.data.splits import Fold
from fusionkit.evaluation.metrics import primary_metric, score
from fusionkit.evaluation.predict import outputs, predict, prediction
from fusionkit.fusion.model import Output
from fusionkit.recipe.build import build_model
from fusionkit.training.arm import Arm
from fusionkit.training.checkpoint import load_tensors, save_tensors, write_atomically
from fusionkit.training.device import pick_precision
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.interruption import StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.objective import TaskObjective
from fusionkit.training.order import derive_seed
from fusionkit.training.records import learn_tasks

PREDICTIONS = "predictions.safetensors"


@dataclass
class FoldResult:
    """What one arm answered on one fold.

    ``decisions[part][condition][task]``: part is ``validation`` or ``test``; condition is ``all`` or the name of the
    sensor that was unplugged; rows follow ``rows[part]``. ``states`` are the tasks' own, see `Task.state`.
    """

    rows: dict[str, Array]
    decisions: dict[str, dict[str, dict[str, Array]]]
    seconds: float
    best_epoch: int
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


def train_fold(
    arm: Arm,
    material: Material,
    fold: Fold,
    number: int,
    folder: Path,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> FoldResult:
    """Train an arm on a fold, from its last checkpoint if ``folder`` has one; at once if it is finished.

    Args:
        arm: what to train.
        material: the study, its features and statistics.
        fold: which records train, validate and test.
        number: the fold's number, part of every seed.
        folder: where checkpoints, fitted files and predictions go.
        listener: hears of every epoch.
        stop: a request to save and leave.
    """
    if (folder / PREDICTIONS).exists():
        return load_result(folder)
    began = time.monotonic()
    recipe, settings = arm.recipe, arm.recipe.train
    tasks, targets = learn_tasks(recipe, material.study.records)
    seed = derive_seed(recipe.seed, arm.name, number)
    for name, task in tasks.items():
        with located(f"fold {number}"):
            task.fit(targets[name][fold.train], name)
    modalities = material.fit_modalities(recipe, fold.train, folder, seed)
    keep_files(modalities, folder)
    torch.manual_seed(derive_seed("weights", seed))
    model = build_model(recipe, modalities, material.stored, tasks).to(material.device)
    loader = material.loader(recipe, modalities, targets)
    if not (folder / "last.safetensors").exists():
        chunks = torch.split(torch.from_numpy(fold.train), loader.chunk)
        generator = torch.Generator().manual_seed(derive_seed("fit", seed))
        model.fit(lambda: (loader.batch(chunk) for chunk in chunks), generator)
    weights = {name: entry.weight for name, entry in recipe.tasks.items()}
    objective = TaskObjective(model, tasks, weights, mixup=settings.mixup)
    held_out = fold.validation[~material.excluded[fold.validation]]
    listener = listener or Listener()
    named = partial(_name_rows, material.study.records)
    engine = Engine(
        objective.to(material.device),
        loader.batch,
        torch.from_numpy(fold.train),
        Settings(
            epochs=settings.epochs,
            batch=settings.batch,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            warmup=settings.warmup,
            clip=settings.clip or None,
            patience=settings.patience,
            checkpoint_seconds=settings.checkpoint_seconds,
            precision=pick_precision(settings.precision, material.device),
        ),
        seed=seed,
        device=material.device,
        folder=folder,
        validate=_Validation(objective, loader, held_out, targets, settings.monitor, named) if len(held_out) else None,
        progress=listener.step,
        on_epoch=listener.epoch,
        stop=stop,
        name_rows=named,
    )
    engine.run()
    engine.load_best()
    test = fold.test[~material.excluded[fold.test]]
    if not len(test):
        raise DataError(f"fold {number}: a test part must have records, but calibration segments cover all of them")
    result = FoldResult(
        rows={"validation": held_out, "test": test},
        decisions={
            "validation": {"all": predict(model, loader, held_out)},
            "test": {"all": predict(model, loader, test)},
        },
        seconds=time.monotonic() - began,
        best_epoch=engine.best_epoch,
        states={name: task.state() for name, task in tasks.items()},
    )
    if len(recipe.modalities) > 1:
        for sensor in recipe.modalities:
            result.decisions["test"][sensor] = predict(model, loader, test, absent=[sensor])
    if engine.rank == 0:
        save_result(folder, result)
    return result


def keep_files(modalities: dict[str, Modality], folder: Path) -> None:
    """Write what fitted sensors learned, once: a resumed run must see the same vocabulary.

    A sensor's folder gets its name when all of its files are in it, so that a kill leaves it whole or not there.
    """
    for name, modality in modalities.items():
        files, kept = modality.files(), folder / "files" / name
        if not files or kept.is_dir():
            continue
        temporary = folder / "files" / f".{name}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        for file, content in files.items():
            write_atomically(temporary / file, content)
        try:
            temporary.rename(kept)
        except OSError:  # another process of this training was first
            if not kept.is_dir():
                raise
            shutil.rmtree(temporary)


def save_result(folder: Path, result: FoldResult) -> None:
    """Keep a result; its file is what says that the fold is done."""
    tensors: dict[str, Tensor] = {f"rows|{part}": torch.from_numpy(rows) for part, rows in result.rows.items()}
    for part, conditions in result.decisions.items():
        for condition, decisions in conditions.items():
            tensors.update({f"{part}|{condition}|{task}": torch.from_numpy(d) for task, d in decisions.items()})
    facts = {"seconds": result.seconds, "best_epoch": result.best_epoch, "states": result.states}
    save_tensors(folder / PREDICTIONS, tensors, facts)


def load_result(folder: Path) -> FoldResult:
    """Read what `save_result` kept."""
    tensors, facts = load_tensors(folder / PREDICTIONS)
    rows: dict[str, Array] = {}
    decisions: dict[str, dict[str, dict[str, Array]]] = {}
    for key, value in tensors.items():
        part, _, rest = key.partition("|")
        if part == "rows":
            rows[rest] = value.numpy()
        else:
            condition, _, task = rest.partition("|")
            decisions.setdefault(part, {}).setdefault(condition, {})[task] = value.numpy()
    return FoldResult(rows, decisions, facts["seconds"], facts["best_epoch"], facts["states"])


def _name_rows(records: Records, rows: Tensor) -> str:
    return ", ".join(records.id[row] for row in rows[:8].tolist()) + (", ..." if len(rows) > 8 else "")


class _Validation:
    """Loss and main score of every task on validation records, once an epoch."""

    def __init__(
        self,
        objective: TaskObjective,
        loader: Loader,
        rows: Array,
        targets: dict[str, Array],
        monitor: str,
        name_rows: Callable[[Tensor], str],
    ) -> None:
        self.objective, self.loader, self.rows, self.targets = objective, loader, rows, targets
        self.monitor, self.name_rows = monitor, name_rows
        self.labelled = any(not np.isnan(values[rows]).all() for values in targets.values())

    @torch.no_grad()
    def __call__(self) -> tuple[float | None, dict[str, float]]:
        whole = _join(outputs(self.objective.model, self.loader, self.rows))
        target = {
            name: torch.from_numpy(values[self.rows]).float().to(whole.auxiliary.device)
            for name, values in self.targets.items()
        }
        entry = {"validation_loss": float(self.objective.combine(whole, target))}
        errors = []
        for name, task in self.objective.tasks.items():
            metric = primary_metric(task)
            answers = prediction(task, whole.decisions[name].cpu().double().numpy())
            strange = ~np.isfinite(answers).reshape(len(answers), -1).all(1)
            if strange.any():
                record = self.name_rows(torch.from_numpy(self.rows[strange]))
                raise DataError(f"task {name!r}: answers must be finite, but in validation that of {record} is not")
            value = score(task, answers, self.targets[name][self.rows])[metric.name]
            entry[f"validation_{name}_{metric.name}"] = value
            if math.isfinite(value):
                errors.append(self.objective.weights[name] * (value if metric.better == "lower" else -value))
        if self.monitor == "last" or not self.labelled:
            return None, entry  # the loss of records without labels says nothing: no epoch is better for it
        if self.monitor == "score" and errors:
            return float(np.sum(errors)), entry
        return entry["validation_loss"], entry


def _join(parts: list[Output]) -> Output:
    def join(named: Sequence[Mapping[str, dict[str, Tensor]]]) -> dict[str, dict[str, Tensor]]:
        return {
            name: {task: torch.cat([part[name][task] for part in named]) for task in named[0][name]}
            for name in named[0]
        }

    return Output(
        {task: torch.cat([part.decisions[task] for part in parts]) for task in parts[0].decisions},
        join([part.branches for part in parts]),
        {name: torch.cat([part.seen[name] for part in parts]) for name in parts[0].seen},
        torch.stack([part.auxiliary for part in parts]).mean(),
        join([part.alone for part in parts]),
    )
