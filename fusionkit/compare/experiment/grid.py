"""The experiment: every strategy, sensor alone and the late mean, in every fold and with every seed, on one split."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fusionkit.compare.cells.cell import Cell, Ended, make_cell, read_ended
from fusionkit.compare.cells.executor import Executor
from fusionkit.compare.cells.key import code_digest
from fusionkit.compare.conditions.corruption import Faults
from fusionkit.compare.experiment.matching import match_parameters
from fusionkit.compare.experiment.matching_time import match_step_time
from fusionkit.compare.experiment.strategy import Setting, Strategy, notes_of_alone, settings
from fusionkit.compare.experiment.tuning import Trial, tune, validation_score
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.data.guard import check_straddling
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation.contribution import MOST
from fusionkit.recipe.sections import Recipe
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.interruption import Interrupted, stop_on_signals
from fusionkit.training.listener import Listener
from fusionkit.training.material import open_study, smoothed_together
from fusionkit.training.records import check_labels, divide, read_records
from fusionkit.training.stamped import no_empty_folder, stamped_folder

FACTS = "comparison.json"
CELLS = "cells"
LOCK = ".lock"
MATCHED = ("parameters", "step_time")


@dataclass(frozen=True)
class Asked:
    """What the user wants compared; a comparison is resumed only by the same words.

    Attributes:
        recipes: shipped ones or paths.
        overrides: changes to all of them.
        vary: keys and their values.
        seeds: how many, from the recipe's own on.
        faults: that every trained model is asked again under, and with every subset of its sensors; None asks
            nothing. A comparison that is done without may be resumed with them: nothing is trained again.
        match: ``parameters`` brings all strategies to the size of the first, ``step_time`` to the time that a step of
            its training takes; None leaves them as they are.
        tune: trials of every strategy in every fold, on validation records alone; None trains recipes as they are.
    """

    recipes: tuple[str, ...]
    overrides: tuple[str, ...]
    vary: tuple[str, ...]
    seeds: int
    faults: Faults | None = None
    match: str | None = None
    tune: int | None = None

    def said(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "recipes": list(self.recipes),
            "overrides": list(self.overrides),
            "vary": list(self.vary),
            "seeds": self.seeds,
            "match": self.match,
            "tune": self.tune,
        }


@dataclass(frozen=True)
class Block:
    """One setting of a comparison, made ready.

    Attributes:
        setting: its strategies.
        study: the records and signals that all of them see.
        split: the one that all of them use.
        notes: what is to be said of the split.
        cells: by strategy, fold and seed.
        trials: all that was tried to tune the strategies.
    """

    setting: Setting
    study: Study
    split: Split
    notes: tuple[str, ...]
    cells: dict[tuple[str, int, int], Cell]
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A comparison's folder: ``comparison.json``, per setting ``split.json``, and a folder a cell.

    Attributes:
        folder: where it lies.
        asked: what was compared.
        blocks: its settings.
        ended: how the cells ended, by key.
    """

    folder: Path
    asked: Asked
    blocks: tuple[Block, ...]
    ended: dict[str, Ended]

    @property
    def failed(self) -> list[tuple[Cell, str]]:
        """Cells that did not come to a result, and why."""
        cells = [cell for block in self.blocks for cell in block.cells.values()]
        return [(cell, self.ended[cell.key].problem) for cell in cells if self.ended[cell.key].problem]


Heard = Callable[[int, int, float], None]
"""Called with cells done, cells in all, and the seconds that the rest may take."""


