"""All that is measured of generated records of one sensor, beside what real ones give, and what it means in words."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA

from fusionkit.core.recording import Array
from fusionkit.evaluation.generation.copies import TIGHT, find_copies
from fusionkit.evaluation.generation.distances import median_distance
from fusionkit.evaluation.generation.manifold import precision_and_recall
from fusionkit.evaluation.generation.mmd import discrepancy
from fusionkit.evaluation.generation.transfer import transfer
from fusionkit.evaluation.generation.two_sample import two_sample_test
from fusionkit.evaluation.generation.wasserstein import sliced_wasserstein, wasserstein

MOST = 500  # records of each sample in a comparison
LEAST = 10
TAUGHT = 3000  # records that train a classifier
WIDEST, COMPONENTS = 1024, 256
PAIRS = {
    "made_training": "generated and training",
    "halves": "two halves of training",
    "made_held_out": "generated and held-out",
    "training_held_out": "training and held-out",
}


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
    are standardised by the training records; records of more than 1024 numbers are seen through the training records'
    first 256 principal components. It takes about five seconds for 3000 records of 310 numbers on one core.

    Args:
        real: the fold's training records, as the generator saw them.
        real_label: their classes.
        held_out: real records of the fold that no generator saw; there may be none.
        held_out_label: their classes.
        made: generated records.
        made_label: the classes they should have.
        seed: draws records, halves and directions.

    Returns:
        Plain data: ``records`` (how many there are, and how many of them are compared), ``pairs`` (by `PAIRS`:
        ``wasserstein``, ``sliced``, ``mmd``, ``mmd_biased``, ``two_sample`` with ``value``, ``low`` and ``high``,
        ``precision``, ``recall``), ``classes`` (by number, as text: ``count`` compared, ``wasserstein`` and that of ``halves``),
        ``copies``, ``transfer``, ``components`` (None where records are seen as they are), ``left_out`` (classes
        with too few records to compare), ``missing`` (those with no generated record) and ``seconds``. With fewer than ten records to compare, only ``records``, ``missing``
        and ``seconds``.
    """
    began = time.monotonic()
    generator = np.random.default_rng(seed)
    samples = {
        "training": _finite(real, real_label),
        "held_out": _finite(held_out, held_out_label),
        "made": _finite(made, made_label),
    }
    counts = {name: _counts(label) for name, (_, label) in samples.items()}
    found: dict[str, Any] = {
        "records": {name: len(label) for name, (_, label) in samples.items()},
        "missing": [class_ for class_ in counts["training"] if class_ not in counts["made"]],
    }
    each = _common(counts["training"], counts["made"], counts["held_out"])
    if sum(each.values()) < LEAST:  # too few are held out: without them
        each = _common(counts["training"], counts["made"], None)
    size = sum(each.values())
    found["records"]["compared"] = size
    if size >= LEAST:
        values, found["components"] = _seen({name: given for name, (given, _) in samples.items()}, generator)
        label = {name: given for name, (_, given) in samples.items()}
        found["left_out"] = [class_ for class_ in counts["training"] if class_ not in each]
        found |= _measure(values, label, each, generator, seed)
    found["seconds"] = time.monotonic() - began
    return found


