"""One page of what was found: the proposed graph, what each sensor brings, matrices of pairs, and dendrograms."""

from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from fusionkit.compare.suggest import ALIKE, WORTH, Findings, cluster
from fusionkit.compare.transfer import Estimate
from fusionkit.core.recording import Array
from fusionkit.evaluation.html import STYLE
from fusionkit.evaluation.plots import ACCENT, INK, svg_text
from fusionkit.fusion.draw import svg
from fusionkit.fusion.graph import Graph

_FONT: Any = {"font.size": 9, "svg.fonttype": "none"}


def build_page(title: str, found: Findings, graph: Graph, sentences: list[str], unit: str) -> str:
    """The page as HTML; it needs no network.

    Args:
        title: of the page.
        found: what was measured.
        graph: what is proposed.
        sentences: what it means, a line each.
        unit: of losses.
    """
    near = 1 - found.alike.mean.double().numpy().clip(0, 1)
    np.fill_diagonal(near, 0)
    transfer, alike, synergy = (_matrix(found, given) for given in (found.transfer, found.alike, found.synergy))
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="muted">from training records alone; errors are standard errors over seeds</p>',
        *(f'<p class="lead">{escape(sentence)}</p>' for sentence in sentences),
        "<h2>Proposed graph</h2>",
        f"<figure>{svg(graph, {})}</figure>",
        "<h2>Sensors</h2>",
        (
            f"<p>Loss without any sensor: {found.prior:.3f} {escape(unit)}. A gain counts where its 95 % interval is above 0, "
            f"and from {WORTH:.0%} of that loss on.</p>"
        ),
        _sensors(found),
        "<h2>Pairs</h2>",
        (
            f"<figure>{transfer}<figcaption>Transfer T: loss of the column's sensor from the row's weights, less that from "
            f"scratch ({escape(unit)})</figcaption></figure>"
        ),
        (
            f"<figure>{_heat(found, found.distance, None)}<figcaption>Heterogeneity d: costs of transfer both ways, where "
            "certain</figcaption></figure>"
        ),
        (
            f"<figure>{alike}<figcaption>Debiased CKA of activations, each trained alone; redundant from {ALIKE} on"
            "</figcaption></figure>"
        ),
        (
            f"<figure>{synergy}<figcaption>Synergy: loss of the best late combination, less that of a joint network "
            f"({escape(unit)})</figcaption></figure>"
        ),
    ]
    if len(found.names) > 1:
        body += [
            "<h2>Dendrograms</h2>",
            f"<figure>{_tree(found, near)}<figcaption>1 - CKA, average linkage</figcaption></figure>",
            f"<figure>{_tree(found, found.distance)}<figcaption>Heterogeneity d, average linkage</figcaption></figure>",
        ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _sensors(found: Findings) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{_number(found.alone, place)}</td><td>{_number(found.addition, place)}</td></tr>"
        for place, name in enumerate(found.names)
    ]
    head = "<tr><th>sensor</th><th>gain alone</th><th>gain beside all others</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _number(given: Estimate, place: int) -> str:
    return f"{float(given.mean[place]):.3f} <small>± {float(given.error[place]):.3f}</small>"


def _matrix(found: Findings, given: Estimate) -> str:
    return _heat(found, given.mean.double().numpy(), given.error.double().numpy())


def _heat(found: Findings, values: Array, errors: Array | None) -> str:
    """A square of numbers in colour: blue above 0, red below; the diagonal is left grey."""
    count = len(found.names)
    shown = values.astype(float).copy()
    np.fill_diagonal(shown, np.nan)
    reach = float(np.nanmax(np.abs(shown))) if count > 1 else 1.0
    reach = reach or 1.0
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(1.6 + 0.75 * count, 0.9 + 0.6 * count))
        axes = figure.add_subplot()
        axes.set_facecolor("#f3f4f6")
        axes.imshow(shown, cmap="RdBu", vmin=-1.6 * reach, vmax=1.6 * reach, aspect="auto")
        for i in range(count):
            for j in range(count):
                if i != j:
                    error = "" if errors is None else f"\n± {errors[i, j]:.3f}"
                    axes.text(j, i, f"{values[i, j]:.3f}{error}", ha="center", va="center", fontsize=7, color=INK)
        axes.set_xticks(range(count), found.names, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(count), found.names, parse_math=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return svg_text(figure)


def _tree(found: Findings, distance: Array) -> str:
    if not distance.any():
        return "<p>all distances are 0</p>"
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(4.2, 0.8 + 0.35 * len(found.names)))
        axes = figure.add_subplot()
        dendrogram(
            cluster(distance),
            labels=list(found.names),
            orientation="right",
            ax=axes,
            color_threshold=0,
            above_threshold_color=ACCENT,
        )
        axes.set_xlabel("distance")
        axes.spines[["top", "left", "right"]].set_visible(False)
    return svg_text(figure)
