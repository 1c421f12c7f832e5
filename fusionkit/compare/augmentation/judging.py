"""One fold and seed of one sensor: every strategy of augmentation, judged by classifiers on real records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.augment.generative.generator import GenerativeAugmenter, Made
from fusionkit.compare.augmentation.scores import NONE, OWN, Part, Score
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.core.modality import Array
from fusionkit.data.generated import Generated
from fusionkit.data.splits import Split
from fusionkit.evaluation.classifiers.examples import MADE, Examples
from fusionkit.evaluation.classifiers.fit import CLASSIFIERS, fit_classifier, tune_classifier
from fusionkit.evaluation.generation.of_fold import read_held_out
from fusionkit.evaluation.metrics import score
from fusionkit.heads.task import Task
from fusionkit.recipe.sections import GeneratorEntry, KeepSection, Recipe, choice_model
from fusionkit.training.countdown import Countdown
from fusionkit.training.generating import (
    GENERATED,
    Lesson,
    Origin,
    find_origin,
    make_records,
    read_lesson,
    train_generator,
)
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.records import learn_tasks
from fusionkit.training.selection import Chosen

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

    def made_of(self, strategy: str, amount: float) -> Origin:
        """The same training records, asked for what a strategy appends."""
        return replace(self.origin, entry=entry_of(self.entry, strategy, amount))

    def generator(self, origin: Origin) -> tuple[GenerativeAugmenter, dict[str, Any]]:
        """The augmenter of a strategy, trained or from its file, and what was found of its training.

        Both uses of the recipe's own and all amounts have one in common.
        """
        own = origin.entry.kind == self.entry.kind
        folder = self.folder / (GENERATED if own else "copies") / self.sensor
        called = (self.fold, len(self.split.folds)) if own else None
        return train_generator(origin, self.lesson, folder, listener=self.listener, stop=self.stop, called=called)

    def generated(self, strategy: str, amount: float) -> Generated:
        """What a strategy appends, as models are trained on it."""
        origin = self.made_of(strategy, amount)
        made = make_records(origin, self.lesson, self.generator(origin)[0]).made
        target = made.label.cpu().numpy().astype(np.float32)
        return Generated(self.sensor, self.lesson.item.level, made.values, {str(origin.entry.task): target})

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
        Scores of validation and test, none where no test record can be judged, and what a reader must know, in words that are
        the same in every cell.

    Raises:
        DataError: as `train_generator`.
        Interrupted: a stop was asked for.
    """
    lesson, parts = cell.lesson, cell.split.folds[cell.fold].parts()
    asked = {part: read_held_out(cell.origin, lesson, parts[part]) for part in PARTS}
    if not len(asked["test"][1]):
        return [], [f"a fold is left out: no test record of it has {cell.sensor} and a label of {cell.entry.task}"]
    every = torch.ones(len(lesson.label), device=lesson.values.device)
    real = Examples(lesson.values.flatten(1), lesson.label, every, lesson.group, lesson.item.classes)
    tuned = {kind: tune_classifier(kind, real) for kind in CLASSIFIERS}
    scores: list[Score] = []
    notes: list[str] = []
    total = 1 + len(strategies(cell.entry)) * len(amounts)
    countdown = Countdown(cell.listener.say, f"{cell.sensor}, fold {cell.fold}, seed {cell.seed}: data judged")
    for done, (strategy, amount, chosen) in enumerate(_everything(cell, amounts, notes)):
        countdown(done, total)
        examples = real if chosen is None else _append(real, chosen.made)
        wanted, appended = (0, 0) if chosen is None else (sum(chosen.wanted), round(float(chosen.made.share.sum())))
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
                if not len(target):
                    continue
                said = answer(torch.from_numpy(values).flatten(1).to(lesson.values.device))
                found = score(cell.task[0], said.double().cpu().numpy(), target)
                where = (cell.sensor, cell.fold, cell.seed, kind, strategy, amount, part)
                scores.append(Score(*where, len(target), wanted, appended, found))
    return scores, list(dict.fromkeys(notes))


def _everything(cell: Cell, amounts: Sequence[float], notes: list[str]) -> Iterator[tuple[str, float, Chosen | None]]:
    """What every strategy appends at every amount, `NONE` first; what cannot be done is noted and left out."""
    yield NONE, 0.0, None
    for strategy in strategies(cell.entry):
        try:
            generator, found = cell.generator(cell.made_of(strategy, amounts[-1]))
        except ConfigError as error:
            if strategy in OWN:
                raise
            notes.append(f"{strategy} is left out: {str(error).rpartition(f'fold {cell.fold}: ')[2]}")
            continue
        notes += _said(cell, found) if strategy == OWN[0] else []
        for amount in amounts:
            cell.check()
            chosen = make_records(cell.made_of(strategy, amount), cell.lesson, generator)
            if any(want and not keep for want, keep in zip(chosen.wanted, chosen.kept, strict=True)):
                notes.append(f"{strategy}: there is a class of which no generated record was sure enough")
            yield strategy, amount, chosen


def _said(cell: Cell, found: dict[str, Any]) -> Iterator[str]:
    """What must be said of a generator."""
    if found["collapsed"]:
        yield f"{cell.entry.kind} has collapsed: its records of a class are all alike"
    if found["diverged"]:
        yield f"{cell.entry.kind} has diverged: its records lie far from all real ones"


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
