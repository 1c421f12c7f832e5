"""The training loop: thin, exactly resumable, the same for every objective."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Batch
from fusionkit.core.processes import summed
from fusionkit.training import checkpoint
from fusionkit.training.history import TensorBoard, write_history
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.order import derive_seed
from fusionkit.training.plan import JointPlan, Plan, Step
from fusionkit.training.schedule import learning_rate_factor
from fusionkit.training.update import JointUpdate, Update

Progress = Callable[[int, int, int, float], None]
"""Called a few times a second with epoch, step, steps in the epoch, and records per second."""


@dataclass(frozen=True)
class Settings:
    """How to train, in plain values; see the recipe's ``train`` section for their meaning."""

    epochs: int = 40
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float | None = 1.0
    patience: int = 0
    checkpoint_seconds: float = 30.0
    precision: torch.dtype | None = None


Drive = Callable[["Engine"], None]
"""Brings an engine to its end: `Engine.run`, or what trains several at once."""


class Engine:
    """Minimise an objective over rows of a data set.

    An epoch's order and random numbers derive from seed and epoch, and a checkpoint holds the rest, so that a run
    that was killed goes on to the same weights, bit for bit on a CPU.

    Args:
        objective: a module that holds all that trains; ``objective(batch, generator)`` is the loss.
        load: rows to a batch on the device.
        rows: the training rows.
        settings: how to train.
        seed: of order, dropout and augmentation.
        device: where ``load`` puts batches and the objective lives.
        folder: for checkpoints and history; None keeps nothing.
        validate: called after each epoch; its first value is minimised by early stopping (None takes every epoch for
            better), the rest is logged.
        progress: see `Progress`.
        on_epoch: called with what the history says of each epoch.
        stop: a request to save and leave.
        name_rows: names of rows, for messages.
        plan: the steps of every epoch, as many as its ``steps`` says where it has such; by default all rows once, in an
            order that the seed gives.
        update: makes one step of training; by default one of the whole loss.
        before_epoch: called with the number of every epoch that begins; a resumed one was heard of already.

    An objective that has ``begin_epoch`` hears of every epoch's beginning (of a resumed one again), one that has
    ``settle`` of every step's end, one that has ``close_epoch`` of every epoch's; what the latter gives is logged.

    Raises:
        ConfigError: several processes train, but the update is for one.
    """

    def __init__(
        self,
        objective: nn.Module,
        load: Callable[[Int[Tensor, " batch"]], Batch],
        rows: Int[Tensor, " record"],
        settings: Settings,
        *,
        seed: int,
        device: torch.device,
        folder: Path | None = None,
        validate: Callable[[], tuple[float | None, dict[str, float]]] | None = None,
        progress: Progress | None = None,
        on_epoch: Callable[[Mapping[str, float]], None] | None = None,
        stop: StopRequest | None = None,
        name_rows: Callable[[Tensor], str] = lambda rows: str(rows.tolist()),
        plan: Plan | None = None,
        update: Callable[..., Update] = JointUpdate,
        before_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self.objective, self.load, self.rows, self.settings = objective, load, rows, settings
        self.seed, self.device, self.folder, self.validate = seed, device, folder, validate
        self.progress, self.on_epoch, self.stop, self.name_rows = progress, on_epoch, stop, name_rows
        self.rank, self.world = 0, 1
        call: nn.Module = objective
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
            if trained:
                call = nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)
        self.update = update(
            objective,
            call,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
            precision=settings.precision,
            device=device,
        )
        compares = getattr(getattr(objective, "balance", None), "compares_norms", False)
        if self.world > 1 and (compares or not self.update.parallel):
            raise ConfigError(
                f"train: gradients of single tasks are made by one process, but {self.world} train; give "
                f"surgery.kind=none, task_mode=joint and a balance without norms of gradients"
            )
        self.generator = torch.Generator(device)
        self.steps: int = getattr(plan, "steps", max(1, math.ceil(len(rows) / settings.batch)))
        self.history: list[dict[str, float]] = []
        self.best, self.best_epoch, self.finished = math.inf, -1, False
        self.epoch, self._step = 0, 0
        self._losses: list[Tensor] = []  # of this epoch's steps, on the device
        self._checked = 0
        self.plan: Plan = plan or JointPlan(rows, self.steps, seed)
        self._plan: list[Step] = []
        self._settle: Callable[[], None] | None = getattr(objective, "settle", None)
        self.before_epoch = before_epoch
        self.records, self.seconds = 0, 0.0  # of this process
        self._board: TensorBoard | None = None
        self._unsaved: dict[str, Tensor] | None = None  # weights of the best epoch that are not on disk yet

    def run(self) -> None:
        """Train to the end, from the last checkpoint in the folder if there is one.

        Raises:
            DataError: a loss is not finite; the message names epoch, step and records.
            Interrupted: a stop was asked for; the run is saved.
        """
        try:
            middle = self.take_up()
            while not self.over:
                if not middle:
                    self.open_epoch()
                middle = False
                self._train_epoch()
                self.close_epoch()
            self.finish()
        finally:
            self.close()

    @property
    def over(self) -> bool:
        """Whether no epoch is left."""
        return self.finished or self.epoch >= self.settings.epochs

    def take_up(self) -> bool:
        """Begin, from the last checkpoint in the folder if there is one; True in the middle of an epoch."""
        middle = self._resume()
        if self.folder is not None and self.rank == 0:
            self._board = TensorBoard(self.folder / "tensorboard", self.epoch)
        return middle

    def open_epoch(self) -> None:
        """Begin an epoch with the random numbers that are its own."""
        if self.before_epoch is not None:
            self.before_epoch(self.epoch)
        seed = derive_seed("epoch", self.seed, self.epoch, self.rank)
        torch.manual_seed(seed)
        self.generator.manual_seed(seed)
        self._losses, self._checked = [], 0

    def plan_epoch(self) -> list[Step]:
        """The steps of the epoch, of which the objective hears."""
        self.objective.train()
        begin = getattr(self.objective, "begin_epoch", None)
        if begin is not None:
            begin(self.epoch)
        self._plan = self.plan(self.epoch)
        return self._plan

    def trained(self, losses: Sequence[Float[Tensor, ""]], seconds: float) -> None:
        """Take the losses of a whole epoch whose steps were made elsewhere.

        Raises:
            DataError: one is not finite.
        """
        self._losses, self._step = list(losses), self.steps
        self._check_finite()
        self.records += sum(len(step.rows) for step in self._plan)
        self.seconds += seconds

    def finish(self) -> None:
        """Keep that no epoch is left."""
        self.finished = True
        self.save()
        if self.world > 1:
            distributed.barrier()  # the best weights are on disk before anybody reads them

    def close(self) -> None:
        """Let go of the log, however training ended."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _train_epoch(self) -> None:
        self.plan_epoch()
        moved = torch.cat([step.rows for step in self._plan]).to(self.device)  # one copy an epoch
        chunks = torch.split(moved, [len(step.rows) for step in self._plan])
        if self.world > 1:
            chunks = tuple(chunk[self.rank :: self.world] for chunk in chunks)
        total = self.steps * self.settings.epochs
        first, began = self._step, time.monotonic()
        saved, looked, stride = began, began, 1
        look = first + 1
        for step in range(first, self.steps):
            factor = learning_rate_factor(self.epoch * self.steps + step, total, self.settings.warmup)
            self._losses.append(self._train_step(chunks[step], self._plan[step].hidden, factor * self.settings.lr))
            self._step = step + 1
            if self.stop and self.world == 1:
                self._leave()
            if step + 1 >= look:
                now = time.monotonic()
                stride = max(1, min(2 * stride, round(0.25 * stride / max(now - looked, 1e-6))))
                look, looked = step + 1 + stride, now
                self._check_finite()
                if self.progress is not None:
                    done = sum(len(chunk) for chunk in chunks[first : step + 1]) * self.world
                    self.progress(self.epoch, step + 1, self.steps, done / max(now - began, 1e-9))
                if now - saved > self.settings.checkpoint_seconds and self.world == 1:
                    self.save()
                    saved = now
        self._check_finite()
        self.records += sum(len(chunk) for chunk in chunks[first:]) * self.world
        self.seconds += time.monotonic() - began

    def _train_step(self, rows: Int[Tensor, " batch"], hidden: tuple[str, ...], lr: float) -> Float[Tensor, ""]:
        """One step."""
        batch = self.load(rows)
        if hidden:
            targets = {name: target for name, target in batch.targets.items() if name not in hidden}
            batch = Batch(batch.inputs, targets, batch.index)
        loss = self.update(batch, self.generator, lr)
        if self._settle is not None:
            self._settle()
        return loss

    def close_epoch(self, *, save: bool = True) -> None:
        """Judge the epoch and go on to the next; ``save`` False leaves what is to be kept to the next `save`."""
        loss = summed(torch.stack(self._losses).mean()) / self.world  # a process's own is of its share of each batch
        entry: dict[str, float] = {"epoch": float(self.epoch), "loss": float(loss)}
        close = getattr(self.objective, "close_epoch", None)
        if close is not None:
            entry.update(close())
        better = True
        if self.validate is not None:
            self.objective.eval()
            with torch.no_grad():
                value, more = self.validate()
            if self.world > 1:  # processes must stop together, and rounding may differ between them
                said = [value]
                distributed.broadcast_object_list(said, device=self.device)
                value = said[0]
            entry.update(more)
            better = value is None or value < self.best
            if better and value is not None:
                self.best = value
        if better:
            self.best_epoch = self.epoch
            if self.folder is not None and self.rank == 0:
                best = checkpoint.model_tensors(self.objective)
                self._unsaved = None if save else {name: value.clone() for name, value in best.items()}
                if save:
                    self._save_best(best)
        self.history.append(entry)
        if self._board is not None:
            self._board.add(entry, self.epoch)
        if self.on_epoch is not None:
            self.on_epoch(entry)
        patience = self.settings.patience
        self.finished = bool(patience and self.epoch - self.best_epoch >= patience)
        self.epoch, self._step = self.epoch + 1, 0
        if save:
            self.save()
        if self.stop and not self.finished and self.epoch < self.settings.epochs:
            self._leave()

    def _check_finite(self) -> None:
        if self._checked == len(self._losses):
            return
        losses = torch.stack(self._losses[self._checked :])
        finite = torch.isfinite(losses)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            value, step = float(losses[first]), self._checked + first
            chunk = self._plan[step].rows
            raise DataError(
                f"the loss must be finite, but is {value} in epoch {self.epoch}, step {step}, "
                f"records {self.name_rows(chunk)}"
            )
        self._checked = len(self._losses)

    def save(self) -> None:
        """Write the last checkpoint (and the history as CSV), if there is a folder."""
        if self.folder is None or self.rank != 0:
            return
        if self._unsaved is not None:
            self._save_best(self._unsaved)
            self._unsaved = None
        tensors = {
            **checkpoint.model_tensors(self.objective),
            **self.update.tensors(),
            **checkpoint.random_tensors(self.generator),
            "losses": torch.stack(self._losses) if self._step else torch.zeros(0),
        }
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self._step,
            "best": self.best if math.isfinite(self.best) else None,
            "best_epoch": self.best_epoch,
            "finished": self.finished,
            "history": self.history,
        }
        checkpoint.save_tensors(self.folder / "last.safetensors", tensors, facts)
        if self.history:
            write_history(self.folder / "history.csv", self.history)

    def _save_best(self, tensors: dict[str, Tensor]) -> None:
        assert self.folder is not None
        checkpoint.save_tensors(self.folder / "best.safetensors", tensors, {"epoch": self.best_epoch})

    def load_best(self) -> None:
        """Put the weights of the best epoch into the objective."""
        if self.folder is not None:
            tensors, _ = checkpoint.load_tensors(self.folder / "best.safetensors")
            checkpoint.restore_model(self.objective, tensors)

    def _resume(self) -> bool:
        """Take up the last checkpoint; True when it lies in the middle of an epoch."""
        if self.folder is None or not (self.folder / "last.safetensors").exists():
            return False
        tensors, facts = checkpoint.load_tensors(self.folder / "last.safetensors")
        checkpoint.restore_model(self.objective, tensors)
        self.update.restore(tensors)
        self._losses = list(tensors["losses"].to(self.device))
        self._checked = len(self._losses)
        self.epoch, self._step = facts["epoch"], facts["step"]
        self.best = math.inf if facts["best"] is None else facts["best"]
        self.best_epoch, self.finished, self.history = facts["best_epoch"], facts["finished"], facts["history"]
        if self._step:
            checkpoint.restore_random(self.generator, tensors)
        return self._step > 0

    def _leave(self) -> None:
        self.save()
        assert self.stop is not None
        raise Interrupted(self.stop.signal)
