"""Processes that die while a generator learns."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusionkit.recipe.write import dump_recipe
from fusionkit.training.checkpoint import load_tensors

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_kills_at_random_moments_change_no_bit_of_generated_records(tiny, tmp_path):
    """Killed in the generator's training, which saves itself at every look, and in what comes after."""
    generator = (
        "{kind: cwgan_gp, hidden: 8, latent: 4, epochs: 400, batch: 8, use: selective, keep: {min_confidence: 0.5}}"
    )
    recipe = tiny(f"augment.eeg={generator}", "train.checkpoint_seconds=0.001", "train.epochs=20")
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(recipe))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def command(runs, *more):
        quiet = ("--no-report", "--no-export", "--fold", "0", *more)
        return [sys.executable, "-m", "fusionkit", "train", str(path), f"run.dir={runs}", *quiet]

    def start(runs, *more):
        return subprocess.Popen(command(runs, *more), env=environment, cwd=tmp_path)

    def wait_for(pattern):
        deadline = time.monotonic() + 120
        while not list(runs.glob(pattern)) and time.monotonic() < deadline:
            time.sleep(0.01)

    subprocess.run(command(tmp_path / "whole"), check=True, env=environment, cwd=tmp_path)
    runs, draw, within, more = tmp_path / "cut", random.Random(0), 0, []
    for _ in range(5):
        process = start(runs, *more)
        more = ["--resume"]
        wait_for("tiny/*/fold-0/generated/eeg/last.safetensors")
        time.sleep(draw.uniform(0, 6))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        within += not list(runs.glob("tiny/*/fold-0/generated/eeg/generator.safetensors"))
    subprocess.run(command(runs, "--resume"), check=True, env=environment, cwd=tmp_path)
    assert within >= 2, "the generator is trained too soon to be killed in the middle"
    for name in ("generated/eeg/generator", "generated/eeg/records", "fused/best", "fused/predictions"):
        found = [next(folder.glob(f"tiny/*/fold-0/{name}.safetensors")) for folder in (tmp_path / "whole", runs)]
        whole, cut = (load_tensors(file)[0] for file in found)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(value.nan_to_num(-1), cut[key].nan_to_num(-1)) for key, value in whole.items())
    histories = [
        next(folder.glob("tiny/*/fold-0/generated/eeg/history.csv")).read_text()
        for folder in (tmp_path / "whole", runs)
    ]
    assert histories[0] == histories[1]
