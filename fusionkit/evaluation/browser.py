"""A page of windows: what records of every class look like, side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure, SubFigure

from fusionkit.core.recording import Array, Stored
from fusionkit.evaluation.traces import INK, beginning, draw_traces, lines, spread

RECORDS = 3
CLASSES = 6
CHANNELS = 8
SECONDS = 5.0
COLOURS = (
    *("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed"),
    *("#0891b2", "#be185d", "#65a30d", "#475569", "#a16207"),
)
"""Of the classes, in every picture that shows them."""


class Example(NamedTuple):
    """One record to be shown."""

    record: str
    subject: str
    class_: str
    values: Array


def choose_examples(targets: Array, subjects: Sequence[str], present: Array, classes: int) -> list[list[int]]:
    """Rows of up to `RECORDS` records of each class, of different subjects as far as there are some.

    Args:
        targets: number of the class of every record; any other number, NaN too, where it is missing.
        subjects: of every record.
        present: which records have the sensor.
        classes: how many there are.
    """
    chosen: list[list[int]] = []
    for class_ in range(classes):
        seen: dict[str, int] = {}
        ranked = []
        for row in np.flatnonzero((targets == class_) & present).tolist():
            seen[subjects[row]] = turn = seen.get(subjects[row], -1) + 1
            ranked.append((turn, row))
        chosen.append([row for _, row in sorted(ranked)[:RECORDS]])
    return chosen


def page_size(pages: Sequence[Sequence[Example]], stored: Stored) -> tuple[float, float]:
    """Inches of a page, width and height."""
    channels = min(CHANNELS, int(np.prod(stored.item)))
    return 9.0, 0.4 + min(CLASSES, len(pages)) * (0.55 + 0.16 * channels)


def draw_page(figure: Figure | SubFigure, pages: Sequence[Sequence[Example]], stored: Stored) -> None:
    """Draw records of every class in a row of its own, all at one scale, each by its record and subject.

    Args:
        figure: an empty one, of the layout ``constrained``.
        pages: examples by class; classes behind the first `CLASSES` are left out.
        stored: what is known of the sensor.
    """
    pages = [page for page in pages if page][:CLASSES]
    shown = [lines(beginning(one.values, stored, SECONDS), stored, CHANNELS) for page in pages for one in page]
    gap = 6 * float(np.median([spread(values) for values in shown])) if shown else 0.0
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        grid = figure.subplots(len(pages), RECORDS, squeeze=False, sharex=True)
        for place, page in enumerate(pages):
            for axes, one in zip(grid[place], page, strict=False):
                colour, values = COLOURS[place % len(COLOURS)], beginning(one.values, stored, SECONDS)
                last = axes is grid[place, len(page) - 1]
                draw_traces(axes, values, stored, most=CHANNELS, gap=gap or None, colour=colour, bar=last)
                who = one.record if one.record == one.subject else f"{one.record} (subject {one.subject})"
                axes.set_title(who, loc="left", fontsize=7, color=INK, parse_math=False)
                if axes is grid[place, 0]:
                    axes.set_ylabel(one.class_, fontsize=9, color=colour, parse_math=False)
                else:
                    axes.set_yticks([])
            for axes in grid[place, len(page) :]:
                axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel("seconds", fontsize=7)
            axes.tick_params(axis="x", labelsize=7)
