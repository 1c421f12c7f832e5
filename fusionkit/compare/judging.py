"""One fold and seed of one sensor: every strategy of augmentation, judged by classifiers on real records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.augment.generative.generator import GenerativeAugmenter, Made
from fusionkit.compare.scores import NONE, OWN, Part, Score
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.data.splits import Fold, Split
from fusionkit.evaluation.classifiers.examples import MADE, Examples
from fusionkit.evaluation.classifiers.fit import CLASSIFIERS, fit_classifier, tune_classifier
from fusionkit.evaluation.metrics import score
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_modalities
from fusionkit.recipe.sections import GeneratorEntry, KeepSection, Recipe, choice_model
from fusionkit.training.generating import (
    Lesson,
    Origin,
    find_origin,
    loaded_level,
    make_records,
    read_lesson,
    train_generator,
)
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.records import learn_tasks

COPIES = {"noise_copies": "noise_copies", "geometric_copies": "geometric_copies", "mixup": "mixup_copies"}
"""Baselines that need no training, by what scores call them, and the generators that make them."""


PARTS: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True)
class Cell:
    """One sensor's augmenter in one fold, with one seed.

    Attributes:
        recipe: with that seed.
        material: the study and its features.
        split: of the study, the same for every seed.
        fold: the fold's number.
        seed: of everything that is drawn but the split.
        sensor: whose augmenter.
        folder: where generators are kept.
        listener: hears of every epoch.
        stop: a request to save and leave.
    """

    recipe: Recipe
    material: Material
    split: Split
    fold: int
    seed: int
    sensor: str
    folder: Path
    listener: Listener
    stop: StopRequest

    @property
    def entry(self) -> GeneratorEntry:
        """The recipe's augmenter."""
        return self.recipe.generators[self.sensor]

    @cached_property
    def origin(self) -> Origin:
        """What the augmenter learns from."""
        return find_origin(self.recipe, self.material, self.split, self.fold, self.sensor)

    @cached_property
    def lesson(self) -> Lesson:
        """The training records, read."""
        return read_lesson(self.origin)

    @cached_property
    def task(self) -> tuple[Task, Array]:
        """Whose classes are wanted, and those of every record; labels that are hidden from training are not hidden here."""
        tasks, targets = learn_tasks(self.recipe, self.material.study.records)
        assert self.entry.task is not None
        return tasks[self.entry.task], targets[self.entry.task]

    def rows(self, part: Part) -> Array:
        """Real records of a part that have the sensor and a label, and that no statistics were calibrated on."""
        fold: Fold = self.split.folds[self.fold]
        rows, target = fold.parts()[part], self.task[1]
        present = self.material.study.sensor(self.sensor).present
        kept: Array = present[rows] & ~np.isnan(target[rows]) & ~self.material.excluded[rows]
        return np.asarray(rows[kept])

    def made_of(self, strategy: str, amount: float) -> Origin:
        """The same training records, asked for what a strategy appends."""
        return replace(self.origin, entry=entry_of(self.entry, strategy, amount))

    def generator(self, origin: Origin) -> GenerativeAugmenter:
        """The augmenter of a strategy, trained or from its file; `full` and `selective` have it in common."""
        own = origin.entry.kind == self.entry.kind
        folder = self.folder / ("generated" if own else "copies") / self.sensor
        called = (self.fold, len(self.split.folds)) if own else None
        return train_generator(origin, self.lesson, folder, listener=self.listener, stop=self.stop, called=called)[0]

    def check(self) -> None:
        """Leave where that was asked for.

        Raises:
            Interrupted: it was.
        """
        if self.stop:
            raise Interrupted(self.stop.signal)


def entry_of(own: GeneratorEntry, strategy: str, amount: float) -> GeneratorEntry:
    """What a strategy asks for: the recipe's own augmenter, or copies with their defaults, for the same task."""
    if strategy in OWN:
        keep = (own.keep or KeepSection.model_validate({})) if strategy == "selective" else None
        return own.model_copy(update={"use": strategy, "keep": keep, "add": amount})
    kind = COPIES[strategy]
    model = choice_model(GeneratorEntry, registry.generators.get(kind), "augment")
    return model.model_validate({"kind": kind, "add": amount, "task": own.task})


