"""All that is measured of generated records of one sensor, beside what real ones give."""

import time
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fusionkit.core.recording import Array
from fusionkit.evaluation.generation.copies import find_copies
from fusionkit.evaluation.generation.distances import median_distance
from fusionkit.evaluation.generation.manifold import precision_and_recall
from fusionkit.evaluation.generation.mmd import discrepancy
from fusionkit.evaluation.generation.samples import Samples, Seen, cap, count_classes, draw, see
from fusionkit.evaluation.generation.transfer import transfer
from fusionkit.evaluation.generation.two_sample import two_sample_test
from fusionkit.evaluation.generation.wasserstein import sliced_wasserstein, wasserstein

MOST = 500  # records of each sample in a comparison
LEAST = 10
TAUGHT = 3000  # records that train a classifier


def judge(
    real: Float[np.ndarray, "record *item"],
    real_label: Int[np.ndarray, " record"],
    held_out: Float[np.ndarray, "other *item"],
    held_out_label: Int[np.ndarray, " other"],
    made: Float[np.ndarray, "more *item"],
    made_label: Int[np.ndarray, " more"],
    seed: int,
) -> dict[str, Any]:
    """Judge generated records of one sensor in one fold.

    Every pair of samples is of one size with the same number of each class, at most 500 records drawn by the seed, for
    all measures depend on how many records there are; so two halves of the training records give their scale. Numbers
    are standardised by the training records; records of more than 1024 numbers are projected on 256 random directions, but for
    `wasserstein`, which takes 1024 of the numbers. It takes about five seconds for 3000 records of 310 numbers on one core.

    Args:
        real: the fold's training records, as the generator saw them.
        real_label: their classes.
        held_out: real records of the fold that no generator saw; there may be none.
        held_out_label: their classes.
        made: generated records.
        made_label: the classes they should have.
        seed: draws records, halves and directions.

    Returns:
        Plain data. ``records`` counts records, and those of each sample that are ``compared``; ``missing`` are classes
        with no generated record, ``left_out`` those with too few records to compare. ``pairs`` are ``made_training``,
        ``halves`` of the training records and, where enough are held out, ``made_held_out`` and ``training_held_out``, each
        with ``wasserstein``, ``sliced``, ``mmd``, ``mmd_biased``, ``two_sample`` (``value``, ``low``, ``high``),
        ``precision`` and ``recall``. ``classes``, by number as text, have a ``count``, ``wasserstein`` and that of
        ``halves``. ``copies`` and ``transfer`` are as their modules say, ``directions`` None where records are not projected.
        With fewer than ten records to compare there are only ``records``, ``missing`` and ``seconds``.
    """
    began = time.monotonic()
    generator = np.random.default_rng(seed)
    seen = see(Samples(real, real_label, held_out, held_out_label, made, made_label), generator)
    samples = seen.vectors
    counts = {name: count_classes(label) for name, label in samples.labels.items()}
    found: dict[str, Any] = {
        "records": {name: len(label) for name, label in samples.labels.items()},
        "missing": [class_ for class_ in counts["training"] if class_ not in counts["made"]],
    }
    each = _common(counts["training"], counts["made"], counts["held_out"])
    if sum(each.values()) < LEAST:  # too few are held out: without them
        each = _common(counts["training"], counts["made"], None)
    found["records"]["compared"] = sum(each.values())
    if sum(each.values()) >= LEAST:
        found["left_out"] = [class_ for class_ in counts["training"] if class_ not in each]
        found["directions"] = seen.directions
        found |= _compare(seen, each, generator, seed)
        asked = np.sort(generator.permutation(len(samples.held_out))[:MOST])
        among, drawn = (draw(samples.labels[name], each, generator) for name in ("training", "made"))
        found["copies"] = find_copies(
            samples.training, samples.held_out[asked], samples.made[drawn], among=samples.training[among]
        )._asdict()
        found["transfer"] = _transfer(samples, counts, generator)
    found["seconds"] = time.monotonic() - began
    return found


def _compare(seen: Seen, each: dict[int, int], generator: np.random.Generator, seed: int) -> dict[str, Any]:
    """Measures of pairs of samples of one size, and of every class."""
    label = seen.vectors.labels
    both = draw(label["training"], {class_: 2 * count for class_, count in each.items()}, generator)
    half = np.concatenate([np.repeat([True, False], count) for count in each.values()])
    rows = {
        "one": ("training", both[half]),
        "other": ("training", both[~half]),
        "made": ("made", draw(label["made"], each, generator)),
    }
    pairs = {"made_training": ("one", "made"), "halves": ("one", "other")}
    held = count_classes(label["held_out"])
    if all(held.get(class_, 0) >= count for class_, count in each.items()):
        rows["held_out"] = ("held_out", draw(label["held_out"], each, generator))
        pairs |= {"made_held_out": ("held_out", "made"), "training_held_out": ("held_out", "one")}
    vectors, numbers = (
        {name: given.values[origin][at] for name, (origin, at) in rows.items()}
        for given in (seen.vectors, seen.numbers)
    )
    sigma, line = median_distance(vectors["one"]), int(generator.integers(2**31))
    number = np.repeat(list(each), list(each.values()))
    own = {class_: {name: values[number == class_] for name, values in numbers.items()} for class_ in each}
    return {
        "pairs": {
            name: {
                "wasserstein": _moved(numbers[a], numbers[b]),
                "sliced": sliced_wasserstein(vectors[a], vectors[b], np.random.default_rng(line)) / seen.stretch,
                **_measure(vectors[a], vectors[b], sigma, seed),
            }
            for name, (a, b) in pairs.items()
        },
        "classes": {
            str(class_): {
                "count": each[class_],
                "wasserstein": _moved(values["one"], values["made"]),
                "halves": _moved(values["one"], values["other"]),
            }
            for class_, values in own.items()
        },
    }


def _measure(one: Array, other: Array, sigma: float, seed: int) -> dict[str, Any]:
    """Everything that vectors of two samples of one size give."""
    mmd, told = discrepancy(one, other, sigma), two_sample_test(one, other, seed)
    return {
        "mmd": mmd.unbiased,
        "mmd_biased": mmd.biased,
        "two_sample": {"value": told.value, "low": told.low, "high": told.high},
        **precision_and_recall(one, other)._asdict(),
    }


def _moved(one: Array, other: Array) -> float:
    """Mean over numbers."""
    return float(wasserstein(one, other).mean())


def _transfer(samples: Samples, counts: dict[str, dict[int, int]], generator: np.random.Generator) -> dict[str, float]:
    """Classifiers of as many real as generated records, each with their own shares of classes."""
    total = min(TAUGHT, len(samples.training), len(samples.made))
    real, made = (draw(samples.labels[name], cap(counts[name], total), generator) for name in ("training", "made"))
    return transfer(
        samples.training[real],
        samples.training_label[real],
        samples.held_out,
        samples.held_out_label,
        samples.made[made],
        samples.made_label[made],
        1 + max(int(label.max(initial=1)) for label in samples.labels.values()),
    )._asdict()


def _common(training: dict[int, int], made: dict[int, int], held_out: dict[int, int] | None) -> dict[int, int]:
    """How many records of each class every sample can give, twice of training."""
    most = {
        class_: min(count // 2, made.get(class_, 0), count if held_out is None else held_out.get(class_, 0))
        for class_, count in training.items()
    }
    return {class_: count for class_, count in cap(most, MOST).items() if count}
