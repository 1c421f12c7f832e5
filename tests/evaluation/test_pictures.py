"""Pages of windows: who is shown, at which scale, and what is left out."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fusionkit.core.recording import Stored
from fusionkit.evaluation.browser import Example, choose_examples, draw_page
from fusionkit.evaluation.pictures import Signals, class_pictures
from fusionkit.evaluation.traces import beginning, draw_traces, spread

STORED = Stored(100.0, ("Fz", "C$z"), "V", (2,), "<f4", 1000)
TARGETS = np.array([0, 0, 0, 1, 1, np.nan, 0, 2])
SUBJECTS = ["a", "a", "a", "a", "b", "b", "b", "c"]


def signals(**changes):
    generator = np.random.default_rng(0)
    values = generator.normal(0, 1e-5, (8, 1000, 2))
    made = {
        "stored": STORED,
        "read": lambda row: values[row],
        "present": np.array([True] * 7 + [False]),
        "ids": [f"r{row}" for row in range(8)],
        "subjects": SUBJECTS,
        "bands": {"alpha": (8.0, 12.0)},
    }
    return Signals(**{**made, **changes})


def test_examples_are_of_different_people_first():
    present = np.array([True] * 7 + [False])
    assert choose_examples(TARGETS, SUBJECTS, present, 3) == [[0, 6, 1], [3, 4], []]


def test_a_page_has_a_row_a_class_and_says_who_is_shown():
    figure = class_pictures(signals(), TARGETS, ["rest", "wo$rk", "never"])["windows by class"].figure()
    figure.canvas.draw()
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["r0 (subject a)", "r6 (subject b)", "r1 (subject a)", "r3 (subject a)", "r4 (subject b)", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["rest", "", "", "wo$rk", "", ""]
    assert not figure.axes[-1].axison
    assert len({axes.get_ylim() for axes in figure.axes[:5]}) == 1  # one scale
    assert figure.axes[0].lines[0].get_xdata()[-1] == pytest.approx(4.99)
    assert [text.get_text() for text in figure.axes[2].texts] == ["50 µV"]


def test_spectra_are_of_sensors_that_know_bands():
    assert list(class_pictures(signals(), TARGETS, ["x", "y", "z"])) == ["windows by class", "spectra by class"]
    assert list(class_pictures(signals(bands={}), TARGETS, ["x", "y", "z"])) == ["windows by class"]


def test_few_reads_no_other_record_than_those_shown():
    values, read = np.random.default_rng(0).normal(size=(1000, 2)), set()

    def note(row):
        read.add(row)
        return values

    class_pictures(signals(read=note), TARGETS, ["x", "y", "z"], few=True)
    assert read == {0, 6, 1, 3, 4}


def test_what_is_no_series_or_has_no_class_is_not_drawn():
    bands = Stored(1.0, ("Fz",), "", (1, 5), "<f4", 10)
    assert class_pictures(signals(stored=bands), TARGETS, ["x"]) == {}
    assert class_pictures(signals(stored=Stored(None, (), "", (3,), "<f4", 1)), TARGETS, ["x"]) == {}
    assert class_pictures(signals(), np.full(8, np.nan), ["x"]) == {}


def test_a_dead_recording_is_drawn_flat():
    figure = Figure(layout="constrained")
    draw_page(figure, [[Example("r", "r", "x", np.full((300, 2), np.nan))], []], STORED)
    figure.canvas.draw()
    assert figure.axes[0].get_title("left") == "r"
    assert spread(np.zeros((5, 2))) == 0 and spread(np.zeros((0, 2))) == 0


def test_a_line_is_as_high_as_its_bar_says():
    figure = Figure()
    axes = figure.subplots()
    draw_traces(axes, np.array([[0.0, 0], [1, -1], [0, 0]]) * 1e-5, STORED, most=2, gap=60.0)
    first, second = (line.get_ydata() for line in axes.lines)
    assert np.ptp(first) == pytest.approx(10) and np.ptp(second) == pytest.approx(10)  # microvolts
    assert first.mean() - second.mean() == pytest.approx(60)
    assert axes.texts[0].get_text() == "50 µV"
    assert np.ptp(axes.collections[0].get_segments()[0][:, 1]) == pytest.approx(50)


def test_the_beginning_is_long_enough_to_show_something():
    assert len(beginning(np.zeros(5000), STORED, 10.0)) == 1000
    assert len(beginning(np.zeros(5000), Stored(4.0, (), "", (), "<f4", 1), 10.0)) == 500


def test_windows_of_one_sample_make_no_lines():
    assert class_pictures(signals(read=lambda row: np.ones((1, 2))), TARGETS, ["x", "y", "z"]) == {}
