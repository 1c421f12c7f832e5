"""Does a stream keep up? Made-up EEG and sound pushed as fast as it goes: lag of decisions, memory, nothing lost."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.bench.process import anonymous_mb, check_anonymous, in_environment
from fusionkit.bench.runtime import OVERHEAD

if TYPE_CHECKING:
    from fusionkit.training.run import Run

Array = np.ndarray[Any, Any]

RATES = {"eeg": 200, "audio": 16000}
CHANNELS = 62
CHUNK = 0.05
"""Seconds of a sensor that are pushed at once."""
NOISE_SECONDS = 10
"""Made-up samples repeat after so many seconds."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
SPEED, GROWTH_MB, P50_MS, P99_MS = 20.0, 2.0, 3.0, 10.0
RECIPE = """
name: stream
data: {{kind: study, path: {study}, split: {{kind: holdout, by: subject, test: 0.25, validation: 0.25}}}}
modalities:
  eeg:
    kind: eeg
    sample_rate: 200
    preprocess: {{method: causal, notch: 50, low: 0.5, high: 45, reference: average}}
  audio: {{kind: audio, hop: 0.02, mel_bands: 40, encoder: {{kind: cnn, width: 8}}}}
fusion: {{kind: rcft, dim: 32, layers: 2, steps: 4}}
tasks: {{target: {{kind: classification}}}}
train: {{epochs: 1, batch: 32, device: cpu, threads: 1, single_sensors: false}}
run: {{dir: {folder}}}
"""
"""The quick start's EEG, sound and fusion, with 62 channels and causal filters before them."""


@dataclass(frozen=True)
class StreamBench:
    """How a stream did.

    Attributes:
        hours: of recording that were pushed.
        seconds: that it took, by the clock.
        decisions: that were made, one a second of the recording.
        lost: decisions that should have been made and were not, or that lacked a sensor.
        lag_p50_ms: from the push of the last chunk that a decision needs to the decision: filters, windows, graph.
        lag_p99_ms: 99 in 100 took no longer.
        processor_p50_ms: processor time of the same, which other programs on the machine do not lengthen.
        processor_p99_ms: likewise.
        graph_p50_ms: of that processor time, what ONNX Runtime took for the graph.
        overhead: median of the processor time of a decision over that of its graph.
        warm_p50_ms: ONNX Runtime by the clock on one window again and again, caches warm as they are in no stream.
        memory_mb: anonymous memory after a tenth of the recording, and at its end.
    """

    hours: float
    seconds: float
    decisions: int
    lost: int
    lag_p50_ms: float
    lag_p99_ms: float
    processor_p50_ms: float
    processor_p99_ms: float
    graph_p50_ms: float
    overhead: float
    warm_p50_ms: float
    memory_mb: tuple[float, float]

    @property
    def speed(self) -> float:
        """Times real time."""
        return 3600 * self.hours / self.seconds

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        grown = self.memory_mb[1] - self.memory_mb[0]
        rules = {
            f"{self.lost} windows were lost": self.lost > 0,
            f"memory grew by {grown:.1f} MB, above {GROWTH_MB:g}": grown > GROWTH_MB,
            f"{self.speed:.1f} times real time, below {SPEED:g}": self.speed < SPEED,
            f"half of decisions took above {P50_MS:g} ms": self.lag_p50_ms > P50_MS,
            f"1 in 100 decisions took above {P99_MS:g} ms": self.lag_p99_ms > P99_MS,
            f"a decision took {self.overhead:.2f} times its graph, above {OVERHEAD:g}": self.overhead > OVERHEAD,
        }
        return [fault for fault, broken in rules.items() if broken]


def bench_stream(bundle: Path, hours: float = 0.05) -> StreamBench:
    """Stream noise through a bundle in a process of one thread, without torch.

    Args:
        bundle: of what `train_on_noise` trained.
        hours: of recording.

    Raises:
        ConfigError: the system does not tell anonymous memory (no Linux).
    """
    check_anonymous()
    with in_environment(ONE_THREAD), ProcessPoolExecutor(1, get_context("spawn")) as child:
        return child.submit(_stream, str(bundle), hours).result()


