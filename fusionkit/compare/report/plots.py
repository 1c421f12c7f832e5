"""Figures of what lies behind a verdict: every subject under every strategy, and what a score costs."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from fusionkit.compare.findings.cost import Cost
from fusionkit.compare.findings.verdict import Line
from fusionkit.evaluation.plots import ACCENT, INK, STYLE, colour_of

GREY, PALE = "#9ca3af", "#e5e7eb"
LINES = 60
"""Subjects above which lines would hide each other; boxes take their place."""


def subject_lines(lines: Sequence[Line], by_subject: Float[np.ndarray, "strategy subject"], metric: str) -> Figure:
    """A thin line a subject through its score under every strategy; thick, the mean with its interval.

    Args:
        lines: strategies from left to right.
        by_subject: their scores, seeds averaged.
        metric: what is scored.
    """
    places = np.arange(len(lines))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(4.5, 1.2 + 0.85 * len(lines)), 3.4), layout="constrained")
        axes = figure.add_subplot()
        if by_subject.shape[1] <= LINES:
            axes.plot(places, by_subject, color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
            axes.plot(places, by_subject, "o", color=GREY, markersize=2.5, alpha=0.6, zorder=1)
        else:
            known = [row[~np.isnan(row)] for row in by_subject]
            axes.boxplot(known, positions=places, widths=0.5, showfliers=False, medianprops={"color": GREY},
                         boxprops={"color": GREY}, whiskerprops={"color": GREY}, capprops={"color": GREY})  # fmt: skip
        axes.vlines(places, [one.low for one in lines], [one.high for one in lines], color=ACCENT, linewidth=3,
                    alpha=0.5, zorder=2)  # fmt: skip
        axes.plot(places, [one.mean for one in lines], "o", color=ACCENT, markersize=7, zorder=3)
        axes.set_xticks(places, [one.name for one in lines], rotation=30, ha="right", rotation_mode="anchor",
                        parse_math=False)  # fmt: skip
        axes.set_xlim(-0.5, len(lines) - 0.5)
        axes.set_ylabel(_words(metric))
        axes.grid(axis="y", color=PALE)
        axes.set_axisbelow(True)
    return figure


def cost_scatter(lines: Sequence[Line], costs: Mapping[str, Cost], metric: str) -> Figure:
    """Mean score with its interval over parameters, multiplications and time to answer, each on a logarithmic axis."""
    panels = {"parameters": "parameters", "multiplications an answer": "macs", "ms to an answer": "latency_ms"}
    order = list(costs)  # a strategy has one colour whatever the task
    shown = [one for one in lines if one.name in costs and np.isfinite(one.mean)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.1), layout="constrained")
        for axes, (words, field) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
            for one in shown:
                x, colour = getattr(costs[one.name], field), colour_of(order.index(one.name))
                marker = "o" if one.compared else "D"
                if np.isfinite([one.low, one.high]).all():
                    axes.plot([x, x], [one.low, one.high], color=colour, linewidth=1.5, alpha=0.5)
                axes.plot([x], [one.mean], marker, color=colour, markersize=6, label=one.name)
            _logarithmic(axes, [getattr(costs[one.name], field) for one in shown])
            axes.set_xlabel(words)
            axes.grid(color=PALE)
            axes.set_axisbelow(True)
        first = figure.axes[0]
        first.set_ylabel(_words(metric), color=INK)
        handles, names = first.get_legend_handles_labels()
        legend = figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """An axis of few labels, whether the values lie within a decade or over many."""
    low, high = np.log10([max(1e-9, bound(values, default=1.0)) for bound in (min, max)])
    span = high - low
    steps = (1.0,) if span > 1.5 else (1.0, 2.0, 5.0) if span > 0.5 else (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (low - 0.15 * span - 0.05), 10 ** (high + 0.15 * span + 0.05))
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _words(metric: str) -> str:
    return metric.replace("_", " ")
