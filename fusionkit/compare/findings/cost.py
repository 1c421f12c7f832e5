"""What every strategy costs: parameters, multiplications, one answer and one step of training, measured in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from fusionkit.compare.cells.cell import Ended, open_run
from fusionkit.compare.experiment.grid import Block, Experiment
from fusionkit.core import registry
from fusionkit.core.levels import Batch
from fusionkit.data.loading import Loader
from fusionkit.data.study import Study
from fusionkit.evaluation.multiplications import count_multiplications
from fusionkit.recipe.sections import Choice
from fusionkit.training.device import pick_device, pick_precision
from fusionkit.training.material import Material
from fusionkit.training.objective import TaskObjective
from fusionkit.training.records import learn_tasks
from fusionkit.training.trained import Trained, load_trained
from fusionkit.training.update import JointUpdate

ROUNDS, FEWEST, WARM = 40, 5, 2
SECONDS = 3.0  # that a strategy may take, once it has the fewest rounds


@dataclass(frozen=True)
class Cost:
    """Of one strategy, as trained in its first cell; times are medians on one thread, or on the GPU that trains.

    Attributes:
        strategy: its label.
        parameters: that train, or were fitted.
        macs: multiplications with addition of one answer: of matrices, convolutions and attention, from the windows of
            all its sensors on; Fourier transforms and what works number by number are not counted.
        latency_ms: of one answer, from the same windows on.
        step_ms: of forward, backward and AdamW for a batch that is loaded; without what a recipe adds to all
            strategies alike (adversary, consistency, surgery).
        batch: records of that batch.
        train_seconds: of a cell's whole training, median over its cells, beside the others that ran at once.
    """

    strategy: str
    parameters: int
    macs: int
    latency_ms: float
    step_ms: float
    batch: int
    train_seconds: float


def costs(block: Block, experiment: Experiment) -> list[Cost]:
    """Measure every strategy of a setting that has a trained cell, one after another in every round."""
    ready = []
    for strategy in block.setting.strategies:
        ended = [experiment.ended[cell.key] for (label, _, _), cell in block.cells.items() if label == strategy.label]
        done = [one for one in ended if not one.problem]
        if done:
            ready.append((strategy.label, _Ready(done[0], block.study), median(one.seconds for one in done)))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = _rounds([call for _, one, _ in ready for call in (one.answer, one.step)])
    finally:
        torch.set_num_threads(before)
    return [
        Cost(label, one.parameters, one.macs, 1e3 * times[2 * k], 1e3 * times[2 * k + 1], one.records, seconds)
        for k, (label, one, seconds) in enumerate(ready)
    ]


class _Ready:
    """A trained cell, with a window to answer and a batch to train on."""

    def __init__(self, ended: Ended, study: Study) -> None:
        run = open_run(ended)
        fold = run.folds()[0]
        self.device = pick_device(run.recipe.train.device)
        trained = load_trained(run, fold, device=self.device)
        rows = run.results("fused")[fold].rows
        material = Material(trained.recipe, study, self.device)
        self.model = trained.model
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        inputs = {name: material.windows(name, trained.modalities[name]) for name in trained.recipe.graph.modalities}
        whole = np.all([study.sensors[name].present[rows["test"]] for name in inputs], axis=0)
        asked = rows["test"][[int(whole.argmax())]]  # one that has all sensors, if there is such
        self.window = Loader(study, inputs, {}, self.device, False).batch(torch.from_numpy(asked)).inputs
        self.macs = count_multiplications(self.model, self.window)
        self.records, self.batch, self.update = self._training(
            trained, material, study, {*rows["test"], *rows["validation"]}
        )
        self.generator = torch.Generator(self.device).manual_seed(0)

    def _training(
        self, trained: Trained, material: Material, study: Study, held_out: set[int]
    ) -> tuple[int, Batch, JointUpdate]:
        recipe, settings = trained.recipe, trained.recipe.train
        _, targets = learn_tasks(recipe, study.records)
        others = [row for row in range(len(study.records)) if row not in held_out]
        rows = torch.tensor(others[: settings.batch])
        batch = material.loader(recipe, trained.modalities, targets).batch(rows)
        balance = settings.balance or Choice(kind="fixed")
        outcomes = [task.outcome for task in trained.tasks.values()]
        objective = TaskObjective(
            self.model,
            trained.tasks,
            {name: entry.weight for name, entry in recipe.tasks.items()},
            mixup=settings.mixup,
            balance=registry.balancing.build(balance.kind, balance.options, outcomes),
        ).to(self.device)
        update = JointUpdate(
            objective,
            objective,
            weight_decay=settings.weight_decay,
            clip=settings.clip or None,
            precision=pick_precision(settings.precision, self.device),
            device=self.device,
        )
        return len(rows), batch, update

    def answer(self) -> None:
        self.model.eval()
        with torch.inference_mode():
            self.model(self.window)
        self._wait()

    def step(self) -> None:
        self.model.train()
        self.update(self.batch, self.generator, 1e-9)
        self._wait()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _rounds(calls: Sequence[Callable[[], None]]) -> list[float]:
    """Median seconds of each, called in turn so that other work on the machine slows all alike."""
    taken: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    for number in range(ROUNDS):
        for call, own in zip(calls, taken, strict=True):
            before = time.perf_counter()
            call()
            own.append(time.perf_counter() - before)
        if number + 1 >= FEWEST + WARM and time.perf_counter() - began > SECONDS * len(calls) / 2:
            break
    return [median(own[WARM:]) for own in taken]
