"""`fusionkit probe`: what have a run's encoders learned?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusionkit.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from fusionkit.evaluation.probing import Probed


class Part(StrEnum):
    """What is asked about."""

    test = "test"
    validation = "validation"


def probe(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="a run folder, pretrained or trained; or one a seed of a recipe"),
    ],
    sensor: Annotated[list[str] | None, typer.Option("--sensor", help="only this one (may be repeated)")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="only this one [default: all that are done]")] = None,
    labels: Annotated[
        list[float] | None,
        typer.Option(
            "--labels",
            min=0,
            max=100,
            help="per cent to fine-tune with (may be repeated; 0 for no fine-tuning) [default: 1, 10, 100]",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of fine-tuning [default: the recipe's]")] = None,
    on: Annotated[
        Part, typer.Option(help="records that are asked about: validation, to choose settings by")
    ] = Part.test,
    as_json: Json = False,
) -> None:
    """Probe the encoders of a run beside the same encoders untrained, on the run's own test records.

    Frozen embeddings: is one of the nearest training records of the same class (recall@K), how do the nearest 20
    vote, what does a linear classifier say. Then encoders are trained on with 1, 10 and 100 % of the labels.
    Writes probe.json into the run. Of several runs of a recipe, a seed each, says the mean gain over seeds and its
    interval.

    Example:
        fusionkit probe runs/pretrain_simclr/20261122-101500
        fusionkit probe runs/pretrain_simclr/20261122-101500 --labels 0 --sensor image
        fusionkit probe runs/pretrain_simclr/* --labels 10
    """
    from dataclasses import asdict

    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_gains_over_seeds
    from fusionkit.evaluation.probing import SHARES
    from fusionkit.evaluation.probing import probe as measure
    from fusionkit.evaluation.repeated import check_repetitions, gains
    from fusionkit.evaluation.summary import plain
    from fusionkit.training.run import Run

    screen = console(stderr=as_json)
    shares = SHARES if labels is None else tuple(percent / 100 for percent in labels if percent)
    opened = [Run.open(run) for run in runs]
    check_repetitions([run.recipe for run in opened])
    found = []
    for run in opened:
        with watch(screen) as listener:
            probed = measure(
                run, sensors=sensor or (), shares=shares, epochs=epochs, fold=fold, part=on.value, listener=listener
            )
        run.write_json("probe.json" if on is Part.test else "probe-validation.json", probed.as_dict())
        found.append(probed)
        if not as_json:
            _print_one(screen, run.folder, probed)
    gained = gains(found) if len(found) > 1 else []
    if not as_json:
        if gained:
            print_gains_over_seeds(screen, gained, found[0].weights, [run.recipe.seed for run in opened])
        return
    if len(found) == 1:
        print_json(found[0].as_dict())
    else:
        rows = [plain(asdict(one)) for one in gained]
        print_json(
            {"runs": {str(run.folder): one.as_dict() for run, one in zip(opened, found, strict=True)}, "gains": rows}
        )


def _print_one(screen: "Console", folder: Path, probed: "Probed") -> None:
    from fusionkit.cli.tables import print_probe

    for note in probed.notes:
        screen.print(f"note: {note}")
    print_probe(screen, probed)
    screen.print(f"wrote {folder / ('probe.json' if probed.part == 'test' else 'probe-validation.json')}")
