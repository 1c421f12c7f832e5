"""`fusionkit show`: what a recipe means."""

from typing import Annotated

import typer

from fusionkit.cli.options import Json, Overrides


def show(
    recipe: Annotated[str, typer.Argument(help="a shipped recipe, a path, or a run folder")],
    overrides: Overrides = None,
    full: Annotated[bool, typer.Option("--recipe", help="also print the recipe with every default")] = False,
    as_json: Json = False,
) -> None:
    """Draw a recipe's graph, and print shapes and parameter counts per node where its data can be read.

    Example:
        fusionkit show quickstart fusion.kind=concat
        fusionkit show manifest data.path=lab/manifest.csv
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.evaluation.describe import describe
    from fusionkit.fusion.draw import tree
    from fusionkit.recipe.load import load_recipe
    from fusionkit.recipe.write import dump_recipe

    read = load_recipe(recipe, overrides or (), complete=False)
    missing = read.open
    notes = {} if missing else describe(read)
    if as_json:
        print_json({"recipe": read.resolved(), "nodes": notes})
        return
    screen = console()
    columns = {
        title: {name: f"{note[title]:,}" if title == "parameters" else note[title] for name, note in notes.items()}
        for title in (("shapes", "parameters") if notes else ())
    }
    screen.print(tree(read.graph, columns))
    if read.data.unlabelled is not None:
        screen.print(f"beside the data, data.unlabelled: {read.data.unlabelled.told()}")
    for place, stage in enumerate(read.pretrain):
        kinds = ", ".join(entry.kind for entry in stage.objectives)
        screen.print(f"before, pretrain.{place}: {kinds}, encoders of {', '.join(stage.encoders)}")
    for name, entry in read.generators.items():
        screen.print(
            f"before, augment.{name}: {entry.kind} appends {entry.add:g} records for a training record by {entry.task}"
        )
    for key in missing:
        screen.print(f"to give on the command line: {key}=VALUE (then shapes and parameters are shown too)")
    if notes:
        screen.print(f"parameters in all: {sum(note['parameters'] for note in notes.values()):,}")
    if full:
        print(dump_recipe(read), end="")
