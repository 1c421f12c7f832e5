"""`fusionkit pretrain`: encoders that learn before any label is asked for."""

from typing import Annotated

import typer

from fusionkit.cli.options import Overrides, Recipe


def pretrain(
    recipe: Recipe,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest run of this recipe")] = False,
    fold: Annotated[int | None, typer.Option("--fold", help="pretrain only this fold, counted from 0")] = None,
    report: Annotated[bool, typer.Option(help="write report.html")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print what came of it as JSON")] = False,
) -> None:
    """Pretrain a recipe's encoders on training records, for other recipes to begin with (init.from).

    `fusionkit train` of a recipe that has `pretrain` does this by itself first.

    Example:
        fusionkit pretrain quickstart 'pretrain={objectives: [{kind: nt_xent}], epochs: 5}'
        fusionkit train quickstart init.from=runs/quickstart/20250101-120000 init.lr_scale=0.1
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_measures
    from fusionkit.evaluation.pretraining import measures, write_pretraining_report
    from fusionkit.recipe.load import load_recipe
    from fusionkit.training.parallel import joined
    from fusionkit.training.run import pretrain as run_recipe

    read = load_recipe(recipe, overrides or ())
    screen = console(stderr=as_json)
    with joined() as leader:
        with watch(screen) as listener:
            run = run_recipe(read, resume=resume, fold=fold, listener=listener if leader else None)
        if not leader:
            return
        folds = run.pretrained()
        found = {fold: measures(run, fold) for fold in folds}
        if as_json:
            facts = {fold: {**said, "measures": found[fold]} for fold, said in folds.items()}
            print_json({"run": str(run.folder), "folds": facts})
        else:
            print_measures(screen, found)
        if report:
            screen.print(f"wrote {write_pretraining_report(run)}")
        screen.print(f"wrote {run.folder}; begin with it: init.from={run.folder}")
