"""Pictures of generated records beside real ones, and of how their generator learned."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fusionkit.core.recording import Array
from fusionkit.evaluation.plots import ACCENT, INK, STYLE

ORIGIN = {"training": ("#9ca3af", "o"), "held-out": (INK, "+"), "generated": (ACCENT, "x")}
SKIPPED = frozenset({"epoch", "step", "seconds"})
_CURVES = 3  # panels beside each other


def draw_maps(maps: Mapping[str, Array], origin: Sequence[str], label: Array, classes: Sequence[str]) -> Figure:
    """A row of two panels for every map: points by origin, and by class.

    Args:
        maps: places ``(point, 2)`` by title.
        origin: of every point, one of ``training``, ``held-out`` and ``generated``.
        label: class number of every point.
        classes: their names.
    """
    named = np.asarray(origin)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.5 * len(maps)), layout=ConstrainedLayoutEngine(hspace=0.08))
        rows = figure.subplots(len(maps), 2, squeeze=False)
        for axes, (title, places) in zip(rows, maps.items(), strict=True):
            for name, (colour, marker) in ORIGIN.items():
                here = named == name
                axes[0].scatter(*places[here].T, s=16, c=colour, marker=marker, linewidths=0.9, alpha=0.8)
            for number in range(len(classes)):
                for name, (_, marker) in ORIGIN.items():
                    here = (named == name) & (label == number)
                    axes[1].scatter(
                        *places[here].T, s=16, c=f"C{number % 10}", marker=marker, linewidths=0.9, alpha=0.8
                    )
            axes[0].set_title(f"{title}, by origin", fontsize=9)
            axes[1].set_title(f"{title}, by class", fontsize=9)
            for panel in axes:
                panel.set_xticks([])
                panel.set_yticks([])
        shown = [name for name in ORIGIN if (named == name).any()]
        marks = [_mark(name, *ORIGIN[name]) for name in shown]
        colours = [_mark(name, f"C{number % 10}", "s") for number, name in enumerate(classes)]
        rows[-1, 0].legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, frameon=False)
        rows[-1, 1].legend(handles=colours, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False)
    return figure


def draw_distances(distances: Mapping[str, Array]) -> Figure:
    """Wasserstein distance of every number of a record, sorted, a line for each pair of samples."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        looks = ((ACCENT, "-"), ("#9ca3af", "-"), (ACCENT, ":"), (INK, ":"))
        for (name, values), (colour, line) in zip(distances.items(), looks, strict=False):
            axes.plot(np.linspace(0, 100, len(values)), np.sort(values), color=colour, linestyle=line, label=name)
        axes.set_xlabel("numbers of a record, the least moved first (%)")
        axes.set_ylabel("deviations of training")
        axes.set_ylim(bottom=0)
        axes.grid(color="#e5e7eb")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_learning(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure | None:
    """All that was logged of a generator's epochs, a panel each, a line for each fold; None where nothing was trained.

    Args:
        histories: epochs by fold.
    """
    logged = dict.fromkeys(name for history in histories.values() for entry in history for name in entry)
    columns = [name for name in logged if name not in SKIPPED]
    if not columns:
        return None
    rows = -(-len(columns) // _CURVES)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 2 * rows), layout="constrained")
        panels = figure.subplots(rows, _CURVES, squeeze=False).flatten()
        for axes, name in zip(panels, columns, strict=False):
            for number, (fold, history) in enumerate(histories.items()):
                entries = [entry for entry in history if name in entry]
                marker = "o" if len(entries) == 1 else None
                epochs = [entry["epoch"] + 1 for entry in entries]
                axes.plot(
                    epochs,
                    [e[name] for e in entries],
                    color=f"C{number % 10}",
                    label=fold,
                    marker=marker,
                    linewidth=1.2,
                )
            _finish(axes, name.replace("_", " "))
        if 1 < len(histories) <= 10:
            panels[0].legend(frameon=False, fontsize=7)
        for axes in panels[len(columns) :]:
            axes.set_axis_off()
    return figure


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("epoch")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 1.5))  # an axis of one epoch has no fractions of it
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axes.grid(color="#e5e7eb")


def _mark(name: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=name)
