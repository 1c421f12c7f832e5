"""How long one window takes."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from fusionkit.core.levels import Window
from fusionkit.evaluation.bundled import answer
from fusionkit.export.parity import first
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
    """Ask the same window again and again, as long as it was trained on."""
    one = {name: first(window, 1, here=True) for name, window in windows.items()}
    one = {name: w._replace(present=w.present | True) for name, w in one.items()}
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        answer(session, one)
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times[WARM:], [50, 99])
    return Latency(float(p50), float(p99))
