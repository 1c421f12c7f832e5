"""A trained model as a run keeps it: the recipe's parts, with weights, vocabularies and classes put back."""

from dataclasses import dataclass

import torch

from fusionkit.core.errors import DataError, located
from fusionkit.core.modality import Modality, Stored
from fusionkit.fusion.model import FusionModel
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_modalities, build_model, build_tasks
from fusionkit.recipe.sections import Recipe
from fusionkit.training.arm import FUSED, arms
from fusionkit.training.checkpoint import load_tensors, restore_model
from fusionkit.training.fold import PREDICTIONS, load_result
from fusionkit.training.run import Run


@dataclass(frozen=True)
class Trained:
    """One arm of one fold, ready to answer."""

    recipe: Recipe
    model: FusionModel
    modalities: dict[str, Modality]
    tasks: dict[str, Task]
    stored: dict[str, Stored]


def load_trained(run: Run, fold: int, arm: str = FUSED, device: torch.device | None = None) -> Trained:
    """Load the best weights of an arm.

    Raises:
        DataError: the run has no such arm or fold, it is not finished, or a file of it is broken.
    """
    recipes = {made.name: made.recipe for made in arms(run.recipe)}
    folder = run.arm_folder(fold, arm)
    if arm not in recipes or not (folder / PREDICTIONS).exists():
        done = f"; those that are: {run.folds()}" if run.folds() else ""
        raise DataError(f"{run.folder}: fold {fold} of {arm!r} must be trained to the end, but it is not{done}")
    recipe, stored = recipes[arm], run.stored
    modalities = build_modalities(recipe)
    for name, modality in modalities.items():
        files = folder / "files" / name
        if not modality.fitted:
            continue
        with located(str(files)):
            modality.restore({file.name: file.read_bytes() for file in sorted(files.iterdir()) if file.is_file()})
    tasks = build_tasks(recipe)
    for name, state in load_result(folder).states.items():
        tasks[name].restore(state)
    model = build_model(recipe, modalities, stored, tasks)
    tensors, _ = load_tensors(folder / "best.safetensors")
    kept = "model.model."  # the objective's model, not what only trained it
    restore_model(model, {f"model.{n.removeprefix(kept)}": x for n, x in tensors.items() if n.startswith(kept)})
    return Trained(recipe, model.to(device or torch.device("cpu")).eval(), modalities, tasks, stored)
