"""A trained cell that can be asked again: its model, its test records, and what they look like in other conditions."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader
from fusionkit.data.splits import Split
from fusionkit.evaluation.baselines import majority
from fusionkit.evaluation.predict import prediction
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.device import pick_device
from fusionkit.training.fold import load_result
from fusionkit.training.material import Material, open_study
from fusionkit.training.run import Run
from fusionkit.training.trained import Trained, load_trained


@dataclass(frozen=True)
class AskedAgain:
    """The model of a cell, as it was when it was trained.

    Attributes:
        trained: the model with its sensors and tasks.
        material: the study and its features.
        loader: gives batches as training took them.
        rows: its test records.
        tested: all test records of its fold, ascending, of which a model that needs their first seconds answers fewer.
    """

    trained: Trained
    material: Material
    loader: Loader
    rows: Array
    tested: Array

    @property
    def sensors(self) -> list[str]:
        """Names, in the order of the recipe."""
        return list(self.trained.recipe.modalities)

    def prior(self) -> dict[str, Array]:
        """By task, the training prior as the answer for every test record."""
        return {name: majority(task, len(self.rows)) for name, task in self.trained.tasks.items()}

    def predictions(self, decisions: dict[str, Array]) -> dict[str, Array]:
        """Decisions by task as metrics want them."""
        return {name: prediction(task, decisions[name]) for name, task in self.trained.tasks.items()}


@dataclass(frozen=True)
class Answers:
    """What a model answered in several conditions.

    Attributes:
        rows: the test records.
        conditions: one for each of the first axis, as plain data.
        predictions: by task ``(condition, record, *outcome)``, probabilities or values.
    """

    rows: Array
    conditions: list[Any]
    predictions: dict[str, Array]


def ask_again(run: Run, fold: int) -> AskedAgain:
    """Load the model that a cell trained, and the data that it was trained on.

    Raises:
        DataError: the fold is not trained to the end, or the data have changed since.
    """
    recipe, device = run.recipe, pick_device(run.recipe.train.device)
    study = open_study(recipe)
    run.check_unchanged(study, "a model that is asked again")
    material = Material(recipe, study, device)
    trained = load_trained(run, fold, device=device)
    loader = material.loader(trained.recipe, trained.modalities, {})
    rows = load_result(run.arm_folder(fold, FUSED)).rows["test"]
    tested = Split.load(run.folder / "split.json", study.records).folds[fold].test
    return AskedAgain(trained, material, loader, rows, tested)


def save_answers(path: Path, answers: Answers, settings: Any) -> None:
    """Keep answers, and what they depend on beside the cell itself."""
    tensors = {"rows": torch.from_numpy(np.asarray(answers.rows))}
    tensors |= {f"task|{task}": torch.from_numpy(values) for task, values in answers.predictions.items()}
    save_tensors(path, tensors, {"conditions": answers.conditions, "settings": _settled(settings)})


def load_answers(path: Path, settings: Any) -> Answers | None:
    """Read what `save_answers` kept; None where there is nothing, or it was made with other settings or other code."""
    try:
        tensors, facts = load_tensors(path)
    except DataError:
        return None
    if facts.get("settings") != _settled(settings):
        return None
    predictions = {name.removeprefix("task|"): x.numpy() for name, x in tensors.items() if name.startswith("task|")}
    return Answers(tensors["rows"].numpy(), list(facts["conditions"]), predictions)


def _settled(settings: Any) -> dict[str, Any]:
    """With the code that asks: a cell's key knows all other code."""
    digest = hashlib.sha256()
    for name in ("asked_again", "corruption", "subsets"):
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return {"asked": settings, "code": digest.hexdigest()}