def say(found: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """What the measures mean, and no more than they say.

    Args:
        found: by `judge`.
        classes: their names.
    """
    lines = []
    if found["missing"]:
        lines.append(f"No generated record is of class {_listed(found['missing'], classes)}.")
    if "pairs" not in found:
        return [
            *lines,
            f"Too few records to judge: {found['records']['compared']} can be compared, and {LEAST} must be.",
        ]
    without = [class_ for class_ in found["left_out"] if class_ not in found["missing"]]
    if without:
        lines.append(f"Compared without class {_listed(without, classes)}: too few records.")
    return [*lines, _told(found), *_manifold(found), _copied(found), *_taught(found)]


def _told(found: Mapping[str, Any]) -> str:
    made, halves = (found["pairs"][name]["two_sample"] for name in ("made_training", "halves"))
    span = f"{made['value']:.2f} (95 % interval {made['low']:.2f} to {made['high']:.2f})"
    if made["low"] > 0.5:
        return (
            f"A classifier tells generated from training records: balanced accuracy {span}, where two halves of the "
            f"training records give {halves['value']:.2f}."
        )
    return f"A classifier could not tell generated from training records: balanced accuracy {span}."


def _manifold(found: Mapping[str, Any]) -> Iterator[str]:
    made, halves = (found["pairs"][name] for name in ("made_training", "halves"))
    if made["precision"] < halves["precision"] / 2:
        yield (
            f"Few generated records lie among real ones: precision {made['precision']:.2f}, of two real halves "
            f"{halves['precision']:.2f}."
        )
    if made["recall"] < halves["recall"] / 2:
        yield (
            f"Generated records cover little of the real ones: recall {made['recall']:.2f}, of two real halves "
            f"{halves['recall']:.2f}."
        )


def _copied(found: Mapping[str, Any]) -> str:
    near = found["copies"]["near"]
    if near <= 5 * TIGHT:
        return f"No sign of copies: {near:.1%} of generated records are as near to a training record as 1 % of those are to another."
    crowded = found["pairs"]["made_training"]["recall"] < found["pairs"]["halves"]["recall"] / 2
    why = "they crowd together amid the real ones" if crowded else "they repeat what was there"
    return (
        f"{near:.0%} of generated records are as near to a training record as only 1 % of those are to another: {why}."
    )


def _taught(found: Mapping[str, Any]) -> Iterator[str]:
    scores = found["transfer"]
    if np.isfinite(scores["made_real"]):
        yield (
            f"Trained on generated records alone, a linear classifier reaches balanced accuracy {scores['made_real']:.2f} on "
            f"held-out real ones; trained on as many real ones, {scores['real_real']:.2f}; guessing gives {scores['chance']:.2f}."
        )


def _listed(numbers: Sequence[int], classes: Sequence[str]) -> str:
    return ", ".join(classes[number] for number in numbers)


def _measure(
    values: Mapping[str, Array],
    label: Mapping[str, Array],
    each: Mapping[int, int],
    generator: np.random.Generator,
    seed: int,
) -> dict[str, Any]:
    """All measures of samples as they are seen."""
    twice = {class_: 2 * count for class_, count in each.items()}
    rows = _draw(label["training"], twice, generator)
    sides = np.concatenate([np.repeat([True, False], count) for count in each.values()])
    one, other, drawn = rows[sides], rows[~sides], _draw(label["made"], each, generator)
    samples = {"one": values["training"][one], "other": values["training"][other], "made": values["made"][drawn]}
    pairs = {"made_training": ("one", "made"), "halves": ("one", "other")}
    held = {class_: int((label["held_out"] == class_).sum()) for class_ in each}
    if all(held[class_] >= count for class_, count in each.items()):
        samples["held_out"] = values["held_out"][_draw(label["held_out"], each, generator)]
        pairs |= {"made_held_out": ("held_out", "made"), "training_held_out": ("held_out", "one")}
    sigma, line = median_distance(samples["one"]), int(generator.integers(2**31))
    number = np.repeat(list(each), list(each.values()))
    asked = np.sort(generator.permutation(len(label["held_out"]))[:MOST])
    most = {
        class_: min(int((label["training"] == class_).sum()), int((label["made"] == class_).sum()))
        for class_ in np.unique(label["training"])
    }
    most = _capped(most, TAUGHT)
    taught, teaching = (_draw(label[name], most, generator) for name in ("training", "made"))
    return {
        "pairs": {name: _pair(samples[a], samples[b], sigma, line, seed) for name, (a, b) in pairs.items()},
        "classes": {
            str(class_): {
                "count": count,
                "wasserstein": _moved(samples["one"][number == class_], samples["made"][number == class_]),
                "halves": _moved(samples["one"][number == class_], samples["other"][number == class_]),
            }
            for class_, count in each.items()
        },
        "copies": find_copies(
            values["training"], values["held_out"][asked], samples["made"], among=samples["one"]
        )._asdict(),
        "transfer": transfer(
            values["training"][taught],
            label["training"][taught],
            values["held_out"],
            label["held_out"],
            values["made"][teaching],
            label["made"][teaching],
            1 + max(int(given.max(initial=0)) for given in label.values()),
        )._asdict(),
    }


def _pair(one: Array, other: Array, sigma: float, line: int, seed: int) -> dict[str, Any]:
    """Everything that two samples of one size give."""
    mmd, told = discrepancy(one, other, sigma), two_sample_test(one, other, seed)
    return {
        "wasserstein": _moved(one, other),
        "sliced": sliced_wasserstein(one, other, np.random.default_rng(line)),
        "mmd": mmd.unbiased,
        "mmd_biased": mmd.biased,
        "two_sample": {"value": told.value, "low": told.low, "high": told.high},
        **precision_and_recall(one, other)._asdict(),
    }


def _moved(one: Array, other: Array) -> float:
    """Mean over all numbers of a record."""
    return float(wasserstein(one, other).mean())


def _finite(values: Array, label: Array) -> tuple[Array, Array]:
    """Flat records without those that have a missing number."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    keep = np.isfinite(flat).all(1)
    return flat[keep], np.asarray(label, np.int64)[keep]


def _seen(samples: Mapping[str, Array], generator: np.random.Generator) -> tuple[dict[str, Array], int | None]:
    """Standardise by the training records, and take principal components of what is very wide."""
    training = samples["training"]
    mean, deviation = training.mean(0), training.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    scaled = {name: (values - mean) / deviation for name, values in samples.items()}
    if training.shape[1] <= WIDEST:
        return scaled, None
    rows = np.sort(generator.permutation(len(training))[:TAUGHT])
    count = min(COMPONENTS, len(rows))
    fitted = PCA(count, svd_solver="randomized", random_state=int(generator.integers(2**31))).fit(
        scaled["training"][rows]
    )
    return {
        name: fitted.transform(values) if len(values) else values[:, :count] for name, values in scaled.items()
    }, count


def _counts(label: Array) -> dict[int, int]:
    numbers, counts = np.unique(label, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _common(training: Mapping[int, int], made: Mapping[int, int], held_out: Mapping[int, int] | None) -> dict[int, int]:
    """How many records of each class every sample can give, twice of training."""
    most = {
        class_: min(count // 2, made.get(class_, 0), count if held_out is None else held_out.get(class_, 0))
        for class_, count in training.items()
    }
    return {class_: count for class_, count in _capped(most, MOST).items() if count}


def _capped(counts: Mapping[int, int], most: int) -> dict[int, int]:
    """At most so many in all, in the same shares."""
    total = sum(counts.values())
    return {class_: count * most // total if total > most else count for class_, count in counts.items()}


def _draw(label: Array, counts: Mapping[int, int], generator: np.random.Generator) -> Array:
    """Rows of so many records of each class, class by class."""
    return np.concatenate(
        [generator.permutation(np.flatnonzero(label == class_))[:count] for class_, count in counts.items()]
        or [np.zeros(0, np.int64)]
    ).astype(np.int64)
