"""Training, held-out and generated records of one sensor, as they are compared."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fusionkit.core.recording import Array

WIDEST, DIRECTIONS = 1024, 256
CHUNK = 256


class Samples(NamedTuple):
    """Records and their classes: what the generator learned from, what it never saw, and what it made."""

    training: Float[np.ndarray, "record *item"]
    training_label: Int[np.ndarray, " record"]
    held_out: Float[np.ndarray, "other *item"]
    held_out_label: Int[np.ndarray, " other"]
    made: Float[np.ndarray, "more *item"]
    made_label: Int[np.ndarray, " more"]

    @property
    def values(self) -> dict[str, Array]:
        """Records by origin."""
        return {"training": self.training, "held_out": self.held_out, "made": self.made}

    @property
    def labels(self) -> dict[str, Array]:
        """Classes by origin."""
        return {"training": self.training_label, "held_out": self.held_out_label, "made": self.made_label}


class Seen(NamedTuple):
    """Records as vectors, without those that have a number missing.

    Attributes:
        vectors: what is compared: records in deviations of the training records, or where these are very wide, projections
            of that on random directions, which keep distances but for a few percent and favour no sample.
        numbers: single numbers in deviations of the training records: all, or of very wide records some.
        directions: how many there are; None where nothing is projected.
        stretch: how much longer vectors are along a line than records are, on average.
    """

    vectors: Samples
    numbers: Samples
    directions: int | None = None
    stretch: float = 1.0


def see(samples: Samples, generator: np.random.Generator) -> Seen:
    """Make vectors of records, standardised by mean and deviation of the training records; a constant number keeps its own.

    Args:
        samples: of one shape.
        generator: draws directions and numbers of records that have more than 1024 numbers.

    Reference:
        Johnson and Lindenstrauss, 1984, of random directions; 256 of them change a squared distance by 9 % (one deviation).
    """
    flat: list[Array] = []
    for values, label in (samples[:2], samples[2:4], samples[4:]):
        rows = values.reshape(len(values), math.prod(values.shape[1:]))
        keep = np.isfinite(rows).all(1)
        flat += [rows[keep], np.asarray(label, np.int64)[keep]]
    width = flat[0].shape[1]
    mean, deviation = flat[0].mean(0, dtype=np.float64), flat[0].std(0, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)
    some = np.sort(generator.permutation(width)[:WIDEST])
    numbers = _each(flat, lambda rows: (rows[:, some] - mean[some]) / scale[some])
    if width <= WIDEST:
        return Seen(numbers, numbers)
    lines = generator.normal(size=(width, DIRECTIONS)) / np.sqrt(DIRECTIONS)
    vectors = _each(flat, lambda rows: ((rows - mean) / scale) @ lines)
    return Seen(vectors, numbers, DIRECTIONS, math.sqrt(width / DIRECTIONS))


def _each(flat: list[Array], change: Callable[[Array], Array]) -> Samples:
    """Records of all origins, changed a few at a time."""
    parts: list[Array] = []
    for rows, label in zip(flat[::2], flat[1::2], strict=True):
        parts += [np.concatenate([change(part) for part in np.array_split(rows, 1 + len(rows) // CHUNK)]), label]
    return Samples(*parts)


def draw(label: Int[np.ndarray, " record"], counts: dict[int, int], generator: np.random.Generator) -> Array:
    """Rows of so many records of each class, class by class."""
    rows = [generator.permutation(np.flatnonzero(label == class_))[:count] for class_, count in counts.items()]
    return np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)


def count_classes(label: Int[np.ndarray, " record"]) -> dict[int, int]:
    """How many records each class has, of those that have any."""
    numbers, counts = np.unique(label, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def cap(counts: dict[int, int], most: int) -> dict[int, int]:
    """At most so many records in all, with the same shares: 30 and 10, at most 20, are 15 and 5."""
    total = sum(counts.values())
    return {class_: count * most // total if total > most else count for class_, count in counts.items()}
