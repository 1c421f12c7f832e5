"""`fusionkit compare`: which way to fuse is the best here, and is that shown?"""

import os
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusionkit.compare.cells.executor import Executor


class Batched(StrEnum):
    """When models are trained together."""

    AUTO = "auto"
    NEVER = "never"


def compare(
    words: Annotated[
        list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE]...", help="recipes, and changes to all of them")
    ],
    vary: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE,VALUE", help="what strategies differ in (may be repeated)")
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(metavar="parameters|step_time", help="bring all strategies to the size or the pace of the first"),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(metavar="TRIALS", help="tune every strategy in every fold, on validation records alone"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="trainings of every strategy in every fold")] = 3,
    jobs: Annotated[int | None, typer.Option(min=1, help="trainings at once [default: one a processor]")] = None,
    on: Annotated[
        str,
        typer.Option(metavar="local|tcp://HOST:PORT|slurm", help="this machine, a Dask scheduler's workers, or Slurm"),
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --on slurm: print what a job is and train nothing")
    ] = False,
    batched: Annotated[
        Batched, typer.Option(help="auto: train folds and seeds of small models together where that is faster")
    ] = Batched.NEVER,
    rope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER|TASK=NUMBER",
            help="largest difference that does not matter, in units of the score (may be repeated) [default: 0.01]",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest comparison of these words")] = False,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness", help="ask every model again without sensors and under faults (with --resume: now)"
        ),
    ] = False,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=LEVEL,LEVEL",
            help="levels of noise, channels, bursts, offset or drift, or none, for --robustness (may be repeated)",
        ),
    ] = None,
    report: Annotated[bool, typer.Option(help="measure costs and write report.html")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print what was found as JSON")] = False,
) -> None:
    """Train every strategy in every fold with every seed on one split, and say what is shown.

    Beside the strategies stand every sensor alone, the best of them by validation, the late mean, and the training
    prior. A key of data, such as data.split.kind, gives settings that are reported apart. Ends with 1 where a
    training failed, after three tries each.

    Example:
        fusionkit compare quickstart --vary fusion.kind=concat,rcft,bottleneck,vote --seeds 5
        fusionkit compare mine.yaml theirs.yaml data.path=lab.csv --jobs 2
        fusionkit compare quickstart --vary fusion.kind=concat,rcft,bottleneck,vote --seeds 5 --resume --robustness
        fusionkit compare quickstart --vary fusion.kind=concat,rcft --robustness --faults noise=0.5,2 --faults drift=none
        fusionkit compare quickstart --vary fusion.kind=concat,rcft --tune 20 --match step_time
        fusionkit compare quickstart --vary fusion.kind=concat,rcft --on tcp://10.0.0.1:8786
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_comparison
    from fusionkit.compare.cells.batched import BatchedExecutor
    from fusionkit.compare.conditions.corruption import parse_faults
    from fusionkit.compare.experiment.grid import Asked
    from fusionkit.compare.experiment.grid import compare as train_all
    from fusionkit.compare.experiment.results import scores, write_results, write_trials
    from fusionkit.compare.experiment.strategy import settings
    from fusionkit.compare.findings.calibrated import calibrations, write_calibrations
    from fusionkit.compare.findings.cost import costs
    from fusionkit.compare.findings.margins import parse_margins
    from fusionkit.compare.findings.stress import stress, write_stress
    from fusionkit.compare.findings.verdict import VERDICT, judge, write_verdict
    from fusionkit.compare.report.page import build_compare_page
    from fusionkit.core.errors import ConfigError
    from fusionkit.training.checkpoint import write_atomically

    margins = parse_margins(rope or ())
    recipes, overrides = (tuple(word for word in words if ("=" in word) == change) for change in (False, True))
    if faults and not robustness:
        raise ConfigError(f"--faults must stand beside --robustness, but got {' '.join(faults)!r} alone")
    struck = parse_faults(faults or ()) if robustness else None
    asked = Asked(recipes, overrides, tuple(vary or ()), seeds, struck, match, tune)
    margins.check(settings(asked.recipes, asked.overrides, asked.vary)[0].recipe.tasks)
    if dry_run:
        _print_job(on, jobs, asked.recipes, asked.overrides, asked.vary)
        return
    executor = _executor(on, jobs)
    screen = console(stderr=as_json)
    with watch(screen) as listener:
        if batched is Batched.AUTO:
            executor = BatchedExecutor(executor, listener.say)
        experiment = train_all(asked, executor, resume=resume, listener=listener, heard=listener.cells)
    found = {
        block.setting.label: [
            (one, judge(one, setting=block.setting.label, margin=margins.of(one.task)))
            for one in scores(block, experiment)
        ]
        for block in experiment.blocks
    }
    if report:
        screen.print("measuring what every strategy costs")
    spent = {block.setting.label: costs(block, experiment) if report else [] for block in experiment.blocks}
    made = write_results(experiment, {label: [one for one, _ in tasks] for label, tasks in found.items()})
    made += write_trials(experiment)
    stressed = {block.setting.label: stress(block, experiment) for block in experiment.blocks}
    calibrated = {block.setting.label: calibrations(block, experiment) for block in experiment.blocks}
    made += write_stress(experiment, stressed) if robustness else []
    made += write_calibrations(experiment, calibrated)
    judged = [verdict for tasks in found.values() for _, verdict in tasks]
    said = write_verdict(experiment, judged, spent)
    made.append(experiment.folder / VERDICT)
    if report:
        made.append(experiment.folder / "report.html")
        write_atomically(made[-1], build_compare_page(experiment, found, spent, stressed, calibrated).encode())
    if as_json:
        print_json(said)
    else:
        print_comparison(screen, judged, experiment.failed, spent)
    for path in made:
        screen.print(f"wrote {path}")
    if experiment.failed:
        raise typer.Exit(1)


def _processors() -> int:
    """Those that this process may use, not all of a machine that is shared."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _executor(on: str, jobs: int | None) -> "Executor":
    from fusionkit.core.errors import ConfigError

    if on == "local":
        from fusionkit.compare.cells.executor import LocalExecutor

        return LocalExecutor(jobs or _processors())
    if on == "slurm":
        from fusionkit.compare.cells.slurm import SlurmExecutor

        if jobs is None:
            raise ConfigError("--on slurm must be told how many jobs may run at once, but --jobs is not given")
        return SlurmExecutor(jobs)
    if "://" not in on:
        raise ConfigError(f"--on must be local, slurm or the address of a Dask scheduler, but got {on!r}")
    if jobs is not None:
        raise ConfigError(f"--jobs must be left out where the workers of a scheduler train, but got {jobs}")
    from fusionkit.compare.cells.cluster import DaskExecutor

    executor = DaskExecutor(on)
    executor.check()
    return executor


def _print_job(
    on: str, jobs: int | None, recipes: Sequence[str], overrides: Sequence[str], vary: Sequence[str]
) -> None:
    from fusionkit.compare.cells.slurm import SlurmExecutor
    from fusionkit.compare.experiment.strategy import settings
    from fusionkit.core.errors import ConfigError

    if on != "slurm":
        raise ConfigError(f"--dry-run must stand beside --on slurm, but --on is {on!r}")
    wanted = settings(recipes, overrides, vary)
    gpu = any(one.recipe.train.device.startswith("cuda") for setting in wanted for one in setting.strategies)
    print(SlurmExecutor(jobs or 1).script(gpu=gpu), end="")
