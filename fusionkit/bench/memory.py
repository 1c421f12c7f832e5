"""Does memory grow with the data? The same study of EEG at one and ten times the records, streamed from its maps."""

import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from fusionkit.bench.process import anonymous_mb, check_anonymous, in_environment
from fusionkit.recipe.load import parse_recipe

ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""What glibc's allocator is told in the measured processes: to give back at once what was freed. Left alone, it keeps as
much as the timing of threads happens to make it keep, 10 to 40 megabytes that no one holds."""
RECIPE = """
name: memory
data:
  kind: synthetic
  subjects: 8
  records: {records}
  seconds: 16.0
  resident: false
  split: {{kind: holdout, by: subject, test: 0.25, validation: 0.25}}
modalities:
  eeg: {{kind: eeg, normalise: {{kind: subject}}}}
fusion: {{kind: vote, dim: 16}}
tasks: {{target: {{kind: classification}}}}
augment: {{eeg: [{{kind: eeg_sign_flip}}]}}
train: {{epochs: 1, batch: 32, device: cpu, threads: 1}}
run: {{dir: {folder}}}
"""
"""Features are cached for their statistics, and windows streamed for the augmentation: both ways data take."""


@dataclass(frozen=True)
class MemoryBench:
    """Peaks of anonymous memory, from reading the source to the last prediction; mapped files are not counted.

    Attributes:
        records: of the small study and of the large one.
        signal_mb: stored samples of each, in megabytes.
        peak_mb: largest anonymous memory of each.
    """

    records: tuple[int, int]
    signal_mb: tuple[float, float]
    peak_mb: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Peak of the large study over that of the small one."""
        return self.peak_mb[1] / self.peak_mb[0]

    @property
    def record_kb(self) -> float:
        """What a record more costs, in kilobytes: names, labels and places of windows."""
        return 1e3 * (self.peak_mb[1] - self.peak_mb[0]) / (self.records[1] - self.records[0])


def bench_memory(records: int = 400, times: int = 10) -> MemoryBench:
    """Ingest and train both studies, each in a process of its own.

    Args:
        records: of the small study, in all; a multiple of 8 subjects.
        times: how many times as many the large one has.

    Raises:
        ConfigError: the system does not tell anonymous memory (no Linux).
    """
    check_anonymous()
    sizes = (records // 8, times * (records // 8))
    found = []
    for size in sizes:
        with in_environment(ALLOCATOR), ProcessPoolExecutor(1, get_context("spawn")) as child:
            found.append(child.submit(_train, size).result())
    peaks, signals = ((found[0][i], found[1][i]) for i in (0, 1))
    return MemoryBench((8 * sizes[0], 8 * sizes[1]), signals, peaks)


def _train(records: int) -> tuple[float, float]:
    """Peak of anonymous memory and stored samples in megabytes, of a study with so many records a subject."""
    from fusionkit.training.run import train

    peak, done = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous_mb())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with tempfile.TemporaryDirectory(prefix="fusionkit-memory-") as folder:
            recipe = parse_recipe(RECIPE.format(records=records, folder=folder), "memory")
            run = train(recipe)
            return max(peak[0], anonymous_mb()), run.study.stat().st_size / 1e6
    finally:
        done.set()
        watcher.join()
