"""Does an augmenter bring anything? Every strategy and amount in every fold, with several seeds, cell by cell."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusionkit.compare.augmentation.gains import Found, Measure, choose, compare
from fusionkit.compare.augmentation.judging import Cell, judge_records
from fusionkit.compare.augmentation.modelling import check_model, forget, judge_model
from fusionkit.compare.augmentation.scores import MODEL, Score, read_scores, table
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.data.guard import check_straddling
from fusionkit.data.splits import Split
from fusionkit.evaluation.metrics import primary_metric
from fusionkit.evaluation.summary import plain
from fusionkit.recipe.build import build_tasks
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.countdown import Countdown
from fusionkit.training.device import pick_device
from fusionkit.training.generating import check_generators, notes_of_generators
from fusionkit.training.interruption import stop_on_signals
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material, open_study, smoothed_together
from fusionkit.training.records import check_labels, divide, read_records
from fusionkit.training.run import environment
from fusionkit.training.stamped import no_empty_folder, stamped_folder

CELLS = "cells"


@dataclass(frozen=True)
class Augmentation:
    """A folder of results: ``recipe.yaml``, ``study.json``, ``split.json``, ``cells/``, ``results.csv`` and augmenters.

    It lies in ``augment/`` of the recipe's runs, which are none of it. A cell is a sensor, a fold and a seed; its file is
    written when all of it is done, so that a study goes on with the cells that lack.
    """

    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(str(self.folder / "recipe.yaml"))

    @property
    def facts(self) -> dict[str, Any]:
        """What ``study.json`` says.

        Raises:
            DataError: it is missing or broken.
        """
        try:
            return dict(json.loads((self.folder / "study.json").read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}: a study of augmenters must have a whole study.json, but {error}") from None

    @property
    def study(self) -> Path:
        """The data that it was made from."""
        return Path(self.facts["study"]["path"])

    def cell(self, sensor: str, fold: int, seed: int, judge: str) -> Path:
        """The file of a cell, of classifiers or of the recipe's model."""
        return self.folder / CELLS / f"{sensor}-fold-{fold}-seed-{seed}-{judge}.json"

    def cells(self) -> Iterator[dict[str, Any]]:
        """What is done, in a fixed order.

        Raises:
            DataError: a file is broken.
        """
        for path in sorted((self.folder / CELLS).glob("*.json")):
            yield _read(path)

    @property
    def scores(self) -> list[Score]:
        """Every single result."""
        return [score for cell in self.cells() for score in read_scores(cell["scores"])]

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the study."""
        write_atomically(self.folder / name, (json.dumps(content, indent=1) + "\n").encode())


def augment(
    recipe: Recipe,
    *,
    sweep: Sequence[float] = (),
    seeds: int = 3,
    fold: int | None = None,
    model: bool = False,
    resume: bool = False,
    listener: Listener | None = None,
) -> Augmentation:
    """Train the recipe's augmenters and judge what strategies and amounts bring; cells that are done are not done again.

    A seed is of everything that is drawn but the split: labels that are kept, augmenters, classifiers, weights.

    Args:
        recipe: with an augmenter for a sensor at least.
        sweep: amounts beside the recipe's own; 0 is always there.
        seeds: how many, from the recipe's on.
        fold: only this one.
        model: judge by the recipe's own model, too.
        resume: go on with the newest study of this recipe.
        listener: hears of everything.

    Raises:
        ConfigError: there is no augmenter, nothing is appended, or nothing to resume.
        DataError: the data break a rule.
        Interrupted: a stop was asked for; the study is saved.
    """
    listener = listener or Listener()
    amounts = _amounts(recipe, sweep)
    if model:
        check_model(recipe)
    records = read_records(recipe)
    split = divide(recipe, records)
    if fold is not None and not 0 <= fold < len(split.folds):
        raise ConfigError(f"--fold must be one of 0 to {len(split.folds) - 1}, but got {fold}")
    chosen = range(len(split.folds)) if fold is None else [fold]
    seeded = [replace(recipe, seed=recipe.seed + number) for number in range(seeds)]
    hidden = [check_labels(one, records, split, chosen) for one in seeded]  # every seed may draw other labels
    device = pick_device(recipe.train.device)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    made = _resumed(recipe, amounts) if resume else Augmentation(stamped_folder(_parent(recipe)))
    with (
        stop_on_signals() as stop,
        no_empty_folder(made.folder, ours=not resume),
        open_study(recipe, listener.prepare) as study,
    ):
        with located("data.split"):
            notes = check_straddling(split, study, recipe.data.allow_leakage, smoothed_together(recipe, study))
        listener.say(f"study {made.folder}")
        material = Material(recipe, study, device, listener.prepare)
        notes = [*split.notes(study.records), *notes, *hidden[0], *material.notes, *notes_of_generators(recipe)]
        for note in notes:
            listener.say(f"note: {note}")
        for one in seeded:
            check_generators(one, material, split, chosen, amounts)
        facts = {
            "study": {"path": str(study.path), "digest": study.digest, "records": len(study.records)},
            "amounts": amounts,
            "folds": len(split.folds),
            "ratio": _ratio(split),
            "notes": notes,
        }
        _keep(made, recipe, facts, split, device)
        todo = [
            (one, number, sensor, judge)
            for one in seeded
            for number in chosen
            for sensor in amounts
            for judge in ("classifiers", *([MODEL] if model else []))
        ]
        countdown = Countdown(listener.say, "cells", every=20.0)
        for done, (one, number, sensor, judge) in enumerate(todo):
            path = made.cell(sensor, number, one.seed, judge)
            if not path.exists():
                folder = made.folder / f"fold-{number}" / f"seed-{one.seed}"
                cell = Cell(one, material, split, number, one.seed, sensor, folder, listener, stop)
                _work(cell, judge, amounts[sensor], path)
                if judge == MODEL:
                    forget(cell)
            countdown(done + 1, len(todo))
        judged = {score.sensor for score in made.scores if score.judge != MODEL}
        for sensor in amounts:
            if sensor not in judged:
                task = recipe.generators[sensor].task
                raise DataError(
                    f"augment.{sensor}: in every fold that is asked for, no test record has {sensor} and a label of {task}"
                )
    write_atomically(made.folder / "results.csv", table(made.scores).encode())
    return made


def find(made: Augmentation) -> list[Found]:
    """What the cells that are done say, sensor by sensor; it is kept in ``findings.json``, too."""
    recipe, facts, scores = made.recipe, made.facts, made.scores
    tasks, found = build_tasks(recipe), []
    for sensor, entry in recipe.generators.items():
        own = [score for score in scores if score.sensor == sensor]
        metric = primary_metric(tasks[str(entry.task)])
        measure = Measure(metric.name, metric.better, facts["ratio"])
        cells = [cell for cell in made.cells() if cell["sensor"] == sensor]
        times = Counter(note for cell in cells for note in cell["notes"])
        among = Counter(cell["judge"] for cell in cells)["classifiers"]
        notes = [f"{note} ({count} of {among} folds and seeds)" for note, count in times.items()]
        how = (sensor, entry.kind, entry.use, entry.add)
        said = compare(own, measure), choose(own, measure), notes
        found.append(Found(*how, metric.name, *said))
    made.write_json("findings.json", plain(as_json(made, found)))
    return found


def as_json(made: Augmentation, found: Sequence[Found]) -> dict[str, Any]:
    """Findings as plain data."""
    return {"folder": str(made.folder), "sensors": {one.sensor: one.as_dict() for one in found}}


def _work(cell: Cell, judge: str, amounts: Sequence[float], path: Path) -> None:
    """Do a cell and keep what it said."""
    began = time.monotonic()
    scores, notes = (judge_model if judge == MODEL else judge_records)(cell, amounts)
    content = {
        "sensor": cell.sensor,
        "fold": cell.fold,
        "seed": cell.seed,
        "judge": judge,
        "seconds": time.monotonic() - began,
        "notes": notes,
        "scores": [score.as_dict() for score in scores],
    }
    write_atomically(path, (json.dumps(plain(content)) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        read_scores(content["scores"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: a cell must be a whole JSON file of scores, but {error}; remove it to do it again"
        ) from None
    return content


def _amounts(recipe: Recipe, sweep: Sequence[float]) -> dict[str, list[float]]:
    """What is appended, by sensor with an augmenter: the recipe's amount and the sweep's, ascending, without 0."""
    if not recipe.generators:
        raise ConfigError("augment: must name a generative augmenter for a sensor, but the recipe has none")
    amounts = {
        sensor: sorted({float(amount) for amount in (*sweep, entry.add) if amount})
        for sensor, entry in recipe.generators.items()
    }
    for sensor, own in amounts.items():
        if not own:
            raise ConfigError(f"augment.{sensor}.add: must be above 0, or --sweep name an amount that is, but got 0")
    return amounts


def _ratio(split: Split) -> float:
    """Records that test for each that trains, over all folds."""
    return sum(len(fold.test) for fold in split.folds) / sum(len(fold.train) for fold in split.folds)


def _parent(recipe: Recipe) -> Path:
    return Path(recipe.run.dir) / recipe.name / "augment"


def _keep(made: Augmentation, recipe: Recipe, facts: dict[str, Any], split: Split, device: torch.device) -> None:
    """Write what a study is of, the recipe last, by which it is found; one that goes on must be of the same data.

    Raises:
        DataError: the data have changed.
    """
    if (made.folder / "recipe.yaml").exists():
        if made.facts["study"]["digest"] != facts["study"]["digest"]:
            raise DataError(
                f"--resume needs the data that began the study, but those of {made.folder} have changed since"
            )
        return
    split.save(made.folder / "split.json")
    made.write_json("study.json", facts)
    made.write_json("environment.json", environment(device))
    write_atomically(made.folder / "recipe.yaml", dump_recipe(recipe).encode())


def _resumed(recipe: Recipe, amounts: dict[str, list[float]]) -> Augmentation:
    studies = sorted(_parent(recipe).glob("*/recipe.yaml"))
    if not studies:
        raise ConfigError(f"--resume needs an earlier study, but {_parent(recipe)} has none")
    made = Augmentation(studies[-1].parent)
    if studies[-1].read_text(encoding="utf-8") != dump_recipe(recipe):
        raise ConfigError(f"--resume needs the recipe that began the study, but {studies[-1]} differs from it")
    before = made.facts["amounts"]
    if before != amounts:
        raise ConfigError(f"--resume needs the amounts that began the study, {before}, but got {amounts}")
    return made
