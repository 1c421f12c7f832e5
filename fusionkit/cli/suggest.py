"""`fusionkit suggest`: which graph do the data ask for?"""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Overrides, Recipe


def suggest(
    recipe: Recipe,
    overrides: Overrides = None,
    task: Annotated[str | None, typer.Option(help="the task that decides [default: the first]")] = None,
    seeds: Annotated[int, typer.Option(min=3, help="how often groups are cut and networks trained")] = 5,
    output: Annotated[Path, typer.Option("-o", "--output", help="the recipe to write")] = Path("suggested.yaml"),
    page: Annotated[Path | None, typer.Option(help="the page [default: the recipe's name with .html]")] = None,
) -> None:
    """Try each sensor and each pair on training records, and write the recipe whose graph they ask for.

    Small networks on summaries of at most 2000 records, minutes in all; the first fold's test records have no part in it. Says which
    pairs help, which sensor adds nothing, and what may share parameters.

    Example:
        fusionkit suggest quickstart -o mine.yaml
    """
    from fusionkit.cli.output import check_output, console
    from fusionkit.cli.progress import watch
    from fusionkit.compare.suggestion.recommendation import suggest as find
    from fusionkit.recipe.load import load_recipe
    from fusionkit.training.checkpoint import write_atomically
    from fusionkit.training.countdown import Countdown
    from fusionkit.training.material import open_study

    page = page or output.with_suffix(".html")
    check_output(output)
    check_output(page, "--page")
    read = load_recipe(recipe, overrides or ())
    with watch(console(stderr=True)) as listener, open_study(read, listener.prepare) as study:
        made = find(read, study, task=task, seeds=seeds, report=Countdown(listener.say, "networks"))
    write_atomically(output, made.recipe.encode())
    write_atomically(page, made.page.encode())
    screen = console()
    for sentence in made.sentences:
        screen.print(sentence)
    screen.print(f"{output}: the recipe (fusionkit train {output}); {page}: matrices and dendrograms")
