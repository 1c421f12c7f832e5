"""Figures of a report as SVG text: drawn with matplotlib, without its global state."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fusionkit.core.recording import Array
from fusionkit.evaluation.calibration import reliability_curve
from fusionkit.evaluation.metrics import confusion_matrix
from fusionkit.evaluation.summary import ScoreRow

INK, ACCENT, SOFT = "#1f2937", "#2563eb", "#93c5fd"
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}


def colour_of(number: int) -> str:
    """The colour of one of many lines: twenty that differ, ten strong ones and then ten pale ones."""
    shades = matplotlib.color_sequences["tab20"]
    place = number % len(shades)
    return to_hex(shades[2 * place if place < 10 else 2 * place - 19])


def svg_text(figure: Figure) -> str:
    """A figure as SVG to put into a page: no XML header, fixed ids, fonts left to the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fusionkit", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def score_bars(rows: Sequence[ScoreRow], metric: str) -> Figure:
    """Every model and baseline with its interval, the recipe's own on top."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.6 + 0.32 * len(rows)))
        axes = figure.add_subplot()
        for place, row in enumerate(reversed(rows)):
            score = row.scores[metric]
            colour = ACCENT if row.name == "fused" else INK
            if np.isfinite([score.low, score.high]).all():
                axes.plot([score.low, score.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([score.value], [place], "o", color=colour, markersize=6)
            axes.annotate(f"{score.value:.3f}", (score.value, place), (0, 5), textcoords="offset points", ha="center",
                          fontsize=7, color=colour)  # fmt: skip
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.2)
        axes.grid(axis="x", color="#e5e7eb")
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{metric.replace('_', ' ')}, 95 % interval")
    return figure


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training and validation loss over epochs, a line for each fold."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 2.6))
        left, right = figure.subplots(1, 2)
        for number, (name, history) in enumerate(histories.items()):
            style = {"color": f"C{number % 10}", "label": name, "marker": "o" if len(history) == 1 else None}
            epochs = [entry["epoch"] + 1 for entry in history]
            left.plot(epochs, [entry["loss"] for entry in history], **style)
            validation = [entry.get("validation_loss", np.nan) for entry in history]
            right.plot(epochs, validation, **style)
        left.set_title("training loss", fontsize=9)
        right.set_title("validation loss", fontsize=9)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, 0.5), max(high, 1.5))  # an axis of one epoch has no fractions of it
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(color="#e5e7eb")
        if 1 < len(histories) <= 10:
            right.legend(frameon=False, fontsize=7)
        figure.tight_layout()
    return figure


def pretraining_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], collapsed: float) -> Figure:
    """Loss of pretraining, and spread, alignment and uniformity of every sensor's embedding, a line for each fold.

    Args:
        histories: epochs of all stages, by fold.
        collapsed: the spread below which embeddings are said to be collapsed.
    """
    entries = [entry for history in histories.values() for entry in history]
    sensors = list(dict.fromkeys(n.removeprefix("spread_") for e in entries for n in e if n.startswith("spread_")))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.4))
        panels = figure.subplots(1, 4)
        for history in histories.values():
            epochs = np.arange(len(history)) + 1
            marker = "o" if len(history) == 1 else None
            panels[0].plot(epochs, [entry["loss"] for entry in history], color=INK, marker=marker)
            for axes, what in zip(panels[1:], ("spread", "alignment", "uniformity"), strict=True):
                for number, name in enumerate(sensors):
                    values = [entry.get(f"{what}_{name}", np.nan) for entry in history]
                    axes.plot(epochs, values, color=f"C{number % 10}", label=name, marker=marker)
        panels[1].axhline(collapsed, color="#9ca3af", linestyle="--", linewidth=1)
        for axes, title in zip(panels, ("loss", "spread", "alignment", "uniformity"), strict=True):
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("epoch")
            axes.grid(color="#e5e7eb")
        handles, names = panels[1].get_legend_handles_labels()
        first = dict(zip(reversed(names), reversed(handles), strict=True))
        panels[1].legend([first[name] for name in sensors], sensors, frameon=False, fontsize=7)
        figure.tight_layout()
    return figure


def confusion(prediction: Array, target: Array, classes: Sequence[str]) -> Figure:
    """Counts by right and answered class, shaded by the share of the right class."""
    counts = confusion_matrix(prediction, target)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 1.6 + 0.42 * len(classes)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size + 0.6, size))
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("answered")
        axes.set_ylabel("right")
        for i in range(len(classes)):
            for j in range(len(classes)):
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8,
                          color="white" if share[i, j] > 0.55 else INK)  # fmt: skip
    return figure


def reliability(prediction: Array, target: Array) -> Figure:
    """How often answers are right against how sure they are, with the number of answers below."""
    curve = reliability_curve(prediction, target)
    centres, width = (curve.edges[:-1] + curve.edges[1:]) / 2, curve.edges[1] - curve.edges[0]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2, 3.0))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color="#9ca3af", linestyle="--", linewidth=1)
        here = curve.count > 0
        top.plot(curve.confidence[here], curve.accuracy[here], "o-", color=ACCENT, markersize=4)
        top.set_ylabel("share right")
        top.set_ylim(0, 1.02)
        bottom.bar(centres, curve.count, width * 0.9, color=SOFT)
        bottom.set_ylabel("answers")
        bottom.set_xlabel("confidence")
        bottom.set_xlim(0, 1)
        figure.tight_layout()
    return figure


def values(prediction: Array, target: Array) -> Figure:
    """Answered against right values."""
    known = ~np.isnan(target)
    truth, answer = target[known], prediction.reshape(len(target))[known]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2, 3.0))
        axes = figure.add_subplot()
        ends = [float(min(truth.min(), answer.min())), float(max(truth.max(), answer.max()))] if len(truth) else [0, 1]
        axes.plot(ends, ends, color="#9ca3af", linestyle="--", linewidth=1)
        axes.plot(truth, answer, ".", color=ACCENT, alpha=0.4)
        axes.set_xlabel("right value")
        axes.set_ylabel("answer")
        axes.grid(color="#e5e7eb")
    return figure


def group_spread(by_group: Mapping[str, tuple[int, float]], metric: str) -> Figure:
    """The score of every group, sorted."""
    ordered = sorted(by_group.items(), key=lambda item: item[1][1])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(3.2, min(9.0, 1 + 0.22 * len(ordered))), 2.2))
        axes = figure.add_subplot()
        axes.bar(range(len(ordered)), [value for _, (_, value) in ordered], color=SOFT)
        if len(ordered) <= 40:
            axes.set_xticks(range(len(ordered)), [name for name, _ in ordered], rotation=90, fontsize=7)
        else:
            axes.set_xticks([])
        axes.set_ylabel(metric.replace("_", " "))
    return figure
