"""Cells trained by Slurm: dask-jobqueue asks it for Dask workers (extra ``cluster``)."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from fusionkit.compare.cells.cell import Cell, Ended
from fusionkit.compare.cells.cluster import GPU, DaskExecutor, import_extra, on_cuda
from fusionkit.compare.cells.executor import Executor

MEMORY = "4GB"
REFILL_SECONDS = 30.0
SCHEDULER = {"dashboard": False, "dashboard_address": ":0"}
"""No page, and no port of its own that another one on a shared machine may have taken."""


class SlurmExecutor(Executor):
    """Dask workers that are jobs of Slurm, with one processor each, and a GPU where cells train on CUDA.

    Partition, account, time limit, memory (4 GB unless told) and what a job runs first are read where dask-jobqueue
    keeps them: ``jobqueue: slurm:`` in ``~/.config/dask/jobqueue.yaml``, or ``DASK_JOBQUEUE__SLURM__QUEUE`` and so on.
    A job that waits in the queue is waited for, and one that ends before the cells do (its time limit) is asked for
    again. Leaving ends the jobs.

    Args:
        jobs: how many at once.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def script(self, *, gpu: bool) -> str:
        """What is handed to ``sbatch``; the scheduler's address is known only when it runs.

        Raises:
            ConfigError: dask-jobqueue is not installed.
        """
        job = import_extra("dask_jobqueue.slurm").SLURMJob("tcp://SCHEDULER:PORT", "fusionkit", **_options(gpu))
        return str(job.job_script())

    def run(self, cells: Sequence[Cell]) -> Generator[Ended | None]:
        """As `Executor.run`.

        Raises:
            ConfigError: dask-jobqueue is not installed, or as `DaskExecutor.run`.
        """
        if not cells:
            return
        cluster_type = import_extra("dask_jobqueue").SLURMCluster
        options = _options(any(on_cuda(cell) for cell in cells))
        with cluster_type(**options, scheduler_options=SCHEDULER) as cluster:
            wanted = min(self.jobs, len(cells))
            cluster.scale(jobs=wanted)
            asked = time.monotonic()
            with closing(DaskExecutor(cluster.scheduler_address, patience=float("inf")).run(cells)) as running:
                for one in running:
                    if time.monotonic() - asked > REFILL_SECONDS:
                        cluster.scale(jobs=wanted)  # in place of those that met their time limit
                        asked = time.monotonic()
                    yield one


def _options(gpu: bool) -> dict[str, Any]:
    settings = import_extra("dask").config
    import_extra("dask_jobqueue")  # its own defaults join the settings

    def told(name: str) -> Any:
        return settings.get(f"jobqueue.slurm.{name}", None)

    options: dict[str, Any] = {"cores": 1, "processes": 1, "memory": told("memory") or MEMORY, "job_name": "fusionkit"}
    if gpu:
        options["job_extra_directives"] = [*(told("job-extra-directives") or ()), "--gres=gpu:1"]
        options["worker_extra_args"] = [*(told("worker-extra-args") or ()), "--resources", f"{GPU}=1"]
    return options
