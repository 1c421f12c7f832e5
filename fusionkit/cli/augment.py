"""`fusionkit augment`: do generated records bring anything?"""

import math
from typing import Annotated

import typer

from fusionkit.cli.options import Overrides, Recipe
from fusionkit.core.errors import ConfigError


def augment(
    recipe: Recipe,
    overrides: Overrides = None,
    sweep: Annotated[
        str, typer.Option(metavar="AMOUNTS", help="generated for a labelled training record: 0,0.5,1,2,5,10")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="how often labels are drawn and everything is trained")] = 3,
    fold: Annotated[int | None, typer.Option(min=0, help="only this one, counted from 0")] = None,
    model: Annotated[bool, typer.Option("--model", help="train the recipe's own model, too")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest study of this recipe")] = False,
    report: Annotated[bool, typer.Option(help="write report.html")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Train a recipe's generative augmenters and measure what they bring on real test records.

    Every fold, with several seeds: no augmentation, Gaussian noise, geometric copies, mixup, and the recipe's augmenter
    with all of its records or the sure ones, judged by a linear SVM and a small network. Differences are paired, with
    intervals; what covers 0 is no gain.

    Example:
        fusionkit augment lab_augment data.path=lab/manifest.csv
        fusionkit augment lab_augment data.path=lab/manifest.csv --sweep 0,0.5,1,2,5,10 --model
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.cli.tables import print_gains
    from fusionkit.compare.augmentation.augmenting import as_json as plain
    from fusionkit.compare.augmentation.augmenting import augment as study
    from fusionkit.compare.augmentation.augmenting import find
    from fusionkit.recipe.load import load_recipe

    amounts = _amounts(sweep)
    read = load_recipe(recipe, overrides or ())
    screen = console(stderr=as_json)
    with watch(screen) as listener:
        made = study(read, sweep=amounts, seeds=seeds, fold=fold, model=model, resume=resume, listener=listener)
    found = find(made)
    paths = [made.folder / "results.csv", made.folder / "findings.json"]
    if report:
        from fusionkit.compare.augmentation.page import write_page

        paths.append(write_page(made, found))
    if as_json:
        print_json(plain(made, found))
    else:
        print_gains(screen, found)
    for path in paths:
        screen.print(f"wrote {path}")


def _amounts(text: str) -> list[float]:
    """Numbers between commas.

    Raises:
        ConfigError: one is none, or out of the bounds of ``add``.
    """
    from fusionkit.recipe.sections import MOST_ADDED

    found = []
    for part in text.split(",") if text else ():
        try:
            amount = float(part)
        except ValueError:
            amount = math.nan
        if not 0 <= amount <= MOST_ADDED:
            raise ConfigError(f"--sweep must be numbers from 0 to {MOST_ADDED:g} between commas, but got {part!r}")
        found.append(amount)
    return found
