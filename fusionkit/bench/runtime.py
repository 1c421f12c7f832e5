"""What a prediction costs over ONNX Runtime's own time for the graph, and how soon a fresh process answers."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.runtime import Session
from fusionkit.runtime.reference import read_arrays

OVERHEAD, FIRST_SECONDS = 1.3, 1.0
FIRST = """
from fusionkit.runtime import Session
Session.load({path!r}).check()
import time
print(time.process_time())
"""


@dataclass(frozen=True)
class RuntimeBench:
    """One window of all sensors, on one thread; milliseconds.

    Attributes:
        session_ms: processor time of `Session.predict`, median.
        graph_ms: of ONNX Runtime with the inputs ready, median; both in turn.
        p50_ms: of `Session.predict` by the clock.
        p99_ms: likewise.
        first_s: processor seconds from the interpreter's start to the first answer, least of three.
    """

    session_ms: float
    graph_ms: float
    p50_ms: float
    p99_ms: float
    first_s: float

    @property
    def overhead(self) -> float:
        """What a prediction takes, of what its graph takes."""
        return self.session_ms / self.graph_ms

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        rules = {
            f"a prediction took {self.overhead:.2f} times its graph, above {OVERHEAD:g}": self.overhead > OVERHEAD,
            f"the first answer took {self.first_s:.2f} s, above {FIRST_SECONDS:g}": self.first_s > FIRST_SECONDS,
        }
        return [fault for fault, broken in rules.items() if broken]


def bench_runtime(path: Path, rounds: int = 1000) -> RuntimeBench:
    """Ask a bundle its own reference inputs.

    Args:
        path: of the bundle.
        rounds: how often both are timed.

    Raises:
        BundleError: it is none.
        DataError: it has no reference inputs.
    """
    session = Session.load(path)
    if "reference.npz" not in session.files:
        raise DataError(f"{path}: a bundle must have a reference.npz to be timed, but has none")
    arrays = read_arrays(session.files["reference.npz"], f"{path}: reference.npz")
    windows = {name: arrays[f"input_{name}"][:1] for name in session.sensors if f"input_{name}" in arrays}
    statistics = {
        name: (np.zeros(sensor.statistics, np.float32), np.ones(sensor.statistics, np.float32))
        for name, sensor in session.sensors.items()
        if sensor.statistics is not None
    }
    fed = session.feed(windows, statistics=statistics)
    calls: dict[str, Callable[[], Any]] = {
        "session": lambda: session.predict(windows, statistics=statistics),
        "graph": lambda: session.graph.run(list(session.tasks), fed),
    }
    spent: dict[str, list[float]] = {"session": [], "graph": []}
    clock: list[float] = []
    order = np.random.default_rng(0).permuted(np.tile([0, 1], (rounds, 1)), axis=1)  # each as often first
    for turn in order:
        for name in (("session", "graph")[place] for place in turn):
            began, processor = time.perf_counter(), time.process_time()
            calls[name]()
            spent[name].append(1e3 * (time.process_time() - processor))
            if name == "session":
                clock.append(1e3 * (time.perf_counter() - began))
    medians = {name: float(np.median(times[rounds // 10 :])) for name, times in spent.items()}
    p50, p99 = np.percentile(clock[rounds // 10 :], [50, 99])
    return RuntimeBench(medians["session"], medians["graph"], float(p50), float(p99), _first(path))


def _first(path: Path) -> float:
    code = FIRST.format(path=str(path.resolve()))
    return min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