def strategies(own: GeneratorEntry) -> list[str]:
    """Those that are tried beside `NONE`; a recipe whose augmenter makes copies has that only once."""
    return [*(name for name, kind in COPIES.items() if kind != own.kind), *OWN]


def judge_records(cell: Cell, amounts: Sequence[float]) -> tuple[list[Score], list[str]]:
    """Fit every classifier to the training records, alone and with what every strategy appends at every amount.

    What is equal is shared: one augmenter for all amounts and both of its uses, one cost of the support vector machine
    (chosen on real records), and the records of a strategy for all classifiers.

    Args:
        cell: sensor, fold and seed.
        amounts: above 0.

    Returns:
        Scores of validation and test, and what a reader must know.

    Raises:
        DataError: no test record has the sensor and a label; or as `train_generator`.
        Interrupted: a stop was asked for.
    """
    lesson, asked = cell.lesson, {part: _read(cell, part) for part in PARTS if len(cell.rows(part))}
    if "test" not in asked:
        raise DataError(f"fold {cell.fold}: no test record has {cell.sensor} and a label of {cell.entry.task}")
    every = torch.ones(len(lesson.label), device=lesson.values.device)
    real = Examples(lesson.values.flatten(1), lesson.label, every, lesson.group, lesson.item.classes)
    tuned = {kind: tune_classifier(kind, real) for kind in CLASSIFIERS}
    scores: list[Score] = []
    notes: list[str] = []
    for strategy, amount, made in _everything(cell, amounts, notes):
        examples = real if made is None else _append(real, made)
        appended = 0 if made is None else round(float(made.share.sum()))
        for kind in CLASSIFIERS:
            cell.check()
            answer = fit_classifier(
                kind,
                examples.values,
                examples.label,
                examples.share,
                classes=real.classes,
                seed=derive_seed("judge", cell.recipe.seed, cell.sensor, cell.fold),
                group=examples.group,
                tuned=tuned[kind],
            )
            for part, (values, target) in asked.items():
                found = score(cell.task[0], answer(values).double().cpu().numpy(), target)
                where = (cell.sensor, cell.fold, cell.seed, kind, strategy, amount, part)
                scores.append(Score(*where, len(target), appended, found))
    return scores, notes


def _everything(cell: Cell, amounts: Sequence[float], notes: list[str]) -> Iterator[tuple[str, float, Made | None]]:
    """What every strategy appends at every amount, `NONE` first; what cannot be done is noted and left out."""
    yield NONE, 0.0, None
    for strategy in strategies(cell.entry):
        try:
            generator = cell.generator(cell.made_of(strategy, amounts[-1]))
        except ConfigError as error:
            if strategy in OWN:
                raise
            notes.append(f"{strategy} is left out: {error}")
            continue
        for amount in amounts:
            cell.check()
            yield strategy, amount, make_records(cell.made_of(strategy, amount), cell.lesson, generator).made


def _append(real: Examples, made: Made) -> Examples:
    """Real records, and generated ones behind them."""
    group = torch.full_like(made.label, MADE)
    return Examples(
        torch.cat([real.values, made.values.flatten(1)]),
        torch.cat([real.label, made.label]),
        torch.cat([real.share, made.share]),
        torch.cat([real.group, group]),
        real.classes,
    )


def _read(cell: Cell, part: Part) -> tuple[Float[Tensor, "record width"], Array]:
    """Real records of a part as training loads them, and their classes."""
    material, rows = cell.material, cell.rows(part)
    modality = build_modalities(cell.recipe)[cell.sensor]
    windowed = loaded_level(cell.recipe, cell.sensor, modality) == "window"
    given = material.input(cell.sensor, modality, windowed=windowed)
    loader = Loader(material.study, {cell.sensor: given}, {}, material.device, resident=False)
    parts = [
        loader.batch(some).inputs[cell.sensor].values for some in torch.split(torch.from_numpy(rows), loader.chunk)
    ]
    return torch.cat([values.float().flatten(1) for values in parts]), cell.task[1][rows]
