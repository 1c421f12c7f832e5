"""One fold and seed of one sensor: the recipe's own model, trained with what strategies of augmentation append."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fusionkit.compare.augmentation.judging import PARTS, Cell, strategies
from fusionkit.compare.augmentation.scores import MODEL, NONE, OWN, Score
from fusionkit.core.errors import ConfigError
from fusionkit.data.generated import Generated
from fusionkit.evaluation.metrics import score
from fusionkit.evaluation.predict import prediction
from fusionkit.recipe.sections import Recipe
from fusionkit.training.arm import FUSED, Arm
from fusionkit.training.fold import train_fold
from fusionkit.training.generating import refuse_mixed
from fusionkit.training.selection import wanted_records

MIXUP = 0.2
"""Alpha of the model's own mixup, where the recipe has none."""


def judge_model(cell: Cell, amounts: Sequence[float]) -> tuple[list[Score], list[str]]:
    """Train the recipe's model alone and with what strategies append for the sensor; other sensors get nothing.

    Every strategy is tried at the recipe's amount, and the recipe's own at every amount. Mixup is that of training
    (``train.mixup``) and appends nothing. Weights and order are the same in all trainings of a cell.

    Args:
        cell: sensor, fold and seed.
        amounts: above 0.

    Returns:
        Scores of validation and test, and what a reader must know.

    Raises:
        Interrupted: a stop was asked for; trainings are saved.
    """
    scores: list[Score] = []
    plain = _without_generators(cell.recipe)
    notes = []
    if plain.data.labels is None and not plain.train.consistency:
        notes.append("epochs of the recipe's model are as many whatever is appended, and longer where more is")
    for strategy, amount in _plan(cell, amounts):
        recipe, made = plain, list[Generated]()
        if strategy == "mixup":
            reason = _no_mixup(recipe)
            if reason:
                notes.append(f"mixup is left out for the recipe's model: {reason}")
                continue
            recipe = replace(recipe, train=recipe.train.model_copy(update={"mixup": MIXUP}))
        elif strategy != NONE:
            try:
                made = [cell.generated(strategy, amount)]
            except ConfigError as error:
                if strategy in OWN:
                    raise
                reason = str(error).rpartition(f"fold {cell.fold}: ")[2]
                notes.append(f"{strategy} is left out for the recipe's model: {reason}")
                continue
        cell.check()
        scores += _train(cell, recipe, strategy, amount, made)
    return scores, notes


def forget(cell: Cell) -> None:
    """Remove the models of a cell whose scores are kept: of a sweep they are many."""
    shutil.rmtree(cell.folder / MODEL / cell.sensor, ignore_errors=True)


def check_model(recipe: Recipe) -> None:
    """Refuse recipes whose model does not begin with random weights, or that cannot learn what is appended.

    Raises:
        ConfigError: it is pretrained, or begins as another run's; or records are of mixed classes.
    """
    refuse_mixed(recipe.generators)
    if recipe.pretrain or recipe.init.from_ is not None:
        section = "pretrain" if recipe.pretrain else "init"
        raise ConfigError(
            f"--model trains the recipe's model from random weights, which {section} contradicts; leave out --model or {section}"
        )


def _plan(cell: Cell, amounts: Sequence[float]) -> Iterator[tuple[str, float]]:
    yield NONE, 0.0
    for strategy in strategies(cell.entry):
        if strategy == cell.entry.use:
            yield from ((strategy, amount) for amount in amounts)
        elif cell.entry.add:
            yield strategy, cell.entry.add


def _without_generators(recipe: Recipe) -> Recipe:
    return replace(recipe, augment={name: recipe.changes(name) for name in recipe.augment})


def _no_mixup(recipe: Recipe) -> str:
    """Why the model cannot be trained with mixup; empty where it can."""
    if recipe.train.mixup:
        return "the recipe has it already, beside every strategy"
    return "consistency compares answers to the same record" if recipe.train.consistency else ""


def _train(cell: Cell, recipe: Recipe, strategy: str, amount: float, made: Sequence[Generated]) -> list[Score]:
    folder = cell.folder / MODEL / cell.sensor / f"{strategy}-{amount:g}"
    called = f"{cell.sensor} {strategy} {amount:g}"
    cell.listener.begin(called, cell.fold, len(cell.split.folds), recipe.train.epochs)
    result = train_fold(
        Arm(FUSED, recipe),
        cell.material,
        cell.split.folds[cell.fold],
        cell.fold,
        folder,
        generated=[one for one in made if len(one)],
        listener=cell.listener,
        stop=cell.stop,
    )
    cell.listener.end(called, cell.fold, result.seconds)
    name, (task, target) = str(cell.entry.task), cell.task
    task.restore(result.states[name])
    scores = []
    for part in PARTS:
        rows = result.rows[part]
        labelled = int((~np.isnan(target[rows])).sum())
        if labelled:
            found = score(task, prediction(task, result.decisions[part]["all"][name]), target[rows])
            appended = sum(map(len, made))
            wanted = sum(wanted_records(np.bincount(cell.origin.label).tolist(), amount)) if made else 0
            where = (cell.sensor, cell.fold, cell.seed, MODEL, strategy, amount, part)
            scores.append(Score(*where, labelled, wanted, appended, found))
    return scores
