"""`fusionkit export`: one file of a run that predicts without torch."""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Json


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
    streaming: Annotated[
        bool,
        typer.Option("--streaming", help="beside it the graph of one step, for rcft over sensors that go step by step"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a bundle: raw windows and presence flags in, probabilities out, front ends inside the graph.

    Its answers are compared with torch's for batch 1 and N and every subset of sensors; it is refused above the
    recipe's ``export.tolerance``. Where the split put groups aside (``data.split.calibration``), the bundle knows the
    temperature and the conformal sets that they ask for.

    With ``--streaming`` it also has ``step.onnx``: new samples of one step (a bin of ``fusion.steps``) and what the steps
    before left in, answers and what the next step needs out, so that an answer costs one step and not the window. What
    does not go step by step is refused by its key.

    Example:
        fusionkit export runs/quickstart/20261122-101500 -o model.fusion
        fusionkit export runs/quickstart/20261122-101500 -o small.fusion --int8
        fusionkit train quickstart modalities=eeg data.seconds=4 fusion.steps=8 modalities.eeg.features.kind=dft modalities.eeg.features.window=0.5
        fusionkit export runs/quickstart/20261122-101500 -o steps.fusion --streaming
    """
    from fusionkit.cli.exported import print_parity, print_quantised
    from fusionkit.cli.output import check_output, console, print_json
    from fusionkit.core.errors import ConfigError
    from fusionkit.export.run import finish, open_fold
    from fusionkit.export.step import StepReport, add_step_graph
    from fusionkit.export.stepwise import refuse_steps
    from fusionkit.training.run import Run

    check_output(output)
    if int8 and streaming:  # temperature and bars would be of the one graph, and answers of both
        raise ConfigError("--int8 is of the graph of whole windows alone: give either it or --streaming")
    held = open_fold(Run.open(run), fold)
    steps: list[StepReport] = []
    if streaming:
        refuse_steps(held.trained)
    extend = (lambda *parts: steps.append(add_step_graph(*parts))) if streaming else None
    made = finish(held, output, opset=opset, int8=int8, extend=extend)
    if as_json:
        print_json({**made.as_dict(), "step_graph": steps[0].as_dict() if steps else None})
        return
    screen = console()
    print_parity(screen, made.parity)
    if made.quantised is not None:
        print_quantised(screen, made.quantised)
    screen.print(made.say())
    for report in steps:
        screen.print(report.say())
