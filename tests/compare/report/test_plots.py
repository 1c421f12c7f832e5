"""Figures stand whatever the numbers are: many subjects, missing scores, odd names, costs alike."""

import itertools

import numpy as np
import pytest

from fusionkit.compare.findings.cost import Cost
from fusionkit.compare.findings.verdict import Line
from fusionkit.compare.report.plots import LINES, cost_scatter, subject_lines
from fusionkit.evaluation.plots import svg_text

NAN = float("nan")


def line(name, mean, low=NAN, high=NAN, compared=True):
    return Line(name, compared, mean, low, high, mean, NAN, NAN)


def cost(name, size):
    return Cost(name, size, 10 * size, size / 1000, 1.0, 8, 1.0)


@pytest.mark.parametrize("subjects", [1, 5, LINES, LINES + 1, 400])
def test_subjects_are_lines_or_boxes(subjects):
    scores = np.random.default_rng(0).uniform(0, 1, (3, subjects))
    scores[1, 0] = np.nan
    lines = [line("a", 0.5, 0.4, 0.6), line("b $x$", 0.4), line("c", 0.3, 0.2, 0.4)]
    (axes,) = (figure := subject_lines(lines, scores, "macro_f1")).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b $x$", "c"]
    drawn = [one for one in axes.lines if len(one.get_xdata()) == 3 and one.get_linewidth() == 0.8]
    assert len(drawn) == (subjects if subjects <= LINES else 0)
    assert "macro f1" in svg_text(figure)


def test_points_lie_where_they_cost_and_score():
    lines = [line("a", 0.5, 0.4, 0.6), line("b alone", 0.4, compared=False), line("best single", 0.45), line("c", NAN)]
    figure = cost_scatter(lines, {one: cost(one, size) for one, size in (("a", 2000), ("b alone", 50), ("c", 9))}, "x")
    for axes, factor in zip(figure.axes, (1, 10, 0.001), strict=True):
        points = {p.get_label(): (p.get_xdata()[0], p.get_ydata()[0]) for p in axes.lines if p.get_marker() != "None"}
        assert points == {"a": (2000 * factor, 0.5), "b alone": (pytest.approx(50 * factor), 0.4)}
    assert "b alone" in svg_text(figure) and "best single" not in svg_text(figure)


@pytest.mark.parametrize("sizes", [[1000, 1000], [1000, 1010], [1000, 5000], [1, 10**9]])
def test_axes_have_a_few_labels_that_do_not_overlap(sizes):
    lines = [line("a", 0.5, 0.4, 0.6), line("b", 0.4)]
    figure = cost_scatter(lines, {one: cost(one, size) for one, size in zip("ab", sizes, strict=True)}, "x")
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [t for t in axes.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
        boxes = sorted((t.get_window_extent() for t in shown), key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
