"""How long one window takes."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from fusionkit.core.levels import Window
from fusionkit.evaluation.bundled import answer
from fusionkit.export.parity import some
from fusionkit.runtime import Session

REPEATS, WARM = 105, 5


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one window's prediction, all sensors given, on one thread."""

    p50: float
    p99: float

    def as_dict(self) -> dict[str, float]:
        """As plain data."""
        return asdict(self)


def measure_latency(session: Session, windows: Mapping[str, Window]) -> Latency:
    """Ask one window after another, each with all sensors, as long as they were trained on.

    Neighbours differ, so that none is answered from the numbers that were just read.
    """
    rows = [_only(windows, row) for row in range(len(next(iter(windows.values())).present))]
    times = []
    for number in range(REPEATS):
        began = time.perf_counter()
        answer(session, rows[number % len(rows)])
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times[WARM:], [50, 99])
    return Latency(float(p50), float(p99))


def _only(windows: Mapping[str, Window], row: int) -> dict[str, Window]:
    """One row of every sensor, which is there."""
    rows = {name: some(window, slice(row, row + 1), here=True) for name, window in windows.items()}
    return {name: window._replace(present=window.present | True) for name, window in rows.items()}
