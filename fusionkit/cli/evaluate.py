"""`fusionkit evaluate`: how good is a run or a bundle?"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusionkit.cli.options import Json

if TYPE_CHECKING:
    from fusionkit.evaluation.intervals import Interval


def evaluate(
    trained: Annotated[Path, typer.Argument(help="a run folder or a bundle")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="other data: data.path=... (a run without any: its own)"),
    ] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="unplug this sensor (may be repeated)")] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="SENSOR=DEVIATION",
            help="score also with Gaussian noise on this sensor, clipped to its range; of an image white is 1 (may be repeated)",
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="which fold's model of a run answers about other data [default: 0]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run on its own held-out records, or a run or bundle on other data with labels.

    Example:
        fusionkit evaluate runs/manifest/20261122-101500
        fusionkit evaluate model.fusion data.path=new/manifest.csv --without audio
        fusionkit evaluate runs/avmnist/20261122-101500 --noise image=0.8
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.tables import print_intervals, print_scores
    from fusionkit.core.errors import ConfigError
    from fusionkit.evaluation.noise import read_noise
    from fusionkit.evaluation.other_data import Answered, Asked, answer_held_out, ask, open_trained, score_answers
    from fusionkit.evaluation.summary import summarise
    from fusionkit.training.run import Run

    screen = console()
    if fold is not None and not overrides and trained.is_dir():
        raise ConfigError("--fold is for other data (data.path=...), but a run is scored on its own over all folds")
    deviations = read_noise(noise or [])
    if trained.is_dir() and not overrides and not without and not deviations:
        summary = summarise(Run.open(trained))
        print_json(summary.as_dict()) if as_json else print_scores(screen, summary)
        return

    def answer(noise: Mapping[str, float]) -> tuple[Asked, Answered]:
        if trained.is_dir() and not overrides:
            return answer_held_out(trained, absent=without or (), noise=noise)
        asked = open_trained(trained, overrides or (), fold=fold)
        return asked, ask(asked, absent=without or (), noise=noise)

    asked, answered = answer({})
    scores = score_answers(asked, answered)
    noisy = score_answers(*answer(deviations)) if deviations else None
    if as_json:
        print_json(_plain(scores) if noisy is None else {"as_recorded": _plain(scores), "with_noise": _plain(noisy)})
        return
    for note in answered.notes:
        screen.print(f"note: {note}")
    print_intervals(screen, scores, noisy)


def _plain(scores: "Mapping[str, Mapping[str, Interval]]") -> dict[str, dict[str, object]]:
    from dataclasses import asdict

    return {task: {name: asdict(interval) for name, interval in found.items()} for task, found in scores.items()}