def compare(
    asked: Asked,
    executor: Executor,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    heard: Heard = lambda done, total, left: None,
) -> Experiment:
    """Train all cells that are missing.

    Everything a user can have wrong is told before the first cell is trained. The split is made once, of the first
    recipe's section and seed, and kept; a strategy's seed changes weights and order of training alone.

    Args:
        asked: what to compare.
        executor: trains the cells.
        resume: go on with the newest comparison of these recipes.
        listener: hears of ingestion and notes.
        heard: hears of progress.

    Raises:
        ConfigError: a recipe is wrong, or there is no comparison to resume.
        DataError: the data break a rule.
        Interrupted: a stop was asked for; what is trained is kept, and ``resume`` goes on.
    """
    listener = listener or Listener()
    if asked.seeds < 1:
        raise ConfigError(f"--seeds must be 1 or more, but got {asked.seeds}")
    if asked.match not in (None, *MATCHED):
        raise ConfigError(f"--match must be {' or '.join(MATCHED)}, but got {asked.match!r}")
    if asked.tune is not None and asked.tune < 1:
        raise ConfigError(f"--tune must be 1 or more, but got {asked.tune}")
    wanted = settings(asked.recipes, asked.overrides, asked.vary)
    for one in (strategy for setting in wanted for strategy in setting.strategies if asked.faults is not None):
        if len(one.recipe.modalities) > MOST:
            raise ConfigError(
                f"--robustness asks with every subset of the sensors, which must be {MOST} or fewer, but "
                f"{one.label!r} has {len(one.recipe.modalities)}"
            )
    checked = [_check(setting) for setting in wanted]
    if asked.tune is not None and not all(len(fold.validation) for split in checked for fold in split.folds):
        raise ConfigError("--tune must have validation records in every fold; give data.split.validation")
    folder = _take_up(wanted[0], asked) if resume else _begin(wanted[0], asked)
    with _alone(folder):
        return _carry_out(folder, list(zip(wanted, checked, strict=True)), asked, executor, resume, listener, heard)


def _carry_out(
    folder: Path,
    wanted: Sequence[tuple[Setting, Split]],
    asked: Asked,
    executor: Executor,
    resume: bool,
    listener: Listener,
    heard: Heard,
) -> Experiment:
    with no_empty_folder(folder, ours=not resume):
        blocks = tuple(
            _block(setting, split, folder, number, asked, executor, listener, heard)
            for number, (setting, split) in enumerate(wanted)
        )
    cells = {cell.key: cell for block in blocks for cell in block.cells.values()}
    trained = {key: found for key, cell in cells.items() if (found := read_ended(cell)) and not found.problem}
    ended = {key: one for key, one in trained.items() if cells[key].asked}
    missing = [cell for key, cell in cells.items() if key not in ended]
    again = f", {len(trained) - len(ended)} to ask again" if len(trained) > len(ended) else ""
    listener.say(f"comparison {folder}: {len(cells)} cells, {len(cells) - len(trained)} to train{again}")
    _train(missing, ended, executor, len(cells), heard)
    return Experiment(folder, asked, blocks, ended)


def _check(setting: Setting) -> Split:
    """Refuse what cannot be trained while nothing is trained yet."""
    split: Split | None = None
    for strategy in setting.strategies:
        with located(strategy.label):
            records = read_records(strategy.recipe)
            split = split or divide(strategy.recipe, records)
            check_labels(strategy.recipe, records, split, range(len(split.folds)))
    assert split is not None
    return split


