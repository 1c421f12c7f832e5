"""Gain against the amount appended, drawn."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fusionkit.compare.augmentation.gains import PERCENT, Compared, called, judged_by
from fusionkit.compare.augmentation.scores import NONE, OWN
from fusionkit.evaluation.plots import ACCENT, INK

_FONT: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
_COLOURS = {"full": ACCENT, "selective": "#d97706"}
_DASHES = {"noise_copies": "-", "geometric_copies": "--", "mixup": ":"}


def draw_sweep(compared: Sequence[Compared], kind: str, metric: str) -> Figure:
    """A panel a judge: the recipe's augmenter with its intervals, copies without; amounts stand at equal distances.

    Args:
        compared: of one sensor.
        kind: its augmenter.
        metric: what gains are of.
    """
    judges = list(dict.fromkeys(one.judge for one in compared))
    amounts = sorted({one.amount for one in compared})
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(1.0 + 3.4 * len(judges), 3.4))
        panels = figure.subplots(1, len(judges), sharey=True, squeeze=False)[0]
        for axes, judge in zip(panels, judges, strict=True):
            own = [one for one in compared if one.judge == judge]
            for strategy in dict.fromkeys(one.strategy for one in own if one.strategy != NONE):
                tried = sorted((one for one in own if one.strategy == strategy), key=lambda one: one.amount)
                _line(axes, tried, strategy, called(strategy, kind), amounts)
            axes.axhline(0, color=INK, linewidth=1)
            axes.set_title(judged_by(judge), fontsize=9)
            axes.set_xticks(range(len(amounts)), [f"{amount:g}" for amount in amounts])
            axes.set_xlim(-0.3, len(amounts) - 0.7)
            axes.set_xlabel("generated for a labelled training record")
            axes.grid(axis="y", color="#e5e7eb")
            axes.set_axisbelow(True)
        panels[0].set_ylabel(f"gain in {metric.replace('_', ' ')}, {PERCENT} interval")
        handles = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.tight_layout(rect=(0, 0.1, 1, 1))
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _line(axes: Any, tried: Sequence[Compared], strategy: str, label: str, amounts: Sequence[float]) -> None:
    """One strategy, from appending nothing on."""
    places = np.array([amounts.index(one.amount) for one in tried])
    gains = np.array([[one.gain.value, one.gain.low, one.gain.high] for one in tried])
    if amounts[0] == 0:
        places, gains = np.concatenate([[0], places]), np.concatenate([np.zeros((1, 3)), gains])
    if strategy in OWN:
        colour = _COLOURS[strategy]
        axes.plot(places, gains[:, 0], "o-", color=colour, linewidth=2, markersize=4, label=label, zorder=3)
        axes.fill_between(places, gains[:, 1], gains[:, 2], color=colour, alpha=0.15, linewidth=0)
    else:
        axes.plot(
            places, gains[:, 0], _DASHES.get(strategy, "-"), marker=".", color="#6b7280", linewidth=1, label=label
        )
