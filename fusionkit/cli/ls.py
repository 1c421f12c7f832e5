"""`fusionkit ls`: what there is to choose from."""

from typing import Annotated

import typer

from fusionkit.cli.options import Json
from fusionkit.core.errors import UnknownNameError


def ls(
    family: Annotated[str | None, typer.Argument(help="recipes, or a family of components [default: all]")] = None,
    json: Json = False,
) -> None:
    """List recipes and components, a line each.

    Example:
        fusionkit ls
        fusionkit ls fusion
    """
    from fusionkit.cli.output import print_json
    from fusionkit.recipe.catalogue import catalogue

    found = catalogue() if family != "recipes" else catalogue(components=False)
    if family is not None and family not in found:
        raise UnknownNameError("family", family, found)
    chosen = found if family is None else {family: found[family]}
    if json:
        print_json(chosen)
        return
    for title, entries in chosen.items():
        print(title)
        width = max(map(len, entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}".rstrip())
