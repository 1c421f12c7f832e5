"""Records of a trial: windows by a plain loop, names by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial

RATE = 128


@given(st.integers(1, 2000), st.integers(1, 500), st.integers(1, 500), st.integers(0, 400))
def test_windows_are_those_of_a_plain_loop(samples, window, step, first):
    starts = []
    start = first
    while start + window <= samples:
        starts.append(start)
        start += step
    cutting = Cutting.of(window / RATE, step / RATE)
    found = cutting.stretches(samples / RATE, first / RATE)
    assert [(round(x.start * RATE), round(x.stop * RATE)) for x in found] == [(x, x + window) for x in starts]


def test_windows_of_tenths_of_seconds_reach_the_end():
    assert len(Cutting.of(0.1, None).stretches(1.0)) == 10  # 10 times 0.1 is more than 1 in binary
    assert Cutting.of(4, 2).stretches(10.0) == [Stretch(0, 4), Stretch(2, 6), Stretch(4, 8), Stretch(6, 10)]


def test_without_a_window_a_trial_is_one_record():
    assert Cutting.of(None, None).stretches(10.0) == [Stretch(None, None)]
    assert Cutting.of(None, None).stretches(10.0, 3.0) == [Stretch(3.0, None)]
    with pytest.raises(ConfigError, match="step is from window to window, but there is no window"):
        Cutting.of(None, 1.0)


def test_names_say_subject_session_trial_and_window():
    stretches = [Stretch(0, 1), Stretch(1, 2)]
    rows = list(rows_of_trial("s01", "2", "7", stretches, {"state": "sad"}, whole=False))
    assert [row.id for row in rows] == ["s01_2_7_1", "s01_2_7_2"]
    assert {(row.subject, row.session, row.trial, row.recording) for row in rows} == {("s01", "2", "7", "7")}
    assert rows[1].labels == {"id": "s01_2_7_2", "subject": "s01", "session": "2", "trial": "7", "state": "sad"}
    (row,) = rows_of_trial("s01", "2", "7", stretches[:1], {}, whole=True, part="_baseline")
    assert (row.id, row.trial, row.recording) == ("s01_2_7_baseline", "7", "7_baseline")
