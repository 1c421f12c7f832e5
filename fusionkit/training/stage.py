"""Pretraining: what encoders learn of a fold's training records before any label is asked for, stage by stage.

The folder ``fold-N/pretrained/`` of a run holds

- ``stage-0/``, ``stage-1/`` ...: ``last.safetensors``, ``best.safetensors`` (the last epoch, too) and ``history.csv`` as every
  training keeps them; a stage that was killed goes on from there;
- ``files/SENSOR/``: what a fitted sensor learned of the training records (a vocabulary);
- ``history.csv``: all stages, a row an epoch: ``stage``, ``epoch``, ``loss``, ``loss_KIND`` of each objective where there are
  several, what objectives say themselves as ``KIND_NAME``, and per sensor ``spread_SENSOR``, ``alignment_SENSOR`` and
  ``uniformity_SENSOR`` (see `fusionkit.pretraining.collapse`);
- ``encoders.safetensors``, written last: it says that the fold is done. Weights of every sensor that a stage trained (or that
  came from another run) under the names of `FusionModel.state_dict`: ``encoders.SENSOR.*``, ``front_ends.SENSOR.*`` where
  the front end trains, ``standardise.SENSOR.*``. Its facts (`load_tensors`): ``sensors``, ``split`` (the digest) and
  ``fold``, which guard what it may start, ``records`` that trained, ``seconds``, ``records_per_second``, ``collapsed``.

`fusionkit.training.start.read_start` reads it. The model that is pretrained has no heads: no task is asked.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.core.levels import Batch, WindowShape
from fusionkit.core.modality import Array, Modality
from fusionkit.core.recording import Stored
from fusionkit.data.loading import Loader
from fusionkit.data.splits import Split
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.collapse import COLLAPSED, alignment, spread, uniformity
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.replay.buffer import ReplayBuffer
from fusionkit.recipe.build import build_model, build_tasks, window_shape
from fusionkit.recipe.sections import ObjectiveEntry, Recipe, StageSection
from fusionkit.training.checkpoint import save_tensors
from fusionkit.training.device import pick_precision
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.files import keep_files
from fusionkit.training.history import write_history
from fusionkit.training.interruption import StopRequest
from fusionkit.training.labels import hide_labels
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.parallel import is_leader, processes, wait
from fusionkit.training.records import name_rows
from fusionkit.training.start import ENCODERS, PRETRAINED, Start, encoder_tensors, read_pretrained
from fusionkit.training.stream import Load, ReplayLoader, StreamPlan

MEASURED = 512
"""Most training records by which collapse is measured."""


class StageObjective(nn.Module):
    """The sum of a stage's objectives, each times its weight; only the chosen sensors' parts of the model train.

    Everything else of the model is in evaluation mode and has no gradients, so that it stays as it is to the bit.

    Args:
        model: the model.
        objectives: by name.
        weights: of each objective.
        sensors: whose encoders train, with front ends that can.
        buffer: keeps records, where they come as a stream.
    """

    weights: Float[Tensor, " objective"]
    sums: Float[Tensor, " objective"]
    steps: Float[Tensor, ""]

    def __init__(
        self,
        model: FusionModel,
        objectives: Mapping[str, PretrainingObjective],
        weights: Sequence[float],
        sensors: Sequence[str],
        buffer: ReplayBuffer | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.buffer = buffer
        self.replay: ReplayLoader | None = None
        self.names = list(objectives)
        self.objectives = nn.ModuleList(objectives.values())
        self.register_buffer("weights", torch.tensor(list(weights)), persistent=False)
        self.parts = [group[name] for group in (model.encoders, model.front_ends) for name in sensors if name in group]
        self.register_buffer("sums", torch.zeros(len(self.names)))  # of this epoch; a checkpoint holds them
        self.register_buffer("steps", torch.zeros(()))
        model.requires_grad_(False)
        for part in self.parts:
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> "StageObjective":
        """Put what trains into training mode, the rest of the model into evaluation mode."""
        super().train(mode)
        self.model.eval()
        for part in self.parts:
            part.train(mode)
        return self

    def bind(self) -> None:
        """Let objectives copy what they need of the model."""
        for objective in self._objectives():
            objective.bind(self.model)

    def forward(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        looks = Looks(self.model, batch, generator)
        losses = torch.stack([objective(looks, generator).float() for objective in self._objectives()])
        if self.replay is not None:
            self.replay.refresh(looks.known)
        self.sums += losses.detach()
        self.steps += 1
        return (losses * self.weights).sum()

    def scales(self) -> dict[int, float]:
        """A factor on the learning rate of some parameters, by their ids."""
        return {which: factor for one in self._objectives() for which, factor in one.scales().items()}

    def stream(self, load: Load, batch: int, sensors: Sequence[str]) -> Load:
        """Draw batches from the buffer, if there is one; else just load them."""
        if self.buffer is not None:
            self.replay = ReplayLoader(load, self.buffer, batch, self.model, sensors)
        return self.replay or load

    def settle(self) -> None:
        """Hear that the optimiser made its step."""
        for objective in self._objectives():
            objective.settle(self.model)

    def close_epoch(self) -> dict[str, float]:
        """Hear that an epoch ended; mean losses where there are several, and what objectives say."""
        means = (self.sums / self.steps.clamp_min(1)).tolist()
        self.sums.zero_()
        self.steps.zero_()
        entry = {f"loss_{name}": mean for name, mean in zip(self.names, means, strict=True)} if len(means) > 1 else {}
        for name, objective in zip(self.names, self._objectives(), strict=True):
            entry |= {f"{name}_{what}": value for what, value in objective.close_epoch().items()}
        return entry

    def _objectives(self) -> Iterable[PretrainingObjective]:
        return cast(Iterable[PretrainingObjective], self.objectives)


class EmbeddingMeasures:
    """Spread, alignment and uniformity of every sensor's embedding, of some training records, once an epoch.

    Args:
        model: in evaluation mode when this is called.
        loader: rows to batches.
        rows: training rows; at most `MEASURED` of them are taken, evenly.
        sensors: whose embeddings.
        seed: of the augmentations whose two looks are aligned, the same in every epoch.
    """

    def __init__(self, model: FusionModel, loader: Loader, rows: Array, sensors: Sequence[str], seed: int) -> None:
        self.model, self.loader, self.sensors, self.seed = model, loader, sensors, seed
        self.rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(MEASURED, len(rows))).round().astype(int))]

    @torch.no_grad()
    def __call__(self) -> tuple[None, dict[str, float]]:
        """As the engine validates: no value is minimised, for the last epoch counts."""
        generator = torch.Generator(self.loader.device).manual_seed(self.seed)
        found: dict[str, list[list[Tensor]]] = {name: [] for name in self.sensors}
        for chunk in torch.split(torch.from_numpy(self.rows), self.loader.chunk):
            looks = Looks(self.model, self.loader.batch(chunk), generator)
            for name in self.sensors:
                seen = [looks.clean, looks.view(0), looks.view(1)]
                found[name].append([*(one.readout(name).float() for one in seen), looks.present(name)])
        entry = {}
        for name, parts in found.items():
            clean, first, second, here = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            entry[f"spread_{name}"] = float(spread(clean, here))
            entry[f"alignment_{name}"] = float(alignment(first, second, here))
            entry[f"uniformity_{name}"] = float(uniformity(clean, here))
        return None, entry


def pretrain_fold(
    recipe: Recipe,
    material: Material,
    split: Split,
    number: int,
    run: Path,
    *,
    start: Start | None = None,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> Start:
    """Pretrain the encoders of a fold, from the last checkpoint if there is one; at once if it is done.

    Only training records are loaded, those of ``data.unlabelled`` that the fold may see among them, and of labels only
    theirs; nothing else of the fold is seen.

    Args:
        recipe: its stages.
        material: the study, its features and statistics.
        split: of the study.
        number: the fold's number, part of every seed.
        run: the run's folder.
        start: encoders that the first stage begins with.
        listener: hears of every epoch.
        stop: a request to save and leave.
    """
    folder, listener = run / f"fold-{number}" / PRETRAINED, listener or Listener()
    if (folder / ENCODERS).exists():
        return read_pretrained(run, number, split.digest)
    began, rows = time.monotonic(), split.folds[number].seen
    seed = derive_seed(recipe.seed, PRETRAINED, number)
    folders = [folder / "files", *([] if start is None else [start.files])]
    modalities = material.fit_modalities(recipe, rows, folders, seed)
    keep_files(modalities, folder)
    torch.manual_seed(derive_seed("weights", seed))
    model = build_model(recipe, modalities, material.stored, {}).to(material.device)
    taken = [] if start is None else start.take(model)
    classes, targets = _labels(recipe, material, number, split.folds[number].train)
    loader = material.loader(recipe, modalities, targets)
    if not (folder / "stage-0" / "last.safetensors").exists():
        chunks = torch.split(torch.from_numpy(rows), loader.chunk)
        model.eval().fit_standardise(lambda: (loader.batch(chunk) for chunk in chunks))
    given = partial(_given, recipe, modalities, material, model, classes)
    for place, stage in enumerate(recipe.pretrain):  # refused before any is trained
        with located(f"pretrain.{place}"):
            _objective(stage, model, given(stage.encoders, 1)).bind()
    loaded, spent = 0, 0.0
    history: list[Mapping[str, float]] = []
    for place, stage in enumerate(recipe.pretrain):
        called = PRETRAINED if len(recipe.pretrain) == 1 else f"{PRETRAINED} {place + 1}/{len(recipe.pretrain)}"
        plan, steps = None, max(1, math.ceil(len(rows) / stage.batch))
        if stage.stream is not None:
            plan = StreamPlan(torch.from_numpy(rows), stage.batch, stage.stream.updates)
            steps = plan.steps
        listener.begin(called, number, len(split.folds), stage.epochs)
        torch.manual_seed(derive_seed("objectives", seed, place))
        with located(f"pretrain.{place}"):
            objective = _objective(stage, model, given(stage.encoders, steps * stage.epochs)).to(material.device)
            objective.bind()
        engine = Engine(
            objective,
            objective.stream(loader.batch, stage.batch, stage.encoders),
            torch.from_numpy(rows),
            _settings(recipe, stage, material.device),
            seed=derive_seed("stage", seed, place),
            device=material.device,
            folder=folder / f"stage-{place}",
            validate=EmbeddingMeasures(model, loader, rows, stage.encoders, seed),
            progress=listener.step,
            on_epoch=listener.epoch,
            stop=stop,
            name_rows=partial(name_rows, material.study.records),
            plan=plan,
        )
        engine.run()
        loaded, spent = loaded + engine.records, spent + engine.seconds
        listener.end(called, number, engine.seconds)
        history += [{"stage": float(place), **entry} for entry in engine.history]
        _say_collapse(listener, called, stage, engine.history)
    sensors = [name for name in recipe.graph.modalities if any(name in s.encoders for s in recipe.pretrain)]
    sensors += [name for name in taken if name not in sensors]
    if loaded:
        listener.say(f"pretrained fold {number + 1}/{len(split.folds)}: {loaded / max(spent, 1e-9):,.0f} records/s")
    if is_leader():
        write_history(folder / "history.csv", history)
        facts = {
            "sensors": sensors,
            "split": split.digest,
            "fold": number,
            "records": len(rows),
            "seconds": time.monotonic() - began,
            "records_per_second": loaded / max(spent, 1e-9),
            "collapsed": _collapsed(history),
        }
        save_tensors(folder / ENCODERS, encoder_tensors(model, sensors), facts)
    wait()
    return read_pretrained(run, number)


def notes_of_looks(recipe: Recipe) -> list[str]:
    """What a report must say of stages that compare two looks at a sensor which nothing makes differ."""
    notes = []
    for place, stage in enumerate(recipe.pretrain):
        same = ", ".join(name for name in stage.encoders if not recipe.changes(name))
        kinds = [entry.kind for entry in stage.objectives if _compares(entry)]
        if same and kinds:
            what = f"{', '.join(dict.fromkeys(kinds))} compares two looks at {same}, but augment names none of these"
            notes.append(f"pretrain.{place}: {what}: they differ by dropout alone, or not at all")
    return notes


def _compares(entry: ObjectiveEntry) -> bool:
    """Whether two looks at a record are all that is alike; with the classes of a task other records are, too."""
    objective: type[PretrainingObjective] = registry.objectives.get(entry.kind)
    return objective.compares_looks and entry.options.get("task") is None


def _settings(recipe: Recipe, stage: StageSection, device: torch.device) -> Settings:
    return Settings(
        epochs=stage.epochs,
        batch=stage.batch,
        lr=stage.lr,
        weight_decay=stage.weight_decay,
        warmup=stage.warmup,
        clip=stage.clip or None,
        checkpoint_seconds=recipe.train.checkpoint_seconds,
        precision=pick_precision(recipe.train.precision, device),
    )


def _objective(stage: StageSection, model: FusionModel, given: Given) -> StageObjective:
    """What a stage minimises; of several objectives of a kind, the later ones are numbered."""
    made: dict[str, PretrainingObjective] = {}
    for place, entry in enumerate(stage.objectives):
        name = f"{entry.kind}_{place}" if entry.kind in made else entry.kind
        with located(f"objectives.{place}"):
            made[name] = registry.objectives.build(entry.kind, entry.options, given)
    buffer = None
    if stage.stream is not None:
        chosen, width = stage.stream, len(stage.encoders) * given.dim
        with located("stream"):
            if processes() > 1:
                raise ConfigError(f"one process must train on a stream, but {processes()} do")
            buffer = registry.buffers.build(chosen.kind, chosen.options, chosen.size, width)
    return StageObjective(model, made, [entry.weight for entry in stage.objectives], stage.encoders, buffer)


def _given(
    recipe: Recipe,
    modalities: Mapping[str, Modality],
    material: Material,
    model: FusionModel,
    classes: Mapping[str, int],
    sensors: Sequence[str],
    steps: int,
) -> Given:
    """What objectives are told; of all sensors that have encoders, for some learn from others."""
    known = [name for name in recipe.graph.modalities if name in model.encoders]
    front_ends = {name: model.front_end(name) for name in known if name in model.front_ends}
    return Given(
        sensors=tuple(sensors),
        dim=recipe.graph.dim,
        features={name: front_end.shape for name, front_end in front_ends.items()},
        levels={name: cast(Encoder, model.encoders[name]).level for name in known},
        windows={name: _window(modalities[name], material.stored[name]) for name in known},
        vocabularies={name: part.vocabulary for name, part in front_ends.items() if part.vocabulary},
        classes=classes,
        steps=steps,
    )


def _window(modality: Modality, stored: Stored) -> WindowShape | None:
    try:
        return window_shape(modality, stored)
    except DataError:  # it has no fixed axes
        return None


def _labels(recipe: Recipe, material: Material, number: int, train: Array) -> tuple[dict[str, int], dict[str, Array]]:
    """How many classes each task has, and the labels that training records keep; tasks without any label have none."""
    records, tasks = material.study.records, build_tasks(recipe)
    tasks = {name: task for name, task in tasks.items() if any(records.known(recipe.tasks[name].column))}
    targets = {}
    for name, task in tasks.items():
        labels = records.known(recipe.tasks[name].column)
        task.learn(labels, name)
        targets[name] = task.encode(labels, name)
    if targets:
        targets = hide_labels(recipe, records, tasks, targets, train, number)
    others = np.setdiff1d(np.arange(len(records)), train)
    for values in targets.values():
        values[others] = np.nan
    return {name: len(task.classes) for name, task in tasks.items() if task.classes}, targets


def _collapsed(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Sensors whose embeddings are collapsed after the last epoch that trained them."""
    last: dict[str, float] = {}
    for entry in history:
        last |= {name: value for name, value in entry.items() if name.startswith("spread_")}
    return [name.removeprefix("spread_") for name, value in last.items() if value < COLLAPSED]


def _say_collapse(listener: Listener, called: str, stage: StageSection, history: Sequence[Mapping[str, float]]) -> None:
    for name in _collapsed(history):
        listener.say(
            f"warning: {called}: embeddings of {name} are collapsed: their spread is {history[-1][f'spread_{name}']:.3g} of 1, "
            f"uniformity {history[-1][f'uniformity_{name}']:.3g}"
        )
