"""`fusionkit train`: from a recipe to a run folder with report and bundle."""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Overrides, Recipe


def train(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest run of this recipe")] = False,
    fold: Annotated[int | None, typer.Option("--fold", help="train only this fold, counted from 0")] = None,
    report: Annotated[bool, typer.Option(help="write report.html")] = True,
    export: Annotated[bool, typer.Option(help="write the bundle, model.fusion")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the scores as JSON")] = False,
) -> None:
    """Train a recipe, score it on held-out records, write a report and a bundle.

    Example:
        fusionkit train quickstart
        fusionkit train manifest data.path=lab/manifest.csv train.epochs=3 fusion.kind=rcft
        fusionkit train my.yaml --resume
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_scores
    from fusionkit.evaluation.summary import summarise, write_summary
    from fusionkit.recipe.load import load_recipe
    from fusionkit.recipe.streaming import refuse_bundles
    from fusionkit.training.parallel import joined
    from fusionkit.training.run import train as run_recipe

    read = load_recipe(recipe, overrides or ())
    screen = console(stderr=as_json)
    with joined() as leader:
        with watch(screen) as listener:
            run = run_recipe(read, resume=resume, fold=fold, listener=listener if leader else None)
        if not leader:
            return
        summary = summarise(run)
        write_summary(run, summary)
        refused: Exception | None = None
        made: list[Path] = [run.folder / "metrics.json", run.folder / "predictions.parquet"]
        if report:  # before the bundle, which may be refused
            from fusionkit.evaluation.report import write_report

            made.append(write_report(run, summary))
        if export and (reason := refuse_bundles(read)) is not None:
            screen.print(f"note: no bundle: {reason}")
        elif export:
            from fusionkit.export.graph import ExportError
            from fusionkit.export.run import export_run

            path = run.folder / "model.fusion"
            try:
                screen.print(export_run(run, path, fold=fold).say())
                made.append(path)
            except ExportError as error:
                refused = error
        if as_json:
            print_json(summary.as_dict())
        else:
            print_scores(screen, summary)
        for path in made:
            screen.print(f"wrote {path}")
        if refused is not None:  # what was trained is kept and told all the same
            raise refused
