"""Train one arm on one fold and keep what it answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionkit.core.errors import DataError, located
from fusionkit.core.modality import Array, Modality
from fusionkit.data.generated import Generated
from fusionkit.data.split_options import CALIBRATION
from fusionkit.data.splits import Fold
from fusionkit.evaluation.predict import predict
from fusionkit.training.arm import Arm
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.engine import Drive, Engine
from fusionkit.training.files import keep_files
from fusionkit.training.fitting import Job, train_model
from fusionkit.training.interruption import StopRequest
from fusionkit.training.labels import hide_labels
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.out_of_fold import fit_out_of_fold
from fusionkit.training.parallel import is_leader
from fusionkit.training.records import learn_tasks
from fusionkit.training.start import Start

PREDICTIONS = "predictions.safetensors"


@dataclass
class FoldResult:
    """What one arm answered on one fold.

    ``decisions[part][condition][task]``: part is ``validation`` or ``test``, or ``calibration`` where the split puts
    some aside; condition is ``all`` or the name of the sensor that was unplugged; rows follow ``rows[part]``. ``states`` are the tasks' own, see `Task.state`.
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
    start: Start | None = None,
    generated: Sequence[Generated] = (),
    listener: Listener | None = None,
    stop: StopRequest | None = None,
    drive: Drive = Engine.run,
) -> FoldResult:
    """Train an arm on a fold, from its last checkpoint if ``folder`` has one; at once if it is finished.

    Args:
        arm: what to train.
        material: the study, its features and statistics.
        fold: which records train, validate and test.
        number: the fold's number, part of every seed.
        folder: where checkpoints, fitted files and predictions go.
        start: encoders that were trained before.
        generated: records of any sensors, made of the fold's training records; the arm learns from those of its own sensors.
        listener: hears of every epoch.
        stop: a request to save and leave.
        drive: see `Drive`.
    """
    if (folder / PREDICTIONS).exists():
        return load_result(folder)
    began = time.monotonic()
    recipe = arm.recipe
    records = material.study.records
    tasks, targets = learn_tasks(recipe, records)
    with located(f"fold {number}"):
        targets = hide_labels(recipe, records, tasks, targets, fold.train, number)
    seed = derive_seed(recipe.seed, arm.name, number)
    for name, task in tasks.items():
        with located(f"fold {number}"):
            task.fit(targets[name][fold.train], name)
    held_out = fold.validation[~material.excluded[fold.validation]]
    beside = fold.unlabelled if recipe.train.consistency else fold.unlabelled[:0]  # which alone learns from them
    own = [made for made in generated if made.sensor in recipe.modalities]
    job = Job(recipe, material, {}, tasks, targets, fold.train, held_out, folder, seed, start, beside, own)
    job = replace(job, modalities=_fit_modalities(job))
    listener = listener or Listener()
    model, loader, best_epoch = train_model(
        job,
        listener=listener,
        stop=stop,
        prepare=lambda made: fit_out_of_fold(made, job, _fit_modalities, listener=listener, stop=stop),
        drive=drive,
    )
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
        best_epoch=best_epoch,
        states={name: task.state() for name, task in tasks.items()},
    )
    aside = fold.calibration[~material.excluded[fold.calibration]]
    if len(aside):
        result.rows[CALIBRATION] = aside
        result.decisions[CALIBRATION] = {"all": predict(model, loader, aside)}
    if len(recipe.modalities) > 1:
        for sensor in recipe.modalities:
            result.decisions["test"][sensor] = predict(model, loader, test, absent=[sensor])
    if is_leader():
        save_result(folder, result)
    return result


def _fit_modalities(job: Job) -> dict[str, Modality]:
    """Sensors fitted to a job's training records, or restored; what they learned lies in its folder."""
    folders = [job.folder / "files", *([] if job.start is None else [job.start.files])]
    modalities = job.material.fit_modalities(job.recipe, job.seen, folders, job.seed)
    keep_files(modalities, job.folder)
    return modalities


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
