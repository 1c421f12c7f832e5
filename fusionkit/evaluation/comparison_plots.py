"""Figures of a comparison: differences, ranks, what sensors are worth, and what is left when they fail."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fusionkit.core.errors import ShapeError
from fusionkit.evaluation.abstention import AbstentionCurve
from fusionkit.evaluation.contribution import Contribution
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.plots import ACCENT, INK, SOFT, STYLE, colour_of
from fusionkit.evaluation.statistics.conclude import Comparison, Verdict, signed
from fusionkit.evaluation.statistics.nemenyi import cliques

GREY, PALE = "#9ca3af", "#e5e7eb"
WORSE = "#b91c1c"


def forest(comparisons: Sequence[Comparison], metric: str, *, margin: float) -> Figure:
    """Every difference with its interval, blue where the first is shown to be better, red where it is worse.

    Args:
        comparisons: from top to bottom.
        metric: what they differ in.
        margin: the largest difference that does not matter, shaded.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 0.9 + 0.3 * len(comparisons)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(-margin, margin, color=PALE, linewidth=0, alpha=0.7)
        axes.axvline(0, color=GREY, linewidth=1)
        colours = {Verdict.BETTER: ACCENT, Verdict.WORSE: WORSE}
        for place, one in enumerate(reversed(comparisons)):
            colour = colours.get(one.verdict, INK)
            _interval(axes, one.low, one.difference, one.high, place, colour)
            words = f"{signed(one.difference)} [{signed(one.low)}, {signed(one.high)}]"
            words = words if np.isfinite([one.low, one.high]).all() else "no interval"
            axes.annotate(words, (1.02, place), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8,
                          color=colour)  # fmt: skip
        names = [f"{one.first} less {one.second}" for one in reversed(comparisons)]
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.locator_params(axis="x", nbins=7)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"better by, in {_words(metric)}, with 95 % interval; shaded: too little to matter")
    return figure


def critical_difference_diagram(
    names: Sequence[str], ranks: Float[np.ndarray, " strategy"], difference: float
) -> Figure:
    """Strategies on a line of mean ranks, best on the left; a bar joins those that are not shown to differ.

    Args:
        names: of the strategies.
        ranks: their mean ranks.
        difference: the critical difference.

    Raises:
        ShapeError: there is not one rank for each name.
    """
    if len(names) != len(ranks):
        raise ShapeError(f"there must be a rank for each of {len(names)} names, but got {len(ranks)}")
    order = np.argsort(ranks, kind="stable")
    left, right = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :][::-1]
    joined = cliques(ranks, difference)
    start = 0.5 + 0.3 * len(joined)
    depth = start + 0.45 * max(len(left) - 1, 0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.7 + 0.45 * (depth + 1.3)), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([1, len(names)], [0, 0], color=INK, linewidth=1)
        for rank in range(1, len(names) + 1):
            axes.plot([rank, rank], [0, 0.15], color=INK, linewidth=1)
            axes.annotate(str(rank), (rank, 0.2), ha="center", va="bottom", fontsize=8)
        end = 1 + min(difference, len(names) - 1)
        axes.plot([1, end], [0.95, 0.95], color=INK, linewidth=1.5)
        for x in (1, end):
            axes.plot([x, x], [0.85, 1.05], color=INK, linewidth=1.5)
        wide = "" if difference <= len(names) - 1 else ", more than all ranks"
        axes.annotate(f"critical difference {difference:.2f}{wide}", ((1 + end) / 2, 1.12), ha="center", fontsize=8)
        for number, joint in enumerate(joined):
            y = -0.3 - 0.3 * number
            ends = [ranks[joint[0]] - 0.03, ranks[joint[-1]] + 0.03]
            axes.plot(ends, [y, y], color=ACCENT, linewidth=4, solid_capstyle="round")
        for side, edge, align in ((left, 0.8, "right"), (right, len(names) + 0.2, "left")):
            for number, strategy in enumerate(side):
                y = -start - 0.45 * number
                axes.plot([ranks[strategy], ranks[strategy], edge], [0, y, y], color=GREY, linewidth=1, zorder=0)
                label = f"{names[strategy]}  {ranks[strategy]:.2f}"
                label = label if align == "right" else f"{ranks[strategy]:.2f}  {names[strategy]}"
                reach = (edge - 0.05 if align == "right" else edge + 0.05, y)
                axes.annotate(label, reach, ha=align, va="center", fontsize=9, parse_math=False)
        axes.set_xlim(0.7, len(names) + 0.3)
        axes.set_ylim(-depth - 0.3, 1.5)
        axes.axis("off")
    return figure


