"""Processes that die, and processes that share a training."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.history import read_history

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


def test_two_processes_learn_what_one_does(tmp_path, two_processes):
    """Data parallel over gloo: the same curve of losses as one process and the same weights, to 1e-4."""
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
    two_processes(script, tmp_path / "two", 120)
    subprocess.run([sys.executable, script, tmp_path / "one"], env=environment(), check=True)
    one, two = (load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-4)
    curve, parallel = (
        torch.tensor([epoch["loss"] for epoch in read_history(tmp_path / name / "history.csv")])
        for name in ("one", "two")
    )
    assert len(curve) == 5 and curve[0] - curve[-1] > 0.1  # far more than what they may differ by
    torch.testing.assert_close(parallel, curve, atol=1e-4, rtol=1e-4)


def test_two_processes_stop_in_the_same_epoch(tmp_path, two_processes):
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
    two_processes(script, tmp_path / "two", 60)


def test_two_processes_weigh_tasks_as_one_does(tmp_path, two_processes):
    """Dynamic weight average: labels that are missing unevenly, the same weights and losses to 1e-5."""
    script = tmp_path / "work.py"
    script.write_text(
        "import json, sys, torch\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "import numpy as np\n"
        "from torch import nn\n"
        "from fusionkit.core.levels import Batch\n"
        "from fusionkit.core.registry import balancing\n"
        "from fusionkit.fusion.model import Output\n"
        "from fusionkit.heads.classification import Classification\n"
        "from fusionkit.heads.regression import Regression\n"
        "from fusionkit.training.engine import Engine, Settings\n"
        "from fusionkit.training.objective import TaskObjective\n"
        "from fusionkit.training.parallel import joined\n"
        "class Model(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.trunk, self.state, self.level = nn.Linear(5, 4), nn.Linear(4, 2), nn.Linear(4, 1)\n"
        "        self.merges, self.operations = nn.ModuleDict(), nn.ModuleDict()\n"
        "    def forward(self, inputs, generator=None):\n"
        "        hidden = self.trunk(inputs['x']).tanh()\n"
        "        decisions = {'state': self.state(hidden).log_softmax(1), 'level': self.level(hidden)}\n"
        "        return Output(decisions, {}, {}, torch.zeros(()))\n"
        "torch.set_num_threads(1)\n"
        "with joined() as leader:\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    x = torch.randn(64, 5, generator=g)\n"
        "    state, level = (x[:, 0] > 0).float(), x[:, 1:2] + 3\n"
        "    state[::3], level[5:25] = torch.nan, torch.nan\n"
        "    tasks = {'state': Classification(classes=['a', 'b']), 'level': Regression()}\n"
        "    tasks['state'].fit(state.numpy(), 'state')\n"
        "    tasks['level'].fit(level[:, 0].numpy(), 'level')\n"
        "    balance = balancing.build('dwa', {'temperature': 0.5}, [task.outcome for task in tasks.values()])\n"
        "    torch.manual_seed(3)\n"
        "    objective = TaskObjective(Model(), tasks, {'state': 1.0, 'level': 2.0}, balance=balance)\n"
        "    load = lambda r: Batch({'x': x[r]}, {'state': state[r], 'level': level[r, 0]})\n"
        "    engine = Engine(objective, load, torch.arange(64), Settings(epochs=6, batch=16, lr=3e-2), seed=1,\n"
        "                    device=torch.device('cpu'), folder=Path(sys.argv[1]))\n"
        "    engine.run()\n"
        "    if leader:\n"
        "        kept = [[entry['weight_state'], entry['weight_level']] for entry in engine.history]\n"
        "        (Path(sys.argv[1]) / 'weights.json').write_text(json.dumps(kept))\n"
    )
    two_processes(script, tmp_path / "two", 120)
    subprocess.run([sys.executable, script, tmp_path / "one"], env=environment(), check=True)
    one, two = (torch.tensor(json.loads((tmp_path / name / "weights.json").read_text())) for name in ("one", "two"))
    assert (one - 1).abs().max() > 1e-2  # they do move
    torch.testing.assert_close(two, one, atol=1e-5, rtol=1e-5)
    one, two = (load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-5)


def test_two_processes_release_cross_weights_when_one_does(tmp_path, two_processes):
    """`correlated_first` counts the samples of all processes, of an odd batch too, and so learns the same."""
    script = tmp_path / "work.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from fusionkit.core.levels import Batch, Tokens\n"
        "from fusionkit.core.registry import fusion\n"
        "from fusionkit.training.engine import Engine, Settings\n"
        "from fusionkit.training.parallel import joined\n"
        "class Objective(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        given = {'eeg': 3, 'eye': 2}, 4, None\n"
        "        self.fuse = fusion.build('correlated_first', {'hold': 1.0, 'ramp': 4.0, 'epochs': 0}, *given)\n"
        "        self.fuse.records.fill_(30)\n"
        "        self.fuse.met.fill_(True)\n"
        "    def forward(self, batch, generator=None):\n"
        "        x = batch.targets['x']\n"
        "        mask, present = torch.ones(len(x), 1, dtype=torch.bool), torch.ones(len(x), dtype=torch.bool)\n"
        "        parts = {'eeg': x[:, None, :3], 'eye': x[:, None, 3:]}\n"
        "        fused = self.fuse({name: Tokens(part, mask, present) for name, part in parts.items()})\n"
        "        error = (fused.values[:, 0] - batch.targets['y']).square().sum()\n"
        "        return error * self.share(len(x))\n"
        "    def share(self, rows):\n"  # the mean over all processes' rows, as objectives take it
        "        from fusionkit.core.processes import summed, world_size\n"
        "        return world_size() / summed(torch.tensor(float(rows)))\n"
        "torch.set_num_threads(1)\n"
        "with joined():\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    x, y = torch.randn(30, 5, generator=g), torch.randn(30, 4, generator=g)\n"
        "    torch.manual_seed(3)\n"
        "    engine = Engine(Objective(), lambda r: Batch({}, {'x': x[r], 'y': y[r]}), torch.arange(30),\n"
        "                    Settings(epochs=3, batch=15, lr=1e-2), seed=1, device=torch.device('cpu'),\n"
        "                    folder=Path(sys.argv[1]))\n"
        "    engine.run()\n"
    )
    two_processes(script, tmp_path / "two", 120)
    subprocess.run([sys.executable, script, tmp_path / "one"], env=environment(), check=True)
    one, two = (load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("one", "two"))
    assert one["model.fuse.seen"] == two["model.fuse.seen"] == 90
    assert one["model.fuse.cross"].any()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-5)
