"""Train a generative augmenter: its players in turn, all on the device, exactly resumable."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.augment.generative.generator import GenerativeAugmenter, Turn
from fusionkit.core.errors import DataError
from fusionkit.training import checkpoint
from fusionkit.training.engine import Progress
from fusionkit.training.history import write_history
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.order import derive_seed, epoch_order

LAST = "last.safetensors"
PROBE = 128
"""Records of a class that are made after every epoch to be looked at, at most as many as it has training records."""
COLLAPSED = 0.1
"""A class whose made records spread less than this share of its training records has collapsed."""
DIVERGED = 10.0
"""Made records that lie so many deviations from the mean, in the root mean square, have diverged; real ones lie at 1."""


class GeneratorTraining:
    """Make the steps that an augmenter's turns ask for.

    In an epoch every player sees every record as often as it has updates a step, each time in an order of its own. Orders
    and random numbers derive from seed and epoch, and a checkpoint holds the rest, so that a training that was killed goes
    on to the same weights, bit for bit on a CPU. Losses stay on the device and are looked at a few times a second.

    After each epoch some records are made, from the same noise, and measured in standardised numbers: ``spread``, the
    deviation within a class over that of its training records, of the class where it is least; and ``reach``, the root mean
    square. A spread that falls under `COLLAPSED` is said to be a collapse, a reach that rises over `DIVERGED` a divergence;
    so is what is so at the end. (A generator that makes one of a class's two modes and makes it well is not found out.)

    Args:
        generator: prepared, on the device.
        values: training records as they are.
        label: their classes.
        epochs: how many.
        batch: records of an update.
        seed: of orders and random numbers.
        folder: for ``last.safetensors`` and ``history.csv``; None keeps nothing.
        facts: what a checkpoint must say of its training to be taken up.
        checkpoint_seconds: between two checkpoints.
        classes: names of the classes, for messages.
        progress: see `Progress`.
        on_epoch: called with what the history says of each epoch, and the last player's ``loss``.
        say: hears of collapse and divergence.
        stop: a request to save and leave.

    Attributes:
        history: a row an epoch: ``loss_PLAYER`` and ``PLAYER_NAME`` of what it logs, means over the epoch's updates.
        collapsed: names of classes that have collapsed at the end.
        diverged: whether the records have diverged at the end.
        seconds: of training, over all processes that took part.
    """

    def __init__(
        self,
        generator: GenerativeAugmenter,
        values: Float[Tensor, "record *item"],
        label: Int[Tensor, " record"],
        *,
        epochs: int,
        batch: int,
        seed: int,
        folder: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        checkpoint_seconds: float = 30.0,
        classes: tuple[str, ...] = (),
        progress: Progress | None = None,
        on_epoch: Callable[[Mapping[str, float]], None] | None = None,
        say: Callable[[str], None] = lambda line: None,
        stop: StopRequest | None = None,
    ) -> None:
        self.generator, self.label, self.epochs, self.seed = generator, label, epochs, seed
        self.values = generator.standardise(values)
        self.folder, self.facts, self.checkpoint_seconds = folder, dict(facts or {}), checkpoint_seconds
        self.classes = classes or tuple(map(str, range(generator.item.classes)))
        self.progress, self.on_epoch, self.say, self.stop = progress, on_epoch, say, stop
        self.steps = max(1, -(-len(values) // batch))
        self.turns = [(turn, list(turn.parameters)) for turn in generator.turns()]
        self.optimisers = [turn.optimiser(parameters) for turn, parameters in self.turns]
        self.random = torch.Generator(values.device)
        self.history: list[dict[str, float]] = []
        self.collapsed: list[str] = []
        self.diverged, self.seconds = False, 0.0
        self._epoch, self._step = 0, 0
        self._fresh: dict[str, list[Tensor]] = {}  # of updates since the last look, on the device
        self._seen: dict[str, Tensor] = {}  # of this epoch's updates before
        self._times: dict[str, int] = {}  # updates a step, by what is logged
        self._probe = self._choose_probe()

    def run(self) -> GenerativeAugmenter:
        """Train to the end, from the last checkpoint in the folder if there is one; the generator, in evaluation mode.

        Raises:
            DataError: a loss is not finite; the message names player, epoch and step. Or the checkpoint is of another
                training.
            Interrupted: a stop was asked for; the training is saved.
        """
        middle, self._saved = self._resume(), time.monotonic()
        while self._epoch < self.epochs and self.turns:
            if not middle:
                seed = derive_seed("epoch", self.seed, self._epoch)
                torch.manual_seed(seed)
                self.random.manual_seed(seed)
                self._seen = {}
            middle = False
            self._train_epoch()
            self._close_epoch()
        return self.generator.eval()

    def _train_epoch(self) -> None:
        self.generator.train()
        orders = self._orders()
        first, began = self._step, time.monotonic()
        looked, stride, look = began, 1, first + 1
        updates = sum(turn.times for turn, _ in self.turns)
        for step in range(first, self.steps):
            for order, (turn, parameters), optimiser in zip(orders, self.turns, self.optimisers, strict=True):
                for rows in order[step]:
                    self._update(turn, parameters, optimiser, rows)
            self.generator.settle()
            self._step = step + 1
            if self.stop:
                self.seconds += time.monotonic() - began
                self._leave()
            if self._step >= look:
                now = time.monotonic()
                stride = max(1, min(2 * stride, round(0.25 * stride / max(now - looked, 1e-6))))
                look, looked = self._step + stride, now
                self._look()
                if self.progress is not None:
                    done = (self._step - first) * len(self.label) * updates / self.steps
                    self.progress(self._epoch, self._step, self.steps, done / max(now - began, 1e-9))
                if now - self._saved > self.checkpoint_seconds and self._step < self.steps:
                    self.save()
        self._look()
        self.seconds += time.monotonic() - began

    def _update(
        self,
        turn: Turn,
        parameters: list[torch.nn.Parameter],
        optimiser: torch.optim.Optimizer,
        rows: Int[Tensor, " batch"],
    ) -> None:
        """One update of one player."""
        loss, logged = turn.loss(self.values.index_select(0, rows), self.label.index_select(0, rows), self.random)
        loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        said = {f"loss_{turn.name}": loss.detach(), **{f"{turn.name}_{name}": value for name, value in logged.items()}}
        for name, value in said.items():
            self._fresh.setdefault(name, []).append(value)
            self._times[name] = turn.times

    def _orders(self) -> list[list[list[Int[Tensor, " batch"]]]]:
        """Rows by turn, step and update, on the device by one copy an epoch."""
        rows = torch.arange(len(self.label))
        numbers = [(place, again) for place, (turn, _) in enumerate(self.turns) for again in range(turn.times)]
        made = [epoch_order(rows, derive_seed("order", self.seed, *number), self._epoch) for number in numbers]
        moved = torch.stack(made).to(self.label.device)
        cut = [order.tensor_split(self.steps) for order in moved]
        return [
            [[cut[n][step] for n, number in enumerate(numbers) if number[0] == place] for step in range(self.steps)]
            for place in range(len(self.turns))
        ]

    def _look(self) -> None:
        """Take what was logged since the last look off the device, and see that it is finite."""
        wrong: list[tuple[int, str, float]] = []
        for name, values in self._fresh.items():
            before, fresh = self._seen.get(name, torch.zeros(0)), torch.stack(values).float().cpu()
            strange = (~torch.isfinite(fresh)).nonzero()
            if len(strange):
                at = int(strange[0])
                wrong.append(((len(before) + at) // self._times[name], name, float(fresh[at])))
            self._seen[name] = torch.cat([before, fresh])
        self._fresh = {}
        if wrong:
            step, name, value = min(wrong)
            raise DataError(
                f"what the players of {self.generator.kind} minimise must be finite, but {name} is {value} in epoch "
                f"{self._epoch}, step {step}"
            )

    def _close_epoch(self) -> None:
        entry = {
            "epoch": float(self._epoch),
            **{name: float(seen.double().mean()) for name, seen in self._seen.items()},
        }
        entry |= self._measure()
        self.history.append(entry)
        if self.on_epoch is not None:
            self.on_epoch({**entry, "loss": entry[f"loss_{self.turns[-1][0].name}"]})
        self._epoch, self._step = self._epoch + 1, 0
        done = self._epoch == self.epochs
        if done or self.stop or time.monotonic() - self._saved > self.checkpoint_seconds:
            self.save()
        if self.stop and not done:
            self._leave()

    def _choose_probe(self) -> tuple[Int[Tensor, " made"], Float[Tensor, " class_"]]:
        """Classes of the records that are made to be looked at, and the variance of each class's training records."""
        counts = torch.bincount(self.label, minlength=len(self.classes))
        wanted = torch.where(counts > 1, counts.clamp(max=PROBE), 0)
        label = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), wanted)
        return label, _variances(self.values, self.label, len(counts))

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Spread and reach of some records; what is to be said of them."""
        label, real = self._probe
        if not len(label):
            return {}
        random = torch.Generator(label.device).manual_seed(derive_seed("probe", self.seed))
        made = self.generator.standardise(self.generator.sample(label, random).values)
        there = torch.bincount(label, minlength=len(real)) > 0
        ratio = (_variances(made, label, len(real)) / real.clamp_min(torch.finfo(real.dtype).tiny)).sqrt()
        spreads = torch.where(there & (real > 0), ratio, torch.inf)
        *spread, reach = torch.cat([spreads, made.square().mean().sqrt()[None]]).tolist()
        before, last = self.history[-1] if self.history else {}, self._epoch + 1 == self.epochs
        least = min(range(len(spread)), key=lambda one: spread[one])
        self.collapsed = [self.classes[one] for one, value in enumerate(spread) if value < COLLAPSED]
        self.diverged = not reach <= DIVERGED
        when = f"{self.generator.kind} {'ends' if last else 'is'} in epoch {self._epoch}"
        if self.collapsed and (last or before.get("spread", 0.0) >= COLLAPSED):
            what = f"its records of {self.classes[least]!r} vary {spread[least]:.1%} as much as real ones do"
            self.say(f"{when} collapsed: {what}")
        if self.diverged and (last or before.get("reach", 0.0) <= DIVERGED):
            what = f"its records lie {reach:.3g} deviations from the mean, real ones 1"
            self.say(f"{when} diverged: {what}")
        return {"spread": spread[least], "reach": reach}

    def save(self) -> None:
        """Write the last checkpoint and the history, if there is a folder."""
        self._look()
        self._saved = time.monotonic()
        if self.folder is None:
            return
        seen = self._seen if self._step else {}
        tensors = {
            **checkpoint.model_tensors(self.generator),
            **checkpoint.random_tensors(self.random),
            **{f"seen.{name}": values for name, values in seen.items()},
        }
        for place, optimiser in enumerate(self.optimisers):
            tensors |= checkpoint.optimiser_tensors(optimiser, f"optimiser_{place}")
        facts = {
            **self.facts,
            "epoch": self._epoch,
            "step": self._step,
            "seen": list(seen),  # in the order of the history's columns
            "history": self.history,
            "collapsed": self.collapsed,
            "diverged": self.diverged,
            "seconds": self.seconds,
        }
        checkpoint.save_tensors(self.folder / LAST, tensors, facts)
        if self.history:
            write_history(self.folder / "history.csv", self.history)

    def _resume(self) -> bool:
        """Take up the last checkpoint; True when it lies in the middle of an epoch."""
        if self.folder is None or not (self.folder / LAST).exists():
            return False
        tensors, facts = checkpoint.load_tensors(self.folder / LAST)
        check_facts(self.folder / LAST, facts, self.facts)
        checkpoint.restore_model(self.generator, tensors)
        for place, optimiser in enumerate(self.optimisers):
            checkpoint.restore_optimiser(optimiser, tensors, f"optimiser_{place}")
        self._epoch, self._step, self.history = facts["epoch"], facts["step"], facts["history"]
        self.collapsed, self.diverged, self.seconds = facts["collapsed"], facts["diverged"], facts["seconds"]
        self._seen = {name: tensors[f"seen.{name}"] for name in facts["seen"]}
        if self._step:
            checkpoint.restore_random(self.random, tensors)
        return self._step > 0

    def _leave(self) -> None:
        assert self.stop is not None
        self.save()
        raise Interrupted(self.stop.signal)


def check_facts(path: Path, facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a file that says something else of itself than is wanted.

    Raises:
        DataError: it does; the message names the file and what differs.
    """
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise DataError(
                f"{path}: {name} must be {value!r}, but is {facts.get(name)!r}: the file is of another training"
            )


def _variances(
    values: Float[Tensor, "record *item"], label: Int[Tensor, " record"], classes: int
) -> Float[Tensor, " class_"]:
    """Within each class, the variance of a number, averaged over all numbers; 0 where there is no record."""
    flat = values.flatten(1)
    counts = torch.bincount(label, minlength=classes).clamp_min(1)[:, None]
    means = flat.new_zeros(classes, flat.shape[1]).index_add_(0, label, flat) / counts
    squares = flat.new_zeros(classes, flat.shape[1]).index_add_(0, label, (flat - means[label]).square())
    return (squares / counts).mean(1)