def shapley_bars(found: Contribution, metric: str) -> Figure:
    """Each sensor's share with its interval, most on top; beside it what the sensor scores alone and adds last."""
    order = sorted(found.sensors, key=lambda name: found.shapley[name].value)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.1 + 0.46 * len(order)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=GREY, linewidth=1)
        for place, name in enumerate(order):
            share = found.shapley[name]
            first = place == len(order) - 1
            axes.barh(place, share.value, 0.34, color=SOFT, label="share of all (Shapley)" if first else None)
            _whisker(axes, share.low, share.high, place)
            axes.plot(found.alone[name].value, place + 0.26, "o", color=GREY, markersize=4,
                      label="without the others" if first else None)  # fmt: skip
            axes.plot(found.added[name].value, place - 0.26, "D", color=INK, markersize=4,
                      label="added to all the others" if first else None)  # fmt: skip
            span = f" [{signed(share.low)}, {signed(share.high)}]" if np.isfinite([share.low, share.high]).all() else ""
            words = f"{signed(share.value)}{span}"
            axes.annotate(words, (1.02, place), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.set_yticks(range(len(order)), order, parse_math=False)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{_words(metric)} above the training prior, 95 % interval over subjects")
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def robustness_heat_map(
    scores: Float[np.ndarray, "strategy condition"],
    strategies: Sequence[str],
    conditions: Sequence[str],
    metric: str,
    *,
    better: str = "higher",
) -> Figure:
    """Scores of strategies (rows) under faults (columns), darker where better; the best of each column is bold.

    Args:
        scores: nan where a strategy cannot answer.
        strategies: names of rows.
        conditions: names of columns.
        metric: what the scores are.
        better: which direction of it is better.

    Raises:
        ShapeError: there is not one score for each strategy and condition.
    """
    if scores.shape != (len(strategies), len(conditions)):
        raise ShapeError(
            f"there must be a score for each of {len(strategies)} strategies and {len(conditions)} conditions, "
            f"but got {scores.shape}"
        )
    good = scores if better == "higher" else -scores
    known = good[~np.isnan(good)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    shade = (good - low) / (high - low) if high > low else np.full(good.shape, 0.5)
    best = np.nanmax(np.where(np.isnan(good).all(0), 0, good), axis=0)
    longest = max(map(len, conditions), default=0)
    with matplotlib.rc_context(STYLE):
        size = (1.6 + 0.58 * len(conditions), 0.7 + 0.32 * len(strategies) + 0.055 * longest)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(np.ma.masked_invalid(0.08 + 0.77 * shade), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(*scores.shape):
            words = f"{scores[i, j]:.3f}" if np.isfinite(scores[i, j]) else "–"
            axes.text(j, i, words, ha="center", va="center", fontsize=8,
                      weight="bold" if good[i, j] == best[j] and len(strategies) > 1 else "normal",
                      color="white" if shade[i, j] > 0.6 else INK)  # fmt: skip
        axes.set_xticks(range(len(conditions)), conditions, rotation=45, ha="right", rotation_mode="anchor",
                        parse_math=False)  # fmt: skip
        axes.set_yticks(range(len(strategies)), strategies, parse_math=False)
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_title(f"{_words(metric)}, darker is better", fontsize=9, loc="left")
    return figure


def robustness_curves(
    curves: Mapping[str, Sequence[Interval]],
    levels: Sequence[float],
    metric: str,
    fault: str,
    *,
    among: Sequence[str] | None = None,
) -> Figure:
    """The score of each strategy as a fault grows, its interval shaded.

    Args:
        curves: a score and its interval for each level, by strategy.
        levels: from none.
        metric: what the scores are.
        fault: what the levels are.
        among: all strategies, so that each has one colour in several figures; by default those of ``curves``.
    """
    order = list(curves if among is None else among)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for name, curve in curves.items():
            colour = colour_of(order.index(name))
            axes.plot(levels, [one.value for one in curve], "o-", color=colour, markersize=3, label=name)
            axes.fill_between(levels, [one.low for one in curve], [one.high for one in curve], color=colour,
                              alpha=0.12, linewidth=0)  # fmt: skip
        axes.set_xlabel(fault)
        axes.set_ylabel(_words(metric))
        axes.grid(color=PALE)
        legend = figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def abstention(curves: Mapping[str, AbstentionCurve]) -> Figure:
    """Mistakes among the answers given, as more of the least sure ones are given too."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(curves.items()):
            axes.plot(curve.coverage, curve.risk, color=colour_of(number), label=f"{name}, area {curve.area:.3f}")
        axes.set_xlim(0, 1)
        seen = [curve.risk[curve.coverage >= 0.05].max(initial=0) for curve in curves.values()]
        axes.set_ylim(0, 1.15 * max([*seen, 1e-3]))  # the first few answers are all or nothing
        axes.set_xlabel("share of records answered, the surest first")
        axes.set_ylabel("mistakes among them")
        axes.grid(color=PALE)
        legend = figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _interval(axes: Axes, low: float, value: float, high: float, place: float, colour: str) -> None:
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([value], [place], "o", color=colour, markersize=6)


def _whisker(axes: Axes, low: float, high: float, place: float) -> None:
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [place, place], color=INK, linewidth=1.5, solid_capstyle="butt")
        axes.plot([low, high], [place, place], "|", color=INK, markersize=7)


def _words(metric: str) -> str:
    return metric.replace("_", " ")
