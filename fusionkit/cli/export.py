"""`fusionkit export`: one file of a run that predicts without torch."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    output: Annotated[Path, typer.Option("-o", "--output", help="where the bundle goes")] = Path("model.fusion"),
    fold: Annotated[int | None, typer.Option(help="which fold's model; by default the first")] = None,
    opset: Annotated[
        int | None, typer.Option(min=18, max=24, help="version of the ONNX operators [default: the recipe's]")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="weights of eight bits; measures what they cost on held-out records")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write a bundle: raw windows and presence flags in, probabilities out, front ends inside the graph.

    Its answers are compared with torch's for batch 1 and N and every subset of sensors; it is refused above the
    recipe's ``export.tolerance``. Where the split put groups aside (``data.split.calibration``), the bundle knows the
    temperature and the conformal sets that they ask for.

    Example:
        fusionkit export runs/quickstart/20261122-101500 -o model.fusion
        fusionkit export runs/quickstart/20261122-101500 -o small.fusion --int8
    """
    from fusionkit.cli.exported import print_parity, print_quantised
    from fusionkit.cli.output import check_output, console, print_json
    from fusionkit.export.run import export_run
    from fusionkit.training.run import Run

    check_output(output)
    made = export_run(Run.open(run), output, fold=fold, opset=opset, int8=int8)
    if as_json:
        print_json(made.as_dict())
        return
    screen = console()
    print_parity(screen, made.parity)
    if made.quantised is not None:
        print_quantised(screen, made.quantised)
    screen.print(made.say())
