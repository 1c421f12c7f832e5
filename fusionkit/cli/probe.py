"""`fusionkit probe`: what have a run's encoders learned?"""

from pathlib import Path
from typing import Annotated

import typer


def probe(
    run: Annotated[Path, typer.Argument(help="a run folder, pretrained or trained")],
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
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Probe the encoders of a run beside the same encoders untrained, on the run's own test records.

    Frozen embeddings: is one of the nearest training records of the same class (recall@K), how do the nearest 20
    vote, what does a linear classifier say. Then encoders are trained on with 1, 10 and 100 % of the labels.
    Writes probe.json into the run.

    Example:
        fusionkit probe runs/pretrain_simclr/20261122-101500
        fusionkit probe runs/pretrain_simclr/20261122-101500 --labels 0 --sensor image
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_probe
    from fusionkit.evaluation.probing import SHARES
    from fusionkit.evaluation.probing import probe as measure
    from fusionkit.training.run import Run

    screen = console(stderr=as_json)
    shares = SHARES if labels is None else tuple(percent / 100 for percent in labels if percent)
    opened = Run.open(run)
    with watch(screen) as listener:
        probed = measure(opened, sensors=sensor or (), shares=shares, epochs=epochs, fold=fold, listener=listener)
    opened.write_json("probe.json", probed.as_dict())
    if as_json:
        print_json(probed.as_dict())
        return
    for note in probed.notes:
        screen.print(f"note: {note}")
    print_probe(screen, probed)
    screen.print(f"wrote {run / 'probe.json'}")
