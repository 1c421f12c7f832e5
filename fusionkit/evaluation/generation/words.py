"""What the measures of generated records mean, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fusionkit.evaluation.generation.quality import LEAST

MANY = 5  # times as many near records as expected are said to be copies


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
            f"Too few records to judge: {found['records']['compared']} can be compared, but {LEAST} are needed.",
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
    return (
        f"It is not certain that a classifier tells generated from training records: balanced accuracy {span}, of "
        f"{found['records']['compared']} records of each side."
    )


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
    if near <= MANY * found["copies"]["expected"]:
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
