"""Decisions about training records by branches that never saw them: what a meta-classifier learns from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from fusionkit.core import registry
from fusionkit.core.levels import Decision
from fusionkit.core.modality import Array, Modality
from fusionkit.evaluation.predict import outputs
from fusionkit.fusion.model import FusionModel
from fusionkit.fusion.operation import Fittable, LateFusion, TrainingBatch
from fusionkit.recipe.sections import Recipe
from fusionkit.training.checkpoint import load_tensors, save_tensors
from fusionkit.training.fitting import Job, train_model
from fusionkit.training.interruption import StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.order import derive_seed, inner_parts
from fusionkit.training.parallel import is_leader, wait

HELD_OUT = "held_out.safetensors"


class _Steps(Listener):
    """Tells of steps alone: epochs of an inner training are none of the run's."""

    def __init__(self, listener: Listener) -> None:
        self.step = listener.step  # type: ignore[method-assign]


def fit_out_of_fold(
    model: FusionModel,
    job: Job,
    fit_modalities: Callable[[Job], dict[str, Modality]],
    *,
    listener: Listener,
    stop: StopRequest | None = None,
) -> None:
    """Fit late operations that want decisions about records which no branch has seen.

    The training groups are cut into parts; for each, branches are trained on the others, exactly as the model itself
    will be (validation chooses the epoch), and decide about it. No decision about a validation or test record is
    used. An inner training is resumed after a kill, a finished one is read from disk.

    Encoders that were trained before begin in every inner training as they do in the model, and have then seen the
    records that are held out, with their labels where an objective or another run's training looked at them: decisions
    are surer than they would be about new records. `notes_of_held_out` says so.

    Args:
        model: whose late operations are fitted.
        job: what the model will train on.
        fit_modalities: gives the sensors of an inner training, fitted to its records alone.
        listener: hears of steps.
        stop: a request to save and leave.
    """
    merges = {name: cast(LateFusion, merge) for name, merge in model.merges.items()}
    folds = max((merge.held_out for merge in merges.values()), default=0)
    if not folds:
        return
    groups = job.material.study.records.group(job.recipe.data.split.by)
    parts = inner_parts(job.train, groups, folds, derive_seed("inner", job.seed))
    found = [_decide(job, number, part, fit_modalities, listener, stop) for number, part in enumerate(parts)]
    rows = torch.from_numpy(np.concatenate(parts))
    whole = {name: torch.cat([tensors[name] for tensors in found]) for name in found[0]}
    for task, merge in merges.items():
        if not isinstance(merge, Fittable):
            continue
        target = torch.from_numpy(job.targets[task]).float()[rows]
        target = target[:, None] if task in model.value_tasks and target.ndim == 1 else target
        batch = TrainingBatch(
            {branch: Decision(whole[f"{task}|{branch}"], whole[f"seen|{branch}"]) for branch in merge.inputs},
            {task: target},
        )
        with torch.no_grad():
            merge.cpu().fit(partial(iter, [batch]), torch.Generator().manual_seed(derive_seed("meta", job.seed)))
            merge.to(job.material.device)


def notes_of_held_out(recipe: Recipe) -> list[str]:
    """What a report must say of late nodes whose branches begin with encoders that saw what is held out from them."""
    end = recipe.graph.end
    if end.level != "late" or not (recipe.pretrain or recipe.init.from_):
        return []
    merge: LateFusion = registry.fusion.build(end.kind, end.options, tuple(end.inputs))
    if not merge.held_out:
        return []
    begin = "encoders that were trained before on all training records, those that are held out from them included"
    return [f"{end.name} ({end.kind}) learns from the decisions of branches which begin with {begin}"]


def _decide(
    job: Job,
    number: int,
    part: Array,
    fit_modalities: Callable[[Job], dict[str, Modality]],
    listener: Listener,
    stop: StopRequest | None,
) -> dict[str, Tensor]:
    """Decisions of one inner training about its own part, by ``task|branch``, and ``seen|branch``."""
    folder = job.folder / f"inner-{number}"
    if not (folder / HELD_OUT).exists():
        inner = replace(
            job.without(part),
            folder=folder,
            seed=derive_seed("inner", job.seed, number),
            generated=(),  # what made them has seen the part
        )
        inner = replace(inner, modalities=fit_modalities(inner))
        model, loader, _ = train_model(inner, listener=_Steps(listener), stop=stop)
        answers = outputs(model, loader, part)
        tensors = {
            f"{task}|{branch}": torch.cat([answer.branches[branch][task] for answer in answers])
            for branch in answers[0].branches
            for task in model.merges
        }
        for branch in answers[0].branches:
            tensors[f"seen|{branch}"] = torch.cat([answer.seen[branch] for answer in answers])
        if is_leader():
            save_tensors(folder / HELD_OUT, tensors, {"rows": part.tolist()})
        wait()
    return load_tensors(folder / HELD_OUT)[0]
