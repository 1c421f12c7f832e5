"""What benches share: arguments that several take, and how one ends that must find no fault."""

from collections.abc import Collection
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="a shipped recipe or a path")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="changes to the recipe")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def end(faults: Collection[str], *, told: bool) -> None:
    """Print what is not as it must be, unless it was ``told`` as JSON, and end with 1 where there is any."""
    if not told:
        for fault in faults:
            print(f"FAIL  {fault}")
    if faults:
        raise typer.Exit(1)