def _begin(setting: Setting, asked: Asked) -> Path:
    folder = stamped_folder(_parent(setting))
    try:
        write_atomically(folder / FACTS, (json.dumps(asked.said(), indent=1) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"run.dir: must be a folder to write to, but {folder}: {error.strerror}") from None
    return folder


def _take_up(setting: Setting, asked: Asked) -> Path:
    """The newest comparison of these words."""
    found = sorted(_parent(setting).glob(f"*/{FACTS}"), reverse=True)
    if not found:
        raise ConfigError(f"--resume needs an earlier comparison, but {_parent(setting)} has none")
    for path in found:
        try:
            said = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: must be whole to be resumed, but {error}") from None
        if {name: said.get(name) for name in asked.said()} == asked.said():
            return path.parent
    raise ConfigError(f"--resume needs the words that began the comparison, but {found[0]} has others")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a comparison's folder; whoever holds it and is killed holds it no more."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"a comparison must be trained by one process at a time, but {folder} has another") from None


def _parent(setting: Setting) -> Path:
    return Path(setting.recipe.run.dir) / f"{setting.recipe.name}-compare"


def _block(
    setting: Setting,
    split: Split,
    folder: Path,
    number: int,
    asked: Asked,
    executor: Executor,
    listener: Listener,
    heard: Heard,
) -> Block:
    """Ingest once, check that nothing leaks, keep the split, tune, and list the cells."""
    matched: tuple[str, ...] = ()
    if asked.match == "parameters":
        setting, matched = match_parameters(setting, split, listener)
    if asked.match == "step_time":
        setting, matched = match_step_time(setting, split, listener, folder / _numbered("matched", setting, number))
    recipes = {strategy.label: strategy.recipe for strategy in setting.strategies}
    studies = {label: open_study(recipe, listener.prepare) for label, recipe in recipes.items()}
    study = studies[setting.strategies[0].label]
    notes = [*matched, *notes_of_alone(setting), *split.notes(study.records)]
    for label, recipe in recipes.items():
        with located(f"{label}: data.split"):
            smoothed = smoothed_together(recipe, studies[label])
            notes += check_straddling(split, studies[label], recipe.data.allow_leakage, smoothed)
    kept = folder / _numbered("split", setting, number)
    if not kept.exists():
        split.save(kept)
    elif Split.load(kept, study.records).digest != split.digest:
        raise DataError(f"{kept}: a comparison must keep its split to be resumed, but the recipe now gives another")

    def make(strategy: Strategy, recipe: Recipe, fold: int, seed: int, faults: Faults | None) -> Cell:
        study, home = studies[strategy.label].digest, folder / CELLS
        return make_cell(strategy.label, recipe, fold, seed, study=study, split=split.digest, cells=home, faults=faults)

    tuned: dict[tuple[str, int], Recipe] = {}
    trials: list[Trial] = []
    if asked.tune is not None:
        known: dict[str, Ended] = {}
        total = asked.tune * len(setting.strategies) * len(split.folds)

        def train(cells: Sequence[Cell]) -> dict[str, Ended]:
            before = {one.key: ended for one in cells if (ended := read_ended(one)) and not ended.problem}
            known.update(before)
            _train([one for one in cells if one.key not in before], known, executor, total, heard)
            return known

        listener.say(f"tuning: {total} trainings")
        tuned, trials = tune(
            setting.strategies,
            len(split.folds),
            asked.tune,
            cell=lambda strategy, recipe, fold: make(strategy, recipe, fold, recipe.seed, None),
            train=train,
            score=validation_score(setting.recipe, study),
        )
        notes.append(
            f"tuned on validation records alone: {asked.tune} trials of every strategy in every fold, the recipe's "
            "own values first; tuning.csv has them all, and every fold takes its own best"
        )
    cells = {}
    for strategy in setting.strategies:
        for fold in range(len(split.folds)):
            recipe = tuned.get((strategy.label, fold), strategy.recipe)
            for seed in range(strategy.recipe.seed, strategy.recipe.seed + asked.seeds):
                cells[strategy.label, fold, seed] = make(strategy, recipe, fold, seed, asked.faults)
    order = sorted(cells, key=lambda place: (place[2], place[1]))  # a whole comparison early, then more seeds of it
    unique = tuple(dict.fromkeys(notes))
    for note in unique:
        listener.say(f"note: {note}")
    return Block(setting, study, split, unique, {place: cells[place] for place in order}, tuple(trials))


def _numbered(name: str, setting: Setting, number: int) -> str:
    return f"{name}-{number}.json" if setting.label else f"{name}.json"


def _train(missing: Sequence[Cell], ended: dict[str, Ended], executor: Executor, total: int, heard: Heard) -> None:
    began, known = time.monotonic(), len(ended)
    with stop_on_signals() as stop:
        running = executor.run(missing)
        try:
            for one in running:
                if one is not None:
                    ended[one.key] = one
                trained = len(ended) - known
                left = (time.monotonic() - began) / trained * (total - len(ended)) if trained else float("nan")
                heard(len(ended), total, left)
                if stop:
                    raise Interrupted(stop.signal)
        finally:
            running.close()


def describe(experiment: Experiment) -> dict[str, Any]:
    """What is kept of a comparison beside its cells: its words, the code, the splits and how the cells ended."""
    return {
        **experiment.asked.said(),
        "code": code_digest(),
        "settings": [
            {
                "label": block.setting.label,
                "split": block.split.digest,
                "study": block.study.digest,
                "notes": list(block.notes),
                "strategies": {one.label: one.role for one in block.setting.strategies},
                "cells": [
                    {"strategy": label, "fold": fold, "seed": seed, **vars(experiment.ended[cell.key])}
                    for (label, fold, seed), cell in block.cells.items()
                ],
            }
            for block in experiment.blocks
        ],
    }
