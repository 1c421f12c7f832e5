"""Training, held-out and generated records of one sensor, as they are compared."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA

from fusionkit.core.recording import Array

WIDEST, COMPONENTS = 1024, 256
FITTED = 3000  # records that principal components are of


class Samples(NamedTuple):
    """Records and their classes: what the generator learned from, what it never saw, and what it made."""

    training: Float[np.ndarray, "record *item"]
    training_label: Int[np.ndarray, " record"]
    held_out: Float[np.ndarray, "other *item"]
    held_out_label: Int[np.ndarray, " other"]
    made: Float[np.ndarray, "more *item"]
    made_label: Int[np.ndarray, " more"]

    @property
    def labels(self) -> dict[str, Array]:
        """Classes by origin."""
        return {"training": self.training_label, "held_out": self.held_out_label, "made": self.made_label}


def flatten(samples: Samples) -> Samples:
    """Records as vectors, without those that have a number missing."""
    parts: list[Array] = []
    for values, label in (samples[:2], samples[2:4], samples[4:]):
        flat = np.asarray(values, np.float64).reshape(len(values), int(np.prod(values.shape[1:])))
        keep = np.isfinite(flat).all(1)
        parts += [flat[keep], np.asarray(label, np.int64)[keep]]
    return Samples(*parts)


def standardise(samples: Samples, generator: np.random.Generator) -> tuple[Samples, int | None]:
    """See vectors in deviations of the training records; very wide ones through those records' principal components.

    Args:
        samples: from `flatten`.
        generator: draws records for the components.

    Returns:
        The vectors, and how many components they have: None where they are not projected.
    """
    mean, deviation = samples.training.mean(0), samples.training.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    seen = [(values - mean) / deviation for values in (samples.training, samples.held_out, samples.made)]
    count: int | None = None
    if samples.training.shape[1] > WIDEST:
        rows = np.sort(generator.permutation(len(samples.training))[:FITTED])
        count = min(COMPONENTS, len(rows))
        fitted = PCA(count, svd_solver="randomized", random_state=int(generator.integers(2**31))).fit(seen[0][rows])
        seen = [fitted.transform(values) if len(values) else values[:, :count] for values in seen]
    return Samples(seen[0], samples.training_label, seen[1], samples.held_out_label, seen[2], samples.made_label), count


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
