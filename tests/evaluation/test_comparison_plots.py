"""Figures of a comparison: what they say, not how they look."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fusionkit.core.errors import ShapeError
from fusionkit.evaluation.abstention import abstention_curve
from fusionkit.evaluation.comparison_plots import (
    WORSE,
    abstention,
    critical_difference_diagram,
    forest,
    robustness_curves,
    robustness_heat_map,
    shapley_bars,
)
from fusionkit.evaluation.contribution import contribution
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.plots import ACCENT, INK, colour_of, svg_text
from fusionkit.evaluation.statistics.conclude import Comparison
from fusionkit.evaluation.statistics.resampled import resample_means

NAN = float("nan")


def compared(second, low, difference, high, p=0.01):
    return Comparison("rcft", second, difference, low, high, p, "9 subjects")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def thick(figure):
    """Bars that join strategies: from, to."""
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 4]
    return [tuple(np.round(line.get_xdata(), 2).tolist()) for line in lines]


def test_a_forest_has_a_colour_for_each_verdict():
    rows = [
        compared("concat", 0.01, 0.03, 0.05),
        compared("vote", -0.01, 0.0, 0.02),
        compared("mean", -0.05, -0.03, -0.01),
        compared("lucky", 0.01, 0.03, 0.05, p=0.2),
        compared("lost", NAN, 0.02, NAN),
    ]
    figure = forest(rows, "macro_f1", margin=0.01)
    axes = figure.axes[0]
    points = {line.get_ydata()[0]: to_hex(line.get_color()) for line in axes.lines if line.get_marker() == "o"}
    assert [points[place] for place in (4, 3, 2, 1, 0)] == [ACCENT, INK, WORSE, INK, INK]
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == [f"rcft less {row.second}" for row in rows]
    assert texts(figure)[::-1][0] == "0.030 [0.010, 0.050]"
    assert texts(figure)[0] == "no interval"
    assert "macro f1" in axes.get_xlabel()


def test_a_bar_joins_ranks_that_do_not_differ():
    figure = critical_difference_diagram(list("abcd"), np.array([3.4, 1.0, 1.9, 3.7]), 1.0)
    assert thick(figure) == [(0.97, 1.93), (3.37, 3.73)]
    said = texts(figure)
    assert "critical difference 1.00" in said
    assert {"b  1.00", "c  1.90", "3.40  a", "3.70  d"} <= set(said)


def test_no_bar_where_all_differ_and_one_over_all_where_none_does():
    assert thick(critical_difference_diagram(["a", "b"], np.array([1.0, 2.0]), 0.5)) == []
    figure = critical_difference_diagram(["a", "b"], np.array([1.4, 1.6]), 7.0)
    assert thick(figure) == [(1.37, 1.63)]
    assert "critical difference 7.00, more than all ranks" in texts(figure)
    with pytest.raises(ShapeError, match="2 names, but got 1"):
        critical_difference_diagram(["a", "b"], np.array([1.0]), 1.0)


def test_shares_are_sorted_and_have_their_numbers():
    rng = np.random.default_rng(0)
    values = np.array([0.5, 0.6, 0.8, 0.9]) + rng.normal(0, 0.01, (9, 4))
    found = contribution(resample_means(values, seed=0), ["audio", "eeg"])
    figure = shapley_bars(found, "accuracy")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["audio", "eeg"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(
        [found.shapley[name].value for name in ("audio", "eeg")]
    )
    assert len(texts(figure)) == 2
    assert len(figure.legends[0].get_texts()) == 3
    one = contribution(resample_means(np.array([[0.5, 0.7]]), seed=0), ["eeg"])  # one subject: no whisker
    figure = shapley_bars(one, "accuracy")
    assert len(figure.axes[0].lines) == 3 and texts(figure) == ["0.200"]


def test_a_heat_map_is_dark_and_bold_where_better():
    scores = np.array([[0.9, NAN, 0.4], [0.8, 0.3, 0.5]])
    for better, best in (("higher", {"0.900", "0.300", "0.500"}), ("lower", {"0.800", "0.300", "0.400"})):
        figure = robustness_heat_map(scores, ["a", "b"], ["all", "x", "y"], "mae", better=better)
        axes = figure.axes[0]
        assert {text.get_text() for text in axes.texts if text.get_weight() == "bold"} == best
        shade = axes.images[0].get_array()
        assert (shade[0, 0] > shade[0, 2]) == (better == "higher")
        assert texts(figure)[1] == "–"
    same = robustness_heat_map(np.full((2, 2), NAN), ["a", "b"], ["all", "x"], "mae")
    assert texts(same) == ["–"] * 4
    with pytest.raises(ShapeError, match="3 conditions"):
        robustness_heat_map(scores[:, :2], ["a", "b"], ["all", "x", "y"], "mae")


def test_curves_have_a_line_for_each_strategy():
    curve = [Interval(0.7, 0.9, 0.8), Interval(0.5, 0.7, 0.6)]
    figure = robustness_curves({"a": curve, "b": curve}, [0.0, 0.5], "accuracy", "noise on eeg")
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0.8, 0.6]] * 2
    second = robustness_curves({"b": curve}, [0.0, 0.5], "accuracy", "noise on eeg", among=["a", "b"])
    assert (
        second.axes[0].lines[0].get_color()
        == figure.axes[0].lines[1].get_color()
        != figure.axes[0].lines[0].get_color()
    )
    rows = np.array([[0.9, 0.1], [0.6, 0.4]])
    figure = abstention({"a": abstention_curve(rows, np.array([0.0, 1.0]))})
    assert figure.legends[0].get_texts()[0].get_text() == "a, area 0.250"
    assert abstention({"a": abstention_curve(rows, np.full(2, NAN))}).axes[0].get_ylim()[1] > 0


def test_names_are_no_mathematics():
    name = "$x_{"
    curve = [Interval(0.7, 0.9, 0.8)] * 2
    values = np.random.default_rng(0).normal(size=(4, 2))
    for figure in (
        forest([compared(name, 0.01, 0.03, 0.05)], "accuracy", margin=0.01),
        critical_difference_diagram([name, "b"], np.array([1.0, 2.0]), 0.5),
        shapley_bars(contribution(resample_means(values, seed=0), [name]), "accuracy"),
        robustness_heat_map(np.array([[0.5]]), [name], [name], "accuracy"),
        robustness_curves({name: curve}, [0.0, 0.5], "accuracy", "noise"),
        abstention({name: abstention_curve(np.array([[0.9, 0.1]]), np.zeros(1))}),
    ):
        assert name in svg_text(figure)


def test_twenty_lines_have_twenty_colours():
    colours = [colour_of(number) for number in range(20)]
    assert len(set(colours)) == 20 and colours[:2] == ["#1f77b4", "#ff7f0e"] and colour_of(20) == colours[0]
