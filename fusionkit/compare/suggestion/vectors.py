"""The training records of a recipe as vectors and as streams, one a sensor, and who of them trains, chooses and scores."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusionkit.compare.suggestion.links import Stream
from fusionkit.compare.suggestion.probe import Material as Compared
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, Window, scrub, scrub_window
from fusionkit.core.modality import Array
from fusionkit.data.study import Study
from fusionkit.fusion.align import align
from fusionkit.fusion.graph import parse_graph
from fusionkit.recipe.build import build_front_end
from fusionkit.recipe.sections import Recipe
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.records import divide, learn_tasks

WIDTH = 16
DIRECTIONS = 64
MOST = 2000
"""Records that are compared, drawn from more."""
BINS = (16, 8, 4)
"""Clocks of a stream, the finest that has a step for each bin; with fewer steps it has no past."""
NUMBERS = 3
"""Principal components of a stream."""


def compared(
    recipe: Recipe, study: Study, task: str, seeds: int, device: torch.device
) -> tuple[Compared, list[Stream | None]]:
    """What `fusionkit.compare.suggestion.suggest.measure` and `measure_links` take, of the training and validation records of the recipe's first fold.

    Its test records have no part in it: not in what is fitted, not in statistics, not in losses. Those of other folds
    do, since the first trains on them (see `fusionkit.compare.suggestion.recommendation.seen_by_others`).

    Raises:
        ConfigError: the task has several labels a record.
        DataError: there are too few groups to be cut in three.
    """
    tasks, targets = learn_tasks(recipe, study.records)
    if targets[task].ndim > 1:
        raise ConfigError(f"a task must have one label a record, but {task} ({recipe.tasks[task].kind}) has several")
    fold = divide(recipe, study.records).folds[0]
    material = Material(recipe, study, device)
    rows = np.sort(np.concatenate([fold.train, fold.validation]))
    rows = rows[~material.excluded[rows] & ~np.isnan(targets[task][rows])]
    draw = np.random.default_rng(derive_seed("suggest", recipe.seed))
    if len(rows) > MOST:
        rows = np.sort(draw.choice(rows, MOST, replace=False))
    target = torch.from_numpy(targets[task][rows]).float()
    classes = len(tasks[task].classes)
    if not classes:
        target = (target - target.mean()) / target.std().clamp_min(1e-6)
    values, here, streams = _read(recipe, material, rows)
    parts = cut(study.records.group(recipe.data.split.by)[rows], seeds, draw)
    return Compared(values, here, target, classes, parts), streams


def cut(group: Int[np.ndarray, " record"], seeds: int, draw: np.random.Generator) -> Int[Tensor, "seed record"]:
    """Whole groups that train (0), choose (1) and score (2), drawn anew for each seed: about 55, 15 and 30 of 100.

    Raises:
        DataError: there are fewer than four groups.
    """
    _, place = np.unique(group, return_inverse=True)
    count = int(place.max()) + 1 if len(place) else 0
    if count < 4:
        raise DataError(f"training records must be of four groups or more to compare sensors, but they are of {count}")
    scores, chooses = max(1, round(0.3 * count)), max(1, round(0.15 * count))
    of_group = np.zeros(count, dtype=np.int64)
    of_group[:scores], of_group[scores : scores + chooses] = 2, 1
    return torch.from_numpy(np.stack([draw.permutation(of_group)[place] for _ in range(seeds)]))


def _read(
    recipe: Recipe, material: Material, rows: Array
) -> tuple[Float[Tensor, "sensor record width"], Bool[Tensor, "sensor record"], list[Stream | None]]:
    graph = parse_graph({"kind": "concat", "dim": recipe.graph.dim}, list(recipe.modalities))
    featured = replace(recipe, graph=graph, augment={})  # an early node takes features of every sensor
    modalities = material.fit_modalities(featured, rows, (), recipe.seed)
    loader = material.loader(featured, modalities, {})
    torch.manual_seed(derive_seed("suggest", recipe.seed))  # embeddings of words begin at random
    fronts = {
        name: build_front_end(recipe, name, modalities[name], material.stored[name]).to(material.device)
        for name in modalities
    }
    seconds = [material.stored[name].seconds for name in modalities]
    duration = max((one for one in seconds if one is not None), default=None)
    made: dict[str, list[Tensor]] = {name: [] for name in modalities}
    here: dict[str, list[Tensor]] = {name: [] for name in modalities}
    clocked: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in modalities}
    bins: dict[str, int | None] = {}
    with torch.no_grad():
        for chunk in torch.split(torch.from_numpy(rows), loader.chunk):
            for name, level in loader.batch(chunk).inputs.items():
                if isinstance(level, Window):
                    level = scrub_window(level)
                    values, mask = fronts[name].eval()(level.values, level.length)
                    time = fronts[name].times(values.shape[1])
                    time = None if time is None else time.to(values.device).expand(len(values), -1)
                    level = Features(values, mask, level.present, time)
                made[name].append(summarise(level).cpu())
                here[name].append(level.present.cpu())
                if level.present.any():
                    bins.setdefault(name, clock(level))
                if (count := bins.get(name)) is not None and duration is not None:
                    clocked[name].append(_binned(level, count, duration))
    present = torch.stack([torch.cat(here[name]) for name in modalities])
    vectors = [principal(torch.cat(made[name]), there) for name, there in zip(modalities, present, strict=True)]
    streams = [_stream(clocked[name], len(rows)) if clocked[name] else None for name in modalities]
    return torch.stack(vectors), present, streams


def clock(features: Features) -> int | None:
    """The finest of `BINS` that half of the records here have steps for; None where there is no past.

    Records of 10 steps have 8 bins, those of 3 none.
    """
    if features.time is None:
        return None
    steps = features.mask[features.present].sum(1).float().median()
    return next((bins for bins in BINS if steps >= bins), None)


def _binned(features: Features, bins: int, duration: float) -> tuple[Tensor, Tensor]:
    clean = scrub(features)
    values, real = align(torch.nan_to_num(clean.values.flatten(2).float()), clean.mask, clean.time, bins, duration)
    return values.cpu(), real.cpu()


def _stream(parts: list[tuple[Tensor, Tensor]], records: int) -> Stream:
    """The first `NUMBERS` principal components of standardised numbers of all real bins; the first records may lack it."""
    values, real = (torch.cat(side) for side in zip(*parts, strict=True))
    turned = principal(values.flatten(0, 1), real.flatten(), NUMBERS).reshape(*real.shape, NUMBERS)
    lacking = records - len(values)
    made = torch.cat([turned.new_zeros(lacking, *turned.shape[1:]), turned])
    return Stream(made.double().numpy(), torch.cat([real.new_zeros(lacking, real.shape[1]), real]).numpy())


def summarise(features: Features) -> Float[Tensor, "record number"]:
    """Mean and deviation of every feature over a record's real steps, and the log deviation along `DIRECTIONS`.

    A direction is a random weight for every number of two steps in a row, always the same ones: what has a slope, a rhythm
    or a texture is longer along some than others. What takes more than two steps to be seen is lost.
    """
    values = torch.nan_to_num(features.values.flatten(2).float())
    real = (features.mask & features.present[:, None]).float()[..., None]
    count = real.sum(1, keepdim=True).clamp_min(1)
    mean = (values * real).sum(1, keepdim=True) / count
    centred = (values - mean) * real
    deviation = (centred.square().sum(1) / count[:, 0]).sqrt()
    follower = torch.cat([centred[:, 1:], centred[:, :1] * 0], 1)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, values.shape[-1], DIRECTIONS, generator=generator).to(values.device)
    along = centred @ weights[0] + follower @ weights[1]
    length = (along.square().sum(1) / count[:, 0] + 1e-6).log()
    return torch.cat([mean[:, 0], deviation, length], 1)


def principal(
    values: Float[Tensor, "record number"], here: Bool[Tensor, " record"], width: int = WIDTH
) -> Float[Tensor, "record {width}"]:
    """The first principal components of standardised numbers, standardised; zeros where a sensor is absent."""
    seen = values[here]
    if not len(seen):
        return values.new_zeros(len(values), width)
    mean, spread = seen.mean(0), seen.std(0, correction=0)
    scaled = torch.where(spread > 1e-6, (values - mean) / spread.clamp_min(1e-6), torch.zeros_like(values))
    scaled = torch.where(here[:, None], scaled, torch.zeros_like(scaled))
    _, size, turn = torch.linalg.svd(scaled[here], full_matrices=False)
    keep = min(width, int((size > 1e-4 * size[0]).sum()))
    made = scaled @ turn[:keep].T * (len(seen) ** 0.5 / size[:keep].clamp_min(1e-6))
    return torch.nn.functional.pad(made, (0, width - keep))
