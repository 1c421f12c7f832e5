"""Arguments that several verbs take."""

from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="a shipped recipe or a path")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="changes to the recipe")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
