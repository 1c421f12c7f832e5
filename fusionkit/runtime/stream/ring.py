"""Rows in order, kept where every window of them is one contiguous view."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Ring:
    """The last rows of an endless sequence, by their number in it.

    Rows are written once and never wrap around: what is still needed moves to the front when the end is reached, so that
    every window is one contiguous view. That moves each row about once in its life, and no window is ever copied. The
    buffer grows (to twice its size) only while more rows are needed at once than it holds.

    Args:
        item: shape of a row.
        first: number of the first row.
        rows: that it holds at first.

    Attributes:
        first: number of the first row that is kept.
        next: number of the row that is pushed next.
    """

    def __init__(self, item: tuple[int, ...], first: int = 0, rows: int = 1024) -> None:
        self._buffer = np.empty((max(1, rows), *item), np.float32)
        self._start = 0
        self.first = self.next = first

    def push(self, rows: Array) -> None:
        """Take the next rows."""
        self._room(len(rows))
        self._buffer[self._stop : self._stop + len(rows)] = rows
        self.next += len(rows)

    def lose(self, count: int) -> None:
        """The next rows are not known: NaN."""
        self._room(count)
        self._buffer[self._stop : self._stop + count] = np.nan
        self.next += count

    def drop(self, before: int) -> None:
        """Rows of smaller numbers are not needed any more."""
        count = min(max(before, self.first), self.next) - self.first
        self._start += count
        self.first += count

    def window(self, first: int, count: int) -> Array:
        """The rows from ``first`` on, a view; all must be there."""
        assert self.first <= first and first + count <= self.next
        start = self._start + first - self.first
        view: Array = self._buffer[start : start + count]
        return view

    @property
    def _stop(self) -> int:
        return self._start + self.next - self.first

    def _room(self, count: int) -> None:
        """Make room for more rows at the end."""
        live, size = self.next - self.first, len(self._buffer)
        if self._stop + count <= size:
            return
        kept = self._buffer[self._start : self._stop]
        if 2 * (live + count) > size:  # less than half free would mean to move all the time
            self._buffer = np.empty((max(2 * size, 2 * (live + count)), *self._buffer.shape[1:]), np.float32)
        self._buffer[:live] = kept  # NumPy minds that they overlap
        self._start = 0
