"""What a closed loop heard and said, in an XDF file."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from fusionkit.runtime.description import Channel, Description, shown
from fusionkit.runtime.feed import Change, Chunk, Feed
from fusionkit.runtime.xdf import XdfWriter

CHANGES = "fusionkit changes"
"""Name of the stream that says which sensors went (``-eeg``) and came back (``+eeg``)."""
LONGEST_NOTE = 500


class Log:
    """Inputs, decisions, and sensors that come and go, in the order in which they happened.

    Replaying the file gives the same chunks in the same order, and so the same decisions.

    Args:
        writer: the file.
        feed: whose sensors are logged.
        decisions: what the stream of answers says of itself.
    """

    def __init__(self, writer: XdfWriter, feed: Feed, decisions: Description) -> None:
        self._writer = writer
        self._numbers = {name: writer.add(described) for name, described in feed.sensors.items()}
        self._decisions = writer.add(decisions)
        self._changes = writer.add(
            Description(CHANGES, "Markers", (Channel("sensor"), Channel("note")), None, "string")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def chunk(self, chunk: Chunk) -> None:
        """Note samples, before they are pushed."""
        values = [[text] for text in chunk.values] if isinstance(chunk.values, list) else chunk.values
        self._writer.write(self._numbers[chunk.sensor], values, chunk.timestamps)

    def change(self, change: Change) -> None:
        """Note that a sensor went or came back."""
        text = ("+" if change.present else "-") + change.sensor
        self._writer.write(self._changes, [[text, change.note]], np.array([change.time]))

    def decision(self, time: float, sample: Sequence[float]) -> None:
        """Note an answer, as it is published."""
        self._writer.write(self._decisions, np.array([sample]), np.array([time]))


def read_change(row: Sequence[str], time: float) -> Change | None:
    """What `Log.change` wrote; None for another text."""
    if len(row) != 2 or row[0][:1] not in ("+", "-"):
        return None
    return Change(row[0][1:], row[0][0] == "+", shown(row[1][:LONGEST_NOTE]), time)
