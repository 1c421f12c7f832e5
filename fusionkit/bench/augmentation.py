"""What augmentation costs a recipe: its share of every step, and records a second, in pretraining and in training."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from fusionkit.augment.augmentation import Augmentation
from fusionkit.core.errors import ConfigError
from fusionkit.recipe.sections import Recipe
from fusionkit.training.device import pick_device
from fusionkit.training.listener import Listener
from fusionkit.training.material import cache_folder
from fusionkit.training.run import train

LIMIT = 0.2
"""Share of a step that augmentation may take."""


@dataclass(frozen=True)
class AugmentationBench:
    """Milliseconds by the clock, medians over steps; a step is from one move of the weights to the next.

    Attributes:
        part: what trained: a stage of pretraining (``pretrained``, ``pretrained 1/2``), or the recipe's model (``fused``).
        step_ms: a step, loading and augmentation included.
        augmentation_ms: the augmentations of all sensors and looks in it.
        share: median of their ratio.
        records_per_second: as training says it, at the end of the last epoch.
        steps: how many were timed.
    """

    part: str
    step_ms: float
    augmentation_ms: float
    share: float
    records_per_second: float
    steps: int

    @property
    def kept(self) -> bool:
        """Whether augmentation stays within `LIMIT`."""
        return self.share <= LIMIT


@dataclass
class _Watch(Listener):
    """Stops the time of every step, and of the augmentations in it; the first step of an epoch counts not.

    What lies before that step is no step's: validation, checkpoints, predictions.
    """

    device: torch.device
    found: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    part: str = ""
    last: float | None = None
    augmenting: float = 0.0
    depth: int = 0
    began: float = 0.0

    def begin(self, arm: str, fold: int, folds: int, epochs: int) -> None:
        del fold, folds, epochs
        self.part, self.last = arm, None

    def step(self, epoch: int, step: int, steps: int, records_per_second: float) -> None:
        del epoch, step, steps
        self.rates[self.part] = records_per_second

    def epoch(self, entry: Mapping[str, float]) -> None:
        del entry
        self.last = None

    def before(self, module: nn.Module, taken: Any) -> None:
        """An augmentation begins; one that is made of others counts once."""
        del taken
        if isinstance(module, Augmentation):
            self.depth += 1
            if self.depth == 1:
                self.began = self._now()

    def after(self, module: nn.Module, taken: Any, made: Any) -> None:
        """An augmentation ends."""
        del taken, made
        if isinstance(module, Augmentation):
            self.depth -= 1
            if self.depth == 0:
                self.augmenting += self._now() - self.began

    def step_made(self, *given: Any) -> None:
        """The weights moved."""
        del given
        now = self._now()
        if self.last is not None:
            self.found.setdefault(self.part, []).append((now - self.last, self.augmenting))
        self.last, self.augmenting = now, 0.0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def bench_augmentation(recipe: Recipe, *, epochs: int = 2) -> list[AugmentationBench]:
    """Pretrain and train the first fold of a recipe for some epochs, in a folder that is thrown away.

    On a GPU every clock waits for it, so that a step is a little slower than it is in earnest.

    Args:
        recipe: whose batches, sensors, objectives and augmentations; what is mixed or covered with noise across records
            and sensors (``train.mixup``, ``train.corruption``) belongs to the rest of a step.
        epochs: of every stage and of training.

    Raises:
        ConfigError: an epoch has one step, so that none can be timed, or a step moves weights more than once.
    """
    if recipe.train.task_mode == "per_task_step":
        raise ConfigError(
            "train.task_mode: a step must move weights once to be timed, but per_task_step does so by task"
        )
    device = pick_device(recipe.train.device)
    with TemporaryDirectory(prefix="fusionkit-augmentation-") as folder:
        short = _shortened(recipe, epochs, folder)
        watch = _Watch(device)
        with _watching(watch):
            train(short, fold=0, listener=watch)
    if not watch.found:
        raise ConfigError("train.batch: an epoch must have two steps or more to be timed, but has one")
    return [_summary(part, steps, watch.rates[part]) for part, steps in watch.found.items()]


def _shortened(recipe: Recipe, epochs: int, folder: str) -> Recipe:
    """The recipe with a few epochs, in another folder, with the same cache; nothing stops it or is saved midway."""
    quiet = {"epochs": epochs, "patience": 0, "single_sensors": False, "checkpoint_seconds": 1e9}
    return replace(
        recipe,
        pretrain=tuple(stage.model_copy(update={"epochs": epochs}) for stage in recipe.pretrain),
        train=recipe.train.model_copy(update=quiet),
        data=recipe.data.model_copy(update={"cache": str(cache_folder(recipe))}),
        run=recipe.run.model_copy(update={"dir": folder}),
    )


@contextmanager
def _watching(watch: _Watch) -> Iterator[None]:
    handles = [
        register_module_forward_pre_hook(watch.before),
        register_module_forward_hook(watch.after),
        register_optimizer_step_post_hook(watch.step_made),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _summary(part: str, steps: list[tuple[float, float]], rate: float) -> AugmentationBench:
    whole, augmenting = np.array(steps).T
    return AugmentationBench(
        part=part,
        step_ms=1e3 * float(np.median(whole)),
        augmentation_ms=1e3 * float(np.median(augmenting)),
        share=float(np.median(augmenting / whole)),
        records_per_second=rate,
        steps=len(steps),
    )
