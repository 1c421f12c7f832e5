"""Metrics per epoch, as CSV and for TensorBoard."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionkit.training.checkpoint import write_atomically


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write all epochs as one CSV; columns in the order in which they first appear."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue().encode())


def read_history(path: Path) -> list[dict[str, float]]:
    """What `write_history` wrote."""
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


class TensorBoard:
    """Scalars per epoch for TensorBoard, where it is installed (extra ``tensorboard``); else nothing.

    Args:
        folder: where the event files go.
        epoch: the first epoch to come; later ones of an interrupted run are dropped by the viewer.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder.absolute()), purge_step=epoch)  # its thread writes later

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """Add one epoch."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Flush to disk."""
        if self._writer is not None:
            self._writer.close()
