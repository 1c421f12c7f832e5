"""What every strategy costs: parameters, multiplications, one answer and one step of training, measured in turn."""

from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from fusionkit.compare.cells.cell import Ended, open_run
from fusionkit.compare.experiment.grid import Block, Experiment
from fusionkit.compare.experiment.step import TrainingStep, time_in_turn
from fusionkit.data.loading import Loader
from fusionkit.data.study import Study
from fusionkit.evaluation.multiplications import count_multiplications
from fusionkit.training.device import pick_device
from fusionkit.training.material import Material
from fusionkit.training.records import learn_tasks
from fusionkit.training.trained import load_trained

ROUNDS, FEWEST = 38, 5
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
    calls = [call for _, one, _ in ready for call in (one.answer, one.step)]
    taken = time_in_turn(calls, ROUNDS, fewest=FEWEST, seconds=SECONDS * len(calls) / 2)
    times = [median(own) for own in taken]
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
        held_out = {*rows["test"], *rows["validation"]}
        others = [row for row in range(len(study.records)) if row not in held_out]
        learned = torch.tensor(others[: trained.recipe.train.batch])
        _, targets = learn_tasks(trained.recipe, study.records)
        batch = material.loader(trained.recipe, trained.modalities, targets).batch(learned)
        self.records = len(learned)
        self.step = TrainingStep(trained.recipe, trained.model, trained.tasks, batch, self.device)

    def answer(self) -> None:
        self.model.eval()
        with torch.inference_mode():
            self.model(self.window)
        self._wait()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
