"""Train one sensor with some of the labels, and ask it about test records."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fusionkit.core.modality import Array
from fusionkit.data.splits import Fold
from fusionkit.evaluation.predict import predict, prediction
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import LabelSection, Recipe
from fusionkit.training.arm import alone
from fusionkit.training.fitting import Job, train_model
from fusionkit.training.labels import hide_labels, labelled_rows
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.start import Start


@dataclass(frozen=True)
class FineTuning:
    """The encoder of one sensor with heads on it, trained by a share of the labels for as long as by all of them.

    Records with labels come again until an epoch has as many as there are labels in all, so that shares differ in what
    is known and not in how long is trained. No record validates: the last epoch counts.

    Attributes:
        recipe: of the run.
        sensor: which.
        material: the study, its features and statistics.
        fold: of records that have the sensor.
        number: the fold's number.
        share: of labelled training records, drawn by the shares of classes and the same for every start; each class has
            one at least.
        epochs: by default the recipe's.
    """

    recipe: Recipe
    sensor: str
    material: Material
    fold: Fold
    number: int
    share: float
    epochs: int | None = None

    def __call__(
        self, start: Start, tasks: Mapping[str, Task], targets: Mapping[str, Array], listener: Listener
    ) -> dict[str, Array]:
        """Predictions of the fold's test records by task.

        Args:
            start: where the encoder begins.
            tasks: fitted to the labels of all training records.
            targets: of all records.
            listener: hears of every epoch.
        """
        rows = self.rows(tasks, targets)
        every = labelled_rows(targets, self.fold.train).sum()
        again = np.tile(rows, max(1, round(every / len(rows))))
        seed = derive_seed(self.recipe.seed, "fine-tune", self.sensor, self.number)
        modalities = self.material.fit_modalities(self.recipe_alone, rows, [start.files], seed)
        with TemporaryDirectory() as folder:
            job = Job(
                self.recipe_alone,
                self.material,
                {self.sensor: modalities[self.sensor]},
                dict(tasks),
                dict(targets),
                again,
                self.fold.validation[:0],
                Path(folder),
                seed,
                start,
            )
            model, loader, _ = train_model(job, listener=listener)
            decisions = predict(model, loader, self.fold.test)
        return {name: prediction(tasks[name], decision) for name, decision in decisions.items()}

    @property
    def recipe_alone(self) -> Recipe:
        """What is trained: without validation, by labels alone, and with heads of its own."""
        own = alone(self.recipe, self.sensor)
        settings = {"epochs": self.epochs or own.train.epochs, "patience": 0, "monitor": "last", "consistency": ()}
        data = own.data.model_copy(update={"labels": None})
        init = own.init.model_copy(update={"heads": {}})
        return replace(own, data=data, init=init, train=own.train.model_copy(update=settings))

    def rows(self, tasks: Mapping[str, Task], targets: Mapping[str, Array]) -> Array:
        """The training records whose labels are looked at."""
        there = int(labelled_rows(targets, self.fold.train).sum())
        least = max([1, *(len(task.classes) for task in tasks.values())])
        keep = LabelSection.model_validate({"keep": min(there, max(least, math.ceil(self.share * there)))})
        few = replace(self.recipe, data=self.recipe.data.model_copy(update={"labels": keep}))
        records = self.material.study.records
        left = hide_labels(few, records, tasks, targets, self.fold.train, self.number)
        return self.fold.train[labelled_rows(left, self.fold.train)]
