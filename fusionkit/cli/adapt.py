"""`fusionkit adapt`: a bundle for a new wearer."""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Json


def adapt(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="the wearer's labelled records: data.path=...")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="where the bundle goes")] = Path("adapted.fusion"),
    fold: Annotated[int | None, typer.Option(help="which fold's model; by default the first")] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="also tune the heads, if that is better by later records")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="of tuning heads, at most")] = 20,
    lr: Annotated[float, typer.Option(min=0, help="learning rate of tuning heads")] = 1e-3,
    as_json: Json = False,
) -> None:
    """Write a bundle that knows a new wearer, from a few labelled minutes of theirs.

    It takes their alignment and statistics where the recipe is normalised by person, so that nothing needs to be
    collected at the start; fits the temperature anew; and with --heads tunes the heads, encoders as they are. The end of
    every recording decides what of that is kept. None of the signals goes into the bundle.

    Example:
        fusionkit adapt runs/manifest/20261122-101500 data.path=new/manifest.csv -o new.fusion
        fusionkit adapt runs/manifest/20261122-101500 data.path=new/manifest.csv --heads
    """
    from fusionkit.cli.output import check_output, print_json
    from fusionkit.export.adaptation import adapt_run
    from fusionkit.training.run import Run

    check_output(output)
    made = adapt_run(Run.open(run), overrides or (), output, fold=fold, heads=heads, epochs=epochs, lr=lr)
    if as_json:
        print_json(made.as_dict())
        return
    for line in made.say():
        print(line)
