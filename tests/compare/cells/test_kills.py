"""Twenty kills at random moments lose nothing: the same tables to the byte, and every cell there exactly once."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from fusionkit.compare.cells import cell

ROOT = Path(cell.__file__).parents[3]
WORDS = ["data.subjects=4", "data.records=6", "data.seconds=1.0", "modalities=eeg,text", "train.device=cpu",
         "modalities.eeg.encoder.kind=mlp", "train.epochs=20", "train.patience=0", "train.checkpoint_seconds=0.1",
         "data.split={kind: k_fold, by: subject, folds: 2, validation: 0.5}",
         "--vary", "fusion.kind=concat,rcft", "--seeds", "1", "--no-report"]  # fmt: skip


class Local:
    """Processes of this machine: the comparison, and the two that it starts."""

    options = ("--jobs", "2")

    def __init__(self, folder: Path) -> None:
        pass

    def victims(self, compare: subprocess.Popen[bytes]) -> dict[str, list[int]]:
        found = [pid for pid in children(compare.pid) if b"spawn_main" in command(pid)]
        return {"comparison": [compare.pid], "worker": found}

    def mend(self, struck: str, pid: int) -> None:
        """A comparison replaces its own workers."""

    def stop(self) -> None:
        """Nothing is left."""


class Cluster:
    """A Dask scheduler and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = open(folder / "dask.txt", "ab")  # noqa: SIM115
        self.scheduler: subprocess.Popen[bytes]
        self.workers: list[subprocess.Popen[bytes]] = []
        self.left: list[subprocess.Popen[bytes]] = []
        self.begin()

    def begin(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2])
        self.left += self.workers  # they lost their scheduler and leave by themselves
        self.workers = [self.work() for _ in range(2)]

    def start(self, kind: str, *more: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *more, "--no-dashboard"]
        return subprocess.Popen(words, env=environment(), cwd=self.folder, stdout=self.log, stderr=self.log)

    def work(self) -> subprocess.Popen[bytes]:
        own = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder)]
        return self.start("worker", self.address, *own)

    @property
    def options(self) -> tuple[str, ...]:
        return ("--on", self.address)

    def victims(self, compare: subprocess.Popen[bytes]) -> dict[str, list[int]]:
        workers = [one.pid for one in self.workers]
        return {"comparison": [compare.pid], "scheduler": [self.scheduler.pid], "worker": workers}

    def mend(self, struck: str, pid: int) -> None:
        if struck == "scheduler":
            self.scheduler.wait()
            self.begin()
        if struck == "worker":
            (dead,) = [one for one in self.workers if one.pid == pid]
            dead.wait()
            self.workers[self.workers.index(dead)] = self.work()

    def stop(self) -> None:
        for one in (self.scheduler, *self.workers, *self.left):
            one.kill()
            one.wait()
        self.log.close()


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.study)])
@pytest.mark.parametrize("machines", [Local, Cluster])
def test_kills_at_random_moments_lose_nothing(machines, kills, tmp_path):
    if machines is Cluster:
        pytest.importorskip("distributed")
    whole = tmp_path / "whole"
    assert compare(tmp_path, whole, "--jobs", "2").wait() == 0, (tmp_path / "printed.txt").read_text()
    draw, struck, ends = random.Random(0), Counter(), Counter()
    here = machines(tmp_path)
    try:
        for number in range(kills):
            runs = tmp_path / f"killed-{number}"
            while (code := once(tmp_path, runs, here, draw, struck, kills)) != 0:
                ends[code] += 1
            same_as(whole, runs)
            if sum(struck.values()) >= kills:
                break
        print(f"\nkilled {dict(struck)} in {number + 1} comparisons; ended with {dict(ends)}")
    finally:
        here.stop()
    assert sum(struck.values()) == kills


def once(tmp_path, runs, here, draw, struck, kills):
    """One attempt to end a comparison, with kills while any are left; its exit code."""
    running = compare(tmp_path, runs, *here.options)
    while sum(struck.values()) < kills:
        early, delay, began = draw.random() < 0.2, draw.uniform(0.1, 2.5), time.time()
        while running.poll() is None and not early and not under_way(runs, began):
            time.sleep(0.02)
        until = time.monotonic() + delay
        while running.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if running.poll() is not None:
            break
        victims = here.victims(running)
        kind = draw.choice([name for name, pids in victims.items() if pids])
        pid = draw.choice(victims[kind])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            struck[kind] += 1
            if kind == "comparison":
                running.wait()
            here.mend(kind, pid)
    code = running.wait(timeout=600)
    said = (tmp_path / "printed.txt").read_text()
    # killed; its scheduler or workers lost, which it says in a line; or a cell that several workers died of reported
    assert (
        code in (0, -signal.SIGKILL) or (code == 2 and "error: --on" in said) or (code == 1 and "workers died" in said)
    )
    assert "Traceback" not in said, said
    return code


def under_way(runs, since):
    """Whether a cell was begun or went on."""
    found = [*runs.rglob("log.txt"), *runs.rglob("last.safetensors")]
    with suppress(OSError):
        return any(path.stat().st_mtime > since for path in found)
    return False


def compare(tmp_path, runs, *options):
    words = [sys.executable, "-m", "fusionkit", "compare", "quickstart", f"run.dir={runs}", *WORDS, *options]
    begun = ["--resume"] if list(runs.rglob("comparison.json")) else []
    with open(tmp_path / "printed.txt", "wb") as printed:
        return subprocess.Popen([*words, *begun], env=environment(), cwd=tmp_path, stdout=printed, stderr=printed)


def same_as(whole, runs):
    (wanted,), (found,) = (list(one.rglob("comparison.json")) for one in (whole, runs))
    for name in ("results.csv", "verdict.json", "split.json"):
        assert (found.parent / name).read_bytes() == (wanted.parent / name).read_bytes(), name
    cells, said = ([one for part in json.loads(f.read_text())["settings"] for one in part["cells"]]
                   for f in (wanted, found))  # fmt: skip
    places = [(one["strategy"], one["fold"], one["seed"]) for one in said]
    assert places == [(one["strategy"], one["fold"], one["seed"]) for one in cells]
    assert len(set(places)) == len(places) == len({one["key"] for one in said})
    assert {one["problem"] for one in said} == {""}
    assert {path.name for path in (found.parent / "cells").iterdir()} == {one["key"] for one in said}
    for one in said:
        assert len(list((found.parent / "cells" / one["key"]).rglob("predictions.safetensors"))) == 1


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def children(parent):
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(place.parent.name))
    return found


def command(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
