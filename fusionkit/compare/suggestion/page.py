"""One page of what was found: the proposed graph, what each sensor brings, matrices of pairs, and dendrograms."""

from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from fusionkit.compare.suggestion.links import LEAST, RATE
from fusionkit.compare.suggestion.proposal import cluster
from fusionkit.compare.suggestion.suggest import ALIKE, SHARE, WORTH, Findings
from fusionkit.compare.suggestion.transfer import Estimate
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
    names, pairs = found.names, [f"{found.names[i]}, {found.names[j]}" for i, j in found.pairs]
    share = np.where(found.links.certain, found.links.share, np.where(np.isnan(found.links.p), np.nan, 0.0))
    figures = [
        "<h2>Pairs</h2>",
        _figure(
            names,
            _matrix(names, found.benefit),
            f"Benefit: loss of the better of the two, less that of both together, jointly or late ({unit})",
        ),
        _figure(
            names,
            _matrix(names, found.synergy),
            f"Synergy: loss of the best late combination, less that of a joint network ({unit})",
        ),
        _figure(
            names,
            _matrix(names, found.alike),
            f"Debiased CKA of activations, each trained alone; redundant from {ALIKE} on",
        ),
        "<h2>What may share parameters</h2>",
        (
            f"<p>Layers may be shared up to a heterogeneity of {2 * WORTH * found.prior:.3f} {escape(unit)}, or of {SHARE:.0%} "
            "of what the two say.</p>"
        ),
        _figure(
            names,
            _matrix(names, found.transfer),
            f"Transfer T: loss of the column's sensor through the layers of the row's, less that through its own ({unit})",
        ),
        _figure(
            names,
            _heat(names, found.distance),
            "Heterogeneity d of sensors: costs of transfer both ways; T within two standard errors counts as 0",
        ),
    ]
    if len(pairs) > 1:
        figures += [
            _figure(pairs, _matrix(pairs, found.crossing), f"The same of crossings: transfer T between pairs ({unit})"),
            _figure(pairs, _heat(pairs, found.crossing_distance), "Heterogeneity d of pairs"),
        ]
    figures += [
        "<h2>Links through time</h2>",
        _figure(
            names,
            _heat(names, share),
            f"Granger links: what the past of the row's sensor explains of what the own past of the column's leaves; "
            f"false discovery rate {RATE}, from {LEAST:.0%} on",
        )
        if not np.isnan(found.links.p).all()
        else "<p>No two sensors have steps enough for Granger tests.</p>",
        "<h2>Dendrograms</h2>",
        _figure((), _tree(names, near, None), "1 - CKA, average linkage"),
        _figure(
            (),
            _tree(names, found.excess, 1.0),
            "Heterogeneity of sensors over what it may be; what joins left of the line may share layers",
        ),
    ]
    if len(pairs) > 1:
        figures.append(
            _figure(
                (),
                _tree(pairs, found.crossing_excess, 1.0),
                "The same of pairs; what joins left of the line may share a crossing",
            )
        )
    if found.linked:
        figures.append(_figure((), _tree(names, found.links.distance, None), "1 - Granger strength over the largest"))
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
        *figures,
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


def _figure(names: Sequence[str], drawing: str, caption: str) -> str:
    """A drawing, wide enough for a cell a name; two of up to four stand beside each other."""
    style = f"max-width: {min(58, 11 + 4 * max(4, len(names)))}rem"
    return f'<figure style="{style}">{drawing}<figcaption>{escape(caption)}</figcaption></figure>'


def _matrix(names: Sequence[str], given: Estimate) -> str:
    return _heat(names, given.mean.double().numpy(), given.error.double().numpy())


def _heat(names: Sequence[str], values: Array, errors: Array | None = None) -> str:
    """A square of numbers in colour: blue above 0, red below; grey on the diagonal and where there is none."""
    count = len(names)
    shown = values.astype(float).copy()
    np.fill_diagonal(shown, np.nan)
    reach = float(np.nanmax(np.abs(shown))) or 1.0
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(1.6 + 0.75 * count, 0.9 + 0.6 * count))
        axes = figure.add_subplot()
        axes.set_facecolor("#f3f4f6")
        axes.imshow(shown, cmap="RdBu", vmin=-2.2 * reach, vmax=2.2 * reach, aspect="auto")
        for i, j in zip(*np.isfinite(shown).nonzero(), strict=True):
            error = "" if errors is None else f"\n± {errors[i, j]:.3f}"
            text = f"{shown[i, j] + 0.0:.3f}".replace("-0.000", "0.000")
            axes.text(j, i, text + error, ha="center", va="center", fontsize=7, color=INK)
        axes.set_xticks(range(count), names, rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(count), names, parse_math=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return svg_text(figure)


def _tree(names: Sequence[str], distance: Array, cut: float | None) -> str:
    if not distance.any():
        return "<p>all distances are 0</p>"
    with matplotlib.rc_context(_FONT):
        figure = Figure(figsize=(4.2, 0.8 + 0.35 * len(names)))
        axes = figure.add_subplot()
        dendrogram(
            cluster(distance),
            labels=list(names),
            orientation="right",
            ax=axes,
            color_threshold=0,
            above_threshold_color=ACCENT,
        )
        if cut is not None:
            axes.axvline(cut, color=INK, linestyle=":", linewidth=1)
            axes.set_xlim(0, max(axes.get_xlim()[1], 1.1 * cut))
        axes.set_xlabel("distance")
        axes.spines[["top", "left", "right"]].set_visible(False)
    return svg_text(figure)
