"""How fast the kinds of EEG features are, against a reference that takes one window at a time, and against reading."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from fusionkit.core.recording import Array, Stored
from fusionkit.core.registry import modalities

CHANNELS, SAMPLES, RATE = 62, 200, 200.0
KINDS = ("dft", "bandpass", "seed")
FEW = 128
"""Windows that the slow ones are timed on, the reference and the filters."""


@dataclass(frozen=True)
class FeaturesBench:
    """Processor time of one kind on one thread, least of all rounds.

    Attributes:
        kind: of the features.
        windows_per_second: in a batch.
        one_window_us: microseconds for a batch of one.
        reference_per_second: windows a second of the reference.
        speedup: ours over the reference.
        of_reading: our windows a second over those of summing every sample of the batch once.
    """

    kind: str
    windows_per_second: float
    one_window_us: float
    reference_per_second: float
    speedup: float
    of_reading: float


def bench_features(rounds: int = 10, windows: int = 2048) -> list[FeaturesBench]:
    """Time every kind: windows of 62 channels x 200 samples at 200 Hz, float32 volts, one step each.

    The time of `bandpass` is that of its filters over the recording and of the front end; that of one window is the
    front end's alone, for in a stream the samples are filtered as they come.

    Args:
        rounds: how often a batch is timed.
        windows: how many there are in it; of what is filtered, `FEW`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = np.random.default_rng(0)
        values = 1e-5 * generator.standard_normal((CHANNELS, windows * SAMPLES), dtype=np.float32)
        batch = _windows(values)
        read = windows / _least(batch.sum, rounds)
        with torch.inference_mode():
            return [_bench(kind, values, rounds, read) for kind in KINDS]
    finally:
        torch.set_num_threads(threads)


def _bench(kind: str, values: Array, rounds: int, read: float) -> FeaturesBench:
    sensor = modalities.build("eeg", {"features": {"kind": kind}})
    few = sensor.from_array(values[:, : FEW * SAMPLES], RATE)
    stored = Stored(RATE, few.channels, few.unit, (CHANNELS,), "float32", SAMPLES)
    front_end, whole = sensor.front_end(stored), sensor.whole(stored)
    if whole is None:
        batch, filtering = _windows(values), 0.0
    else:
        batch, filtering = _windows(sensor.window(whole(few.values))), _least(lambda: whole(few.values), 3) / FEW
    length = torch.full((len(batch),), SAMPLES)
    each = _least(lambda: front_end(batch, length), rounds) / len(batch) + filtering
    one = _least(lambda: front_end(batch[:1], length[:1]), 100 * rounds)
    package = type(sensor).__module__.rpartition(".")[0]
    reference = import_module(".reference", package).KINDS[kind]
    exact, bands = values[:, : FEW * SAMPLES].astype(np.float64), list(sensor.hertz().values())
    slow = _least(lambda: reference(exact, RATE, SAMPLES, bands), 3) / FEW
    return FeaturesBench(kind, 1 / each, 1e6 * one, 1 / slow, slow / each, 1 / each / read)


def _windows(values: Array) -> Tensor:
    """``(channel[, band], time)`` as ``(window, channel[, band], sample)``."""
    cut = values.reshape(*values.shape[:-1], -1, SAMPLES)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(cut, -2, 0)))


def _least(work: Callable[[], object], rounds: int) -> float:
    """Least seconds of processor time of all rounds, after one that warms up."""
    work()
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)
