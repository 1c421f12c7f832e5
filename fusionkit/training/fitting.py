"""Train one model on some records, as a recipe says."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fusionkit.core import registry
from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array, Modality
from fusionkit.data.generated import Generated
from fusionkit.data.loading import Loader
from fusionkit.data.unlabelled import apart_from
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.adversary import SUBJECT, SubjectAdversary
from fusionkit.heads.task import Task
from fusionkit.pretraining.consistency.consistency import Consistency
from fusionkit.recipe.build import build_model
from fusionkit.recipe.sections import AdversarySection, Choice, Recipe
from fusionkit.training.blending import Blending
from fusionkit.training.device import pick_precision
from fusionkit.training.engine import Drive, Engine, Settings
from fusionkit.training.interruption import StopRequest
from fusionkit.training.labels import labelled_rows
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.objective import TaskObjective
from fusionkit.training.order import derive_seed, inner_parts
from fusionkit.training.plan import Plan, RandomTaskPlan, SemiSupervisedPlan
from fusionkit.training.records import name_rows
from fusionkit.training.start import Start, hold_back
from fusionkit.training.update import JointUpdate, PerTaskUpdate, SurgeryUpdate, Update
from fusionkit.training.validation import Validation


@dataclass(frozen=True)
class Job:
    """What to train on.

    Attributes:
        recipe: of the arm.
        material: the study, its features and statistics.
        modalities: the sensors, fitted to the training records.
        tasks: fitted likewise.
        targets: of every record, by task.
        train: rows that train.
        validation: rows that choose the epoch; none takes the last.
        folder: where checkpoints go.
        seed: of weights and order.
        start: encoders that were trained before; None where all begin with random weights.
        unlabelled: rows of ``data.unlabelled`` that train beside; no step is made for them alone.
        generated: records that a generator made of the training records. Steps of training see them; nothing that is fitted,
            validated or tested does.
    """

    recipe: Recipe
    material: Material
    modalities: dict[str, Modality]
    tasks: dict[str, Task]
    targets: dict[str, Array]
    train: Array
    validation: Array
    folder: Path
    seed: int
    start: Start | None = None
    unlabelled: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    generated: Sequence[Generated] = ()

    @property
    def seen(self) -> Array:
        """All rows that what is fitted without labels may look at."""
        return np.concatenate([self.train, self.unlabelled])

    def without(self, part: Array) -> "Job":
        """The same job, from which some of its training rows are held out, with all unlabelled ones that belong to them."""
        train, records = np.setdiff1d(self.train, part), self.material.study.records
        beside = apart_from(self.unlabelled, self.recipe.data.split, records, train, part)
        return replace(self, train=train, unlabelled=beside)

    @property
    def generated_rows(self) -> dict[str, Array]:
        """Rows of generated records, behind those of the study, by the task that they have a label of."""
        first = len(self.material.study.records)
        found: dict[str, Array] = {}
        for made in self.generated:
            rows = np.arange(first, first + len(made), dtype=np.int64)
            for task in made.targets:
                found[task] = np.concatenate([found.get(task, rows[:0]), rows])
            first += len(made)
        return found


def train_model(
    job: Job,
    *,
    listener: Listener,
    stop: StopRequest | None = None,
    prepare: Callable[[FusionModel], None] = lambda model: None,
    drive: Drive = Engine.run,
) -> tuple[FusionModel, Loader, int]:
    """Train a model, from its last checkpoint if there is one; at its best epoch, with a loader of real records and that
    epoch's number.

    Args:
        job: what to train on.
        listener: hears of every epoch.
        stop: a request to save and leave.
        prepare: called with the model before a training begins, after what is fitted is fitted.
        drive: see `Drive`.
    """
    recipe, material, settings = job.recipe, job.material, job.recipe.train
    torch.manual_seed(derive_seed("weights", job.seed))
    model = build_model(recipe, job.modalities, material.stored, job.tasks).to(material.device)
    held = None if job.start is None else hold_back(model, job.start.take(model), recipe.init)
    if job.start is not None:
        job.start.take_heads(model, recipe.init.heads)
    part = _blending_part(job, model)
    if model.blended is not None and model.blended[1].online:
        job = job.without(part)
    targets, steps = dict(job.targets), _steps(job)
    adversary = None
    if recipe.heads.adversary is not None:
        targets[SUBJECT], adversary = _adversary(job, model, steps, recipe.heads.adversary)
    whole = material.loader(recipe, job.modalities, targets, job.generated)
    loader = whole.real
    if not (job.folder / "last.safetensors").exists():
        chunks = torch.split(torch.from_numpy(job.seen), loader.chunk)
        generator = torch.Generator().manual_seed(derive_seed("fit", job.seed))
        model.fit(lambda: (loader.batch(chunk) for chunk in chunks), generator)
        prepare(model)
    balance = settings.balance or Choice(kind="fixed")
    outcomes = [task.outcome for task in job.tasks.values()]
    objective = TaskObjective(
        model,
        job.tasks,
        {name: entry.weight for name, entry in recipe.tasks.items()},
        mixup=settings.mixup,
        balance=registry.balancing.build(balance.kind, balance.options, outcomes),
        adversary=adversary,
        consistency=_consistency(job, model, steps),
        held=held,
    ).to(material.device)
    made = [name for one in job.generated for name in one.ids]
    named = partial(name_rows, material.study.records, generated=made)
    validate = None
    if len(job.validation):
        validate = Validation(objective, loader, job.validation, targets, settings.monitor, named)
    training = Settings(
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        clip=settings.clip or None,
        patience=settings.patience,
        checkpoint_seconds=settings.checkpoint_seconds,
        precision=pick_precision(settings.precision, material.device),
    )
    blending = None
    if len(part):
        blending = Blending(
            objective,
            loader,
            targets,
            np.setdiff1d(job.train, part),
            part,
            training,
            seed=job.seed,
            device=material.device,
            update=_update(recipe),
            stop=stop,
            say=listener.say,
        )
    engine = Engine(
        objective,
        whole.batch,
        torch.from_numpy(np.concatenate([job.train, *job.generated_rows.values()])),
        training,
        seed=job.seed,
        device=material.device,
        folder=job.folder,
        validate=validate,
        progress=listener.step,
        on_epoch=listener.epoch,
        stop=stop,
        name_rows=named,
        plan=_plan(job, steps),
        update=_update(recipe),
        before_epoch=blending,
    )
    drive(engine)
    engine.load_best()
    return model, loader, engine.best_epoch


def _steps(job: Job) -> int:
    """Steps of an epoch: all training records once, generated ones too.

    Where steps are made of labelled records beside others, these give the number as they do without generated ones, unless
    labelled and generated ones need more.
    """
    rows, made = len(job.train), sum(map(len, job.generated))
    if made and _semi_supervised(job):
        known = labelled_rows({name: job.targets[name] for name in job.tasks}, job.train)
        rows = max(rows, int(known.sum()) + made)
    else:
        rows += made
    return max(1, math.ceil(rows / job.recipe.train.batch))


def _semi_supervised(job: Job) -> bool:
    settings = job.recipe.train
    return settings.task_mode != "random" and (bool(settings.consistency) or job.recipe.data.labels is not None)


def _blending_part(job: Job, model: FusionModel) -> Array:
    """Training rows on which gradient blending measures what a loss gains: a part of whole groups; none without it."""
    if model.blended is None:
        return job.train[:0]
    groups = job.material.study.records.group(job.recipe.data.split.by)
    return inner_parts(job.train, groups, model.blended[1].parts, derive_seed("blend", job.seed))[0]


def _adversary(job: Job, model: FusionModel, steps: int, section: AdversarySection) -> tuple[Array, SubjectAdversary]:
    """The target that names training subjects, NaN for all other records, and the head that guesses it."""
    subject = np.asarray(job.material.study.records.subject)
    names = sorted(set(subject[job.train].tolist()))
    if len(names) < 2:
        raise DataError(f"heads.adversary: training must have two subjects or more, but has {names}")
    target = np.full(len(subject), np.nan, dtype=np.float32)
    target[job.train] = np.searchsorted(names, subject[job.train])
    readouts = [*model.branch_heads, *model.heads]
    steps *= job.recipe.train.epochs
    made = SubjectAdversary(
        readouts, job.recipe.graph.dim, names, steps=steps, weight=section.weight, pace=section.pace
    )
    return target, made


def _consistency(job: Job, model: FusionModel, steps: int) -> list[Consistency]:
    """What is learned from records without labels; teachers copy the model as it is now."""
    tasks = {
        name: entry.weight for name, entry in job.recipe.tasks.items() if job.tasks[name].outcome == "probabilities"
    }
    made: list[Consistency] = []
    for entry in job.recipe.train.consistency:
        steps_in_all = steps * job.recipe.train.epochs
        method = registry.consistency.build(entry.kind, entry.options, tasks, steps_in_all).to(job.material.device)
        method.bind(model)
        made.append(method)
    return made


def _plan(job: Job, steps: int) -> Plan | None:
    """One random task a step, or labelled records beside others, where the recipe wants that."""
    settings = job.recipe.train
    if _semi_supervised(job):
        known = labelled_rows({name: job.targets[name] for name in job.tasks}, job.train)
        marked = torch.from_numpy(np.concatenate([job.train[known], *job.generated_rows.values()]))
        other = torch.from_numpy(np.concatenate([job.train[~known], job.unlabelled]))
        ratio = max((entry.options["ratio"] for entry in settings.consistency), default=0)
        return SemiSupervisedPlan(marked, other, settings.batch, ratio, steps, job.seed)
    if settings.task_mode != "random":
        return None
    labelled = {}
    for name in job.tasks:
        missing = np.isnan(job.targets[name][job.train]).reshape(len(job.train), -1).any(1)
        made = job.generated_rows.get(name, job.train[:0])
        labelled[name] = torch.from_numpy(np.concatenate([job.train[~missing], made]))
    return RandomTaskPlan(labelled, job.recipe.train.batch, steps, job.seed, job.recipe.train.task_power)


def _update(recipe: Recipe) -> Callable[..., Update]:
    """What makes a step."""
    chosen = recipe.train.surgery
    if recipe.train.task_mode == "per_task_step":
        return partial(PerTaskUpdate, tasks=list(recipe.tasks))
    if chosen is not None and chosen.kind != "none":
        return partial(SurgeryUpdate, surgery=registry.surgery.build(chosen.kind, chosen.options))
    return JointUpdate
