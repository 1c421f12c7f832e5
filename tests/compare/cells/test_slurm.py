"""Workers that Slurm starts; where there is no Slurm, a stand-in for it."""

import os
import signal
import sys
from pathlib import Path

import pytest

from fusionkit.cli import main
from fusionkit.compare.cells.cell import LOG, Cell, read_ended
from fusionkit.compare.cells.slurm import SlurmExecutor
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.write import dump_recipe

pytest.importorskip("dask_jobqueue")

ROOT = Path(__file__).parents[3]


def test_the_script_asks_for_one_processor_and_a_gpu_where_it_is_needed(monkeypatch):
    import dask

    plain = SlurmExecutor(2).script(gpu=False)
    assert "#SBATCH --cpus-per-task=1" in plain and "#SBATCH --mem=4G" in plain
    assert "gres" not in plain and "--resources" not in plain
    assert sys.executable in plain and "--nthreads 1" in plain
    with dask.config.set({"jobqueue.slurm.queue": "night", "jobqueue.slurm.job-extra-directives": ["--nice"]}):
        gpu = SlurmExecutor(2).script(gpu=True)
    assert {"#SBATCH -p night", "#SBATCH --nice", "#SBATCH --gres=gpu:1"} <= set(gpu.splitlines())
    assert "--resources GPU=1" in gpu


def test_the_command_line_prints_the_script_and_trains_nothing(tmp_path, capsys):
    asked = ["compare", "quickstart", f"run.dir={tmp_path}/runs", "--vary", "fusion.kind=concat,rcft", "--on", "slurm"]
    assert main([*asked, "--dry-run", "train.device=cuda"]) == 0
    assert "#SBATCH --gres=gpu:1\n" in capsys.readouterr().out
    assert main([*asked, "--dry-run"]) == 0
    assert "gres" not in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--on", "nowhere"], "--on must be local, slurm or the address of a Dask scheduler, but got 'nowhere'"),
        (["--on", "slurm"], "--jobs is not given"),
        (["--on", "tcp://10.0.0.1:8786", "--jobs", "3"], "--jobs must be left out"),
        (["--dry-run"], "--dry-run must stand beside --on slurm"),
    ],
)
def test_a_slip_is_one_line_and_leaves_nothing(more, message, tmp_path, capsys):
    asked = ["compare", "quickstart", f"run.dir={tmp_path}/runs", "--vary", "fusion.kind=concat,rcft"]
    assert main([*asked, *more]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A stand-in: jobs are processes of this machine."""
    (tmp_path / "sbatch").write_text(
        f"#!/bin/sh\ncp $1 {tmp_path}/job.sh\n"
        f"setsid sh {tmp_path}/job.sh > {tmp_path}/job.txt 2>&1 &\necho $! >> {tmp_path}/begun.txt\n"
        "echo Submitted batch job $!\n"
    )
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/ended.txt\nkill -TERM -$1\n")
    for name in ("sbatch", "scancel"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def cell(tmp_path, *more):
    folder = tmp_path / "cells" / "0"
    folder.parent.mkdir()
    changes = ["data.subjects=6", "data.records=4", "train.epochs=1", "modalities=audio", "train.single_sensors=false"]
    changes += [f"data.cache={tmp_path}/cache", f"run.dir={folder}", "name=run", *more]
    return Cell("0", "one", dump_recipe(load_recipe("quickstart", changes)), 0, 0, str(folder))


@pytest.mark.slow
def test_cells_are_trained_by_jobs_and_the_jobs_end(slurm):
    wanted = cell(slurm)
    (found,) = [one for one in SlurmExecutor(1).run([wanted]) if one is not None]
    assert found.problem == "" and read_ended(wanted) == found
    assert (slurm / "ended.txt").read_text().strip()


@pytest.mark.slow
def test_a_job_that_meets_its_time_limit_is_asked_for_again(slurm, monkeypatch):
    import dask

    monkeypatch.setattr("fusionkit.compare.cells.slurm.REFILL_SECONDS", 1.0)
    wanted = cell(slurm, "train.epochs=30", "train.patience=0")
    ended, killed = [], False
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        for one in SlurmExecutor(1).run([wanted]):
            if one is not None:
                ended.append(one)
            elif not killed and (Path(wanted.folder) / LOG).exists():
                os.killpg(int((slurm / "begun.txt").read_text()), signal.SIGKILL)
                killed = True
    assert killed and [one.problem for one in ended] == [""]
    assert len((slurm / "begun.txt").read_text().split()) == 2
