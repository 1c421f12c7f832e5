"""Rows by number, and windows that are views."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.runtime.stream.ring import Ring


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60), st.booleans()), max_size=30), st.integers(1, 50))
def test_windows_are_the_rows_of_a_list(steps, rows):
    ring, true, first = Ring((2,), -5, rows), {}, -5
    for pushed, dropped, lost in steps:
        for number in range(ring.next, ring.next + pushed):
            true[number] = [np.nan, np.nan] if lost else [number, -number]
        if lost:
            ring.lose(pushed)
        else:
            numbers = np.arange(ring.next, ring.next + pushed)
            ring.push(np.stack([numbers, -numbers], axis=1))
        ring.drop(first + dropped)
        first = ring.first
        whole = ring.window(first, ring.next - first)
        np.testing.assert_array_equal(whole, np.array([true[n] for n in range(first, ring.next)]).reshape(-1, 2))


def test_windows_share_the_memory_of_the_ring_and_are_contiguous():
    ring = Ring((3,), rows=100)
    for piece in range(200):
        ring.push(np.full((7, 3), piece))
        ring.drop(ring.next - 40)
        window = ring.window(ring.first, ring.next - ring.first)
        assert np.shares_memory(window, ring._buffer) and window.flags.c_contiguous
    assert len(ring._buffer) == 100  # rows that are not needed make room


def test_the_buffer_grows_only_while_more_is_needed():
    ring = Ring((1,), rows=8)
    ring.push(np.arange(1000.0)[:, None])
    assert ring.window(0, 1000)[:, 0].tolist() == list(range(1000))
    size = len(ring._buffer)
    for _ in range(100):
        ring.push(np.zeros((500, 1)))
        ring.drop(ring.next - 500)
    assert len(ring._buffer) == size <= 2000
