"""What a page says of one sensor's generated records: sentences, tables, pictures."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fusionkit.evaluation import html, plots
from fusionkit.evaluation.generation.copies import TIGHT
from fusionkit.evaluation.generation.quality import MOST
from fusionkit.evaluation.generation.samples import WIDEST
from fusionkit.evaluation.generation.words import say

PAIRS = {
    "made_training": "generated\nagainst training",
    "halves": "half\nof training against the other",
    "made_held_out": "generated\nagainst held-out",
    "training_held_out": "training\nagainst held-out",
}
MEASURES = {
    "wasserstein": "Wasserstein distance\nmean over numbers, deviations of training; 0 is alike",
    "sliced": "sliced Wasserstein distance\nmean over random directions",
    "mmd": "MMD squared\nunbiased; around 0 where alike",
    "mmd_biased": "MMD squared, biased\n0 is the same records",
    "two_sample": "told apart by a classifier\nbalanced accuracy, 95 % interval; 0.5 is alike",
    "precision": "precision\nshare of the first in the second's manifold",
    "recall": "recall\nshare of the second in the first's manifold",
}


def quality_parts(found: Mapping[str, Any], classes: Sequence[str], figures: Mapping[str, Figure]) -> list[str]:
    """Parts of a page about one sensor's generated records.

    Args:
        found: by `fusionkit.evaluation.generation.quality.judge`.
        classes: names of the classes.
        figures: by what they show.
    """
    drawn = [html.figure(plots.svg_text(figure), title) for title, figure in figures.items()]
    lines = [f"<li>{escape(line)}</li>" for line in say(found, classes)]
    parts = [f"<ul>{''.join(lines)}</ul>"]
    if "pairs" in found:
        parts += [
            f'<p class="muted">{escape(_compared(found))}</p>',
            _pairs(found),
            _others(found),
            _by_class(found, classes),
        ]
    return [*parts, *drawn]


def _compared(found: Mapping[str, Any]) -> str:
    records = found["records"]
    text = (
        f"{records['training']:,} training, {records['held_out']:,} held-out real and {records['made']:,} generated records; "
        f"{records['compared']} of each side are compared, as many of each class, drawn by the seed (at most {MOST}). Halves "
        f"are random: where windows overlap, they are more alike than new recordings would be."
    )
    if found["directions"] is not None:
        text += (
            f" Records are compared by their projections on {found['directions']} random directions, and the Wasserstein "
            f"distance is the mean over {WIDEST} of their numbers."
        )
    return text


def _pairs(found: Mapping[str, Any]) -> str:
    shown = {name: title for name, title in PAIRS.items() if name in found["pairs"]}
    lines = []
    for measure, title in MEASURES.items():
        cells = [_cell(found["pairs"][name][measure]) for name in shown]
        lines.append(([title, *cells], False))
    return html.table(["", *shown.values()], lines)


def _cell(value: float | Mapping[str, float]) -> str:
    if isinstance(value, Mapping):
        return f"{value['value']:.3f}\n[{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _others(found: Mapping[str, Any]) -> str:
    """Copies and classifiers."""
    copies, scores = found["copies"], found["transfer"]
    lines = [
        (
            "distance to the nearest training record, over that of training records to another\nmedians; 0 is a copy",
            copies["ratio"],
        ),
        ("the same over that of held-out real records", copies["held_out"]),
        (
            f"share that is as near as {TIGHT:.0%} of training records are to another\n{copies['expected']:.3f} if one distribution",
            copies["near"],
        ),
        (
            "trained on generated, tested on held-out real (TSTR)\nbalanced accuracy of a linear classifier",
            scores["made_real"],
        ),
        ("trained on as many real, tested on held-out real\nwhat TSTR could be", scores["real_real"]),
        (
            "trained on real, tested on generated (TRTS)\nhigh by choice where a classifier chose the records",
            scores["real_made"],
        ),
        ("guessing", scores["chance"]),
    ]
    shown = [([name, f"{value:.3f}"], False) for name, value in lines if np.isfinite(value)]
    return f"<details open><summary>copies, and what classifiers learn</summary>{html.table(['', ''], shown)}</details>"


def _by_class(found: Mapping[str, Any], classes: Sequence[str]) -> str:
    lines = [
        ([classes[int(number)], str(one["count"]), f"{one['wasserstein']:.3f}", f"{one['halves']:.3f}"], False)
        for number, one in found["classes"].items()
    ]
    header = ["class", "records of each side", "Wasserstein distance, generated against training", "half against half"]
    return f"<details><summary>by class</summary>{html.table(header, lines)}</details>"
