"""Processes that die, and processes that share a training."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusionkit.training.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe_file(tiny, tmp_path):
    """The tiny recipe on disk, saving itself after every step, long enough to be killed in the middle."""
    from fusionkit.recipe.write import dump_recipe

    recipe = tiny("train.epochs=600", "train.checkpoint_seconds=0.001", "train.patience=0", "data.split.folds=2")
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(recipe))
    return path


def command(recipe_file, runs, *more):
    return [
        *(sys.executable, "-m", "fusionkit", "train", str(recipe_file), f"run.dir={runs}"),
        *("--no-report", "--no-export", "--fold", "0", *more),
    ]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def final_weights(runs):
    (folder,) = (runs / "tiny").glob("*/fold-0/fused")
    return [load_tensors(folder / f"{name}.safetensors")[0] for name in ("last", "best", "predictions")]


def test_twenty_kills_at_random_moments_change_no_bit(recipe_file, tmp_path):
    subprocess.run(command(recipe_file, tmp_path / "whole"), check=True, env=environment(), cwd=tmp_path)
    runs, kills, began, rng = tmp_path / "cut", 0, False, random.Random(0)
    while kills < 20:
        process = subprocess.Popen(
            command(recipe_file, runs, *(["--resume"] if began else [])), env=environment(), cwd=tmp_path
        )
        deadline = time.monotonic() + 120
        if not began:  # a run must exist before it can be resumed
            while not list(runs.glob("tiny/*/recipe.yaml")) and time.monotonic() < deadline:
                time.sleep(0.01)
            began = True
        time.sleep(rng.uniform(0, 5))
        if process.poll() is not None:  # it came to its end before it was to die: begin again, killed earlier
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(recipe_file, runs, "--resume"), check=True, env=environment(), cwd=tmp_path)
    assert kills == 20, "the training is too short to be killed in twenty times"
    for whole, cut in zip(final_weights(tmp_path / "whole"), final_weights(runs), strict=True):
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[name], cut[name]) for name in whole if not name.startswith("random"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_stop_leaves_a_run_that_goes_on(recipe_file, tmp_path, number, code):
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        command(recipe_file, runs), env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(runs.glob("tiny/*/fold-0/fused/last.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.strip().splitlines()[-1].startswith("error: stopped on request; the run is saved")
    subprocess.run(command(recipe_file, runs, "--resume"), check=True, env=environment(), cwd=tmp_path)


def test_two_processes_learn_what_one_does(tmp_path):
    """Data parallel over gloo: the same losses as one process, to 1e-4."""
    script = tmp_path / "work.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from torch.nn import functional as F\n"
        "from fusionkit.core.levels import Batch\n"
        "from fusionkit.training.engine import Engine, Settings\n"
        "from fusionkit.training.objective import _mean\n"
        "from fusionkit.training.parallel import joined\n"
        "class Objective(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(5, 2)\n"
        "    def forward(self, batch, generator=None):\n"
        "        y = batch.targets['y']\n"
        "        known = (y >= 0).float()\n"  # missing labels fall unevenly on the processes
        "        each = F.cross_entropy(self.layer(batch.targets['x']), y.clamp_min(0), reduction='none')\n"
        "        return _mean((each * known).sum(), known.sum())[0]\n"
        "torch.set_num_threads(1)\n"
        "with joined() as leader:\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    x = torch.randn(64, 5, generator=g)\n"
        "    y = (x[:, 0] > 0).long()\n"
        "    y[::3] = -1\n"
        "    torch.manual_seed(3)\n"
        "    objective = Objective()\n"
        "    engine = Engine(objective, lambda r: Batch({}, {'x': x[r], 'y': y[r]}), torch.arange(64),\n"
        "                    Settings(epochs=5, batch=16, lr=1e-2), seed=1, device=torch.device('cpu'),\n"
        "                    folder=Path(sys.argv[1]))\n"
        "    engine.run()\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**environment(), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["GLOO_SOCKET_IFNAME"] = "lo"
    pair = [
        subprocess.Popen([sys.executable, script, tmp_path / "two"], env={**shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    subprocess.run([sys.executable, script, tmp_path / "one"], env=environment(), check=True)
    assert [process.wait(timeout=120) for process in pair] == [0, 0]
    one, two = (load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-4)


def test_two_processes_stop_in_the_same_epoch(tmp_path):
    """Validation may differ between processes in the last bit; the first one's says when to stop."""
    script = tmp_path / "work.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from fusionkit.core.levels import Batch\n"
        "from fusionkit.training.engine import Engine, Settings\n"
        "from fusionkit.training.parallel import joined\n"
        "class Objective(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(5, 2)\n"
        "    def forward(self, batch, generator=None):\n"
        "        return self.layer(batch.targets['x']).square().mean()\n"
        "torch.set_num_threads(1)\n"
        "with joined() as leader:\n"
        "    x, said = torch.ones(16, 5), iter(range(9))\n"
        "    engine = Engine(Objective(), lambda r: Batch({}, {'x': x[r]}), torch.arange(16),\n"
        "                    Settings(epochs=5, batch=8, patience=2), seed=1, device=torch.device('cpu'),\n"
        "                    folder=Path(sys.argv[1]),\n"
        "                    validate=lambda: (float(next(said)) * (1 if leader else -1), {}))\n"
        "    engine.run()\n"
        "    engine.load_best()\n"  # written by the first process, read by both
        "    assert len(engine.history) == 3 and engine.best_epoch == 0\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**environment(), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["GLOO_SOCKET_IFNAME"] = "lo"
    pair = [
        subprocess.Popen([sys.executable, script, tmp_path / "two"], env={**shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=60) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
