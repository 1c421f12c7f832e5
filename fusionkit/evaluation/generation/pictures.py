"""Pictures of generated records of one sensor beside real ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Array, Stored
from fusionkit.evaluation.generation.drawings import draw_distances, draw_maps
from fusionkit.evaluation.generation.maps import neighbour_map, principal_map
from fusionkit.evaluation.generation.quality import LEAST
from fusionkit.evaluation.generation.samples import Samples, cap, count_classes, draw, see
from fusionkit.evaluation.generation.wasserstein import wasserstein

SHOWN = 150  # records of each origin on a map
AVERAGED = 2000  # records of each origin in the means of classes
MOVED = 500
CHUNK = 64
ORIGINS = {"training": "training", "held_out": "held-out", "made": "generated"}


def draw_samples(samples: Samples, classes: Sequence[str], seed: int) -> dict[str, Figure]:
    """Maps of the records in a plane, and how far each of their numbers is moved; about five seconds.

    Args:
        samples: as `fusionkit.evaluation.generation.quality.judge` takes them.
        classes: names of the classes.
        seed: draws at most 150 records of each origin for the maps, and 500 for the distances, in their shares of classes.

    Returns:
        Figures by what they show; none where there are fewer than ten training or generated records.
    """
    generator = np.random.default_rng(seed)
    seen = see(samples, generator)
    values, labels = seen.vectors.values, seen.vectors.labels
    if min(len(values["training"]), len(values["made"])) < LEAST:
        return {}
    rows = {name: draw(label, cap(count_classes(label), SHOWN), generator) for name, label in labels.items()}
    points = np.concatenate([values[name][at] for name, at in rows.items()])
    origin = [ORIGINS[name] for name, at in rows.items() for _ in at]
    label = np.concatenate([labels[name][at] for name, at in rows.items()])
    maps = {
        "principal components of training": principal_map(values["training"], points),
        "t-SNE": neighbour_map(points, seed),
    }
    return {
        "maps of the records": draw_maps(maps, origin, label, classes),
        "how far each number is moved": draw_distances(_distances(seen.numbers, generator)),
    }


def draw_by_class(
    modality: Modality, stored: Stored, samples: Samples, classes: Sequence[str], front_end: FrontEnd | None = None
) -> Mapping[str, Figure]:
    """What the sensor draws of its features by class (an EEG's topographies), generated ones as classes of their own.

    Args:
        modality: the sensor.
        stored: what the study knows of it.
        samples: its features ``(record, time, channel, subchannel)``, or windows.
        classes: their names.
        front_end: makes features of windows; None where the samples are features.
    """
    generator = np.random.default_rng(0)
    parts, numbers = [], []
    for place, (values, label) in enumerate((samples[:2], samples[4:])):
        rows = np.sort(draw(label, cap(count_classes(label), AVERAGED), generator))
        parts.append(values[rows] if front_end is None else _features(front_end, values[rows]))
        numbers.append(2 * label[rows] + place)
    names = [f"{name}\n{origin}" for name in classes for origin in ("real", "generated")]
    return modality.figures(np.concatenate(parts), np.concatenate(numbers), names, stored)


@torch.no_grad()
def _features(front_end: FrontEnd, windows: Array) -> Array:
    """Features of whole windows."""
    found = []
    for part in np.array_split(windows, max(1, len(windows) // CHUNK)):
        given = torch.from_numpy(np.ascontiguousarray(part))
        found.append(front_end(given, torch.full((len(given),), given.shape[-1]))[0].numpy())
    return np.concatenate(found)


def _distances(numbers: Samples, generator: np.random.Generator) -> dict[str, Array]:
    """The Wasserstein distance of every number, of the pairs that there are."""
    held = len(numbers.held_out) >= LEAST
    half = len(numbers.training) // 2
    size = min(MOVED, half, len(numbers.made), len(numbers.held_out) if held else MOVED)
    order = generator.permutation(len(numbers.training))
    one, other = numbers.training[order[:half]][:size], numbers.training[order[half:]][:size]
    made = numbers.made[generator.permutation(len(numbers.made))[:size]]
    found = {"generated and training": wasserstein(one, made), "two halves of training": wasserstein(one, other)}
    if held:
        held_out = numbers.held_out[generator.permutation(len(numbers.held_out))[:size]]
        found["generated and held-out"] = wasserstein(held_out, made)
        found["training and held-out"] = wasserstein(held_out, one)
    return found
