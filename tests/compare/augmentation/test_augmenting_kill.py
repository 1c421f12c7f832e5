"""A study whose process dies."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusionkit.recipe.write import dump_recipe

ROOT = Path(__file__).parents[3]
GENERATOR = "augment={eeg: {kind: cwgan_gp, add: 1, epochs: 150, batch: 8, hidden: 16, layers: 1, latent: 4}}"

pytestmark = pytest.mark.slow


def test_a_study_that_is_killed_again_and_again_ends_in_the_same_table(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_recipe(tiny(GENERATOR, "train.checkpoint_seconds=0.001")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def command(runs, *more):
        words = ["augment", str(path), f"run.dir={tmp_path / runs}", "--seeds", "1", "--no-report", *more]
        return [sys.executable, "-m", "fusionkit", *words]

    def started():
        return list((tmp_path / "killed").glob("tiny/augment/*/recipe.yaml"))

    subprocess.run(command("whole"), env=environment, check=True, capture_output=True)
    for seconds in (0.3, 1.0, 2.0, 4.0):
        process = subprocess.Popen(
            command("killed", *(["--resume"] if started() else [])),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 120
        while not started() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(seconds)
        process.kill()
        process.wait()
    assert len(started()) == 1
    subprocess.run(command("killed", "--resume"), env=environment, check=True, capture_output=True)
    tables = [next((tmp_path / runs).glob("tiny/augment/*/results.csv")).read_text() for runs in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert not list((tmp_path / "killed").rglob(".*.json.*"))