def train_on_noise(folder: Path) -> "Run":
    """A run of both sensors that has seen a few windows of noise, for the bundle."""
    from fusionkit.core.recording import Recording
    from fusionkit.data.records import Records
    from fusionkit.data.saving import NewSensor, save_study
    from fusionkit.recipe.load import parse_recipe
    from fusionkit.training.run import train

    generator = np.random.default_rng(0)
    rows = [{"id": str(n), "subject": str(n // 4), "target": "xy"[n % 2]} for n in range(32)]
    names = tuple(f"E{n}" for n in range(CHANNELS))
    eeg = [1e-5 * generator.normal(size=(RATES["eeg"], CHANNELS)).astype(np.float32) for _ in rows]
    audio = [0.1 * generator.normal(size=RATES["audio"]).astype(np.float32).clip(-4, 4) for _ in rows]
    sensors = {
        "eeg": NewSensor.of([Recording(one, float(RATES["eeg"]), names, "V") for one in eeg], "eeg"),
        "audio": NewSensor.of([Recording(one, float(RATES["audio"])) for one in audio], "audio"),
    }
    save_study(folder / "noise.h5", Records.of(rows, ["target"]), sensors, settings="")
    return train(parse_recipe(RECIPE.format(study=folder / "noise.h5", folder=folder / "runs"), "stream"))


def _stream(bundle: str, hours: float) -> StreamBench:
    from fusionkit.runtime import Session
    from fusionkit.runtime.stream import Stream

    session = Session.load(bundle)
    session.graph = graph = _Timed(session.graph)
    stream = Stream(session)
    generator = np.random.default_rng(1)
    noise: dict[str, Array] = {
        "eeg": 1e-5 * generator.normal(size=(NOISE_SECONDS * RATES["eeg"], CHANNELS)),
        "audio": (0.1 * generator.normal(size=NOISE_SECONDS * RATES["audio"])).clip(-1, 1).astype(np.float32),
    }
    sizes = {name: round(CHUNK * rate) for name, rate in RATES.items()}
    chunks = round(3600 * hours / CHUNK)
    made, after, processor, alone = 0, 0.0, list[float](), list[float]()
    began = time.perf_counter()
    for number in range(chunks):
        for name, size in sizes.items():
            at = number * size % len(noise[name])
            stamps = (number * size + np.arange(size)) / RATES[name]
            busy = time.thread_time()
            decisions = stream.push(name, noise[name][at : at + size], stamps)
            if decisions:
                processor.append(time.thread_time() - busy)
                alone.append(graph.spent)
            made += sum(all(decision.present.values()) for decision in decisions)
        if number == chunks // 10:
            after = anonymous_mb()
    seconds, memory = time.perf_counter() - began, (after, anonymous_mb())
    health, wanted = stream.health, int(chunks * CHUNK + 1e-9 - stream.window) + 1
    return StreamBench(
        hours,
        seconds,
        health.decisions,
        wanted - made,
        1e3 * health.lag_p50,
        1e3 * health.lag_p99,
        1e3 * float(np.percentile(processor, 50)),
        1e3 * float(np.percentile(processor, 99)),
        1e3 * float(np.median(alone)),
        float(np.median(np.divide(processor, alone))),
        _warm_ms(bundle, noise),
        memory,
    )


class _Timed:
    """A graph that knows how much processor time its last run took."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.spent = 0.0

    def run(self, *given: Any) -> Any:
        busy = time.thread_time()
        answers = self._graph.run(*given)
        self.spent = time.thread_time() - busy
        return answers


def _warm_ms(bundle: str, noise: dict[str, Array]) -> float:
    """Median of ONNX Runtime's own time for one window, milliseconds."""
    from fusionkit.runtime import read_bundle
    from fusionkit.runtime.graph import open_graph

    read = read_bundle(bundle)
    graph = open_graph(read.files["model.onnx"], "model.onnx", 1)
    feed = {}
    for name, rate in RATES.items():
        window = noise[name][:rate].astype(np.float32)
        feed[name] = np.ascontiguousarray(window.T)[None]
        feed[f"{name}_present"] = np.ones(1, bool)
        feed[f"{name}_length"] = np.full(1, rate)
    feed = {name: feed[name] for name in read.manifest.inputs}
    times = []
    for _ in range(200):
        began = time.perf_counter()
        graph.run(None, feed)
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))
