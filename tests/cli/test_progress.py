"""How far a comparison is: a line now and then, or a bar, with the time that the rest takes."""

import io
import math

import pytest
from rich.console import Console

from fusionkit.cli.progress import Bars, Lines


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fusionkit.cli.progress.time.monotonic", lambda: now[0])
    return now


def test_lines_come_now_and_then_and_at_the_end(clock):
    screen = io.StringIO()
    with Lines(Console(file=screen, width=200)) as lines:
        lines.cells(0, 12, math.nan)
        for seconds, done, left in ((5, 1, 60), (11, 2, 125), (11, 2, 125), (30, 2, 125), (41, 5, 59.6), (42, 12, 0)):
            clock[0] = 100.0 + seconds
            lines.cells(done, 12, left)
    assert screen.getvalue().splitlines() == [
        "trainings: 0 of 12 done, no estimate yet",
        "trainings: 2 of 12 done, about 2 min 5 s left",
        "trainings: 5 of 12 done, about 1 min 0 s left",
        "trainings: 12 of 12 done, about 0 s left",
    ]


def test_a_bar_says_the_same():
    screen = io.StringIO()
    with Bars(Console(file=screen, width=200, force_terminal=True)) as bars:
        bars.cells(3, 12, 125.0)
    assert "trainings" in screen.getvalue() and "25%" in screen.getvalue()
    assert "about 2 min 5 s left" in screen.getvalue()
