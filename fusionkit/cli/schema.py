"""`fusionkit schema`: what an editor needs to complete and check a recipe."""

from typing import Annotated

import typer


def schema(
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="module whose components are listed too")] = None,
) -> None:
    """Print the JSON Schema of recipes.

    Editors with a YAML language server take it after
    `# yaml-language-server: $schema=recipe.schema.json` in a recipe's first line.

    Example:
        fusionkit schema > recipe.schema.json
    """
    from fusionkit.cli.output import print_json
    from fusionkit.core.registry import import_plugins
    from fusionkit.recipe.schema import recipe_schema

    import_plugins(plugin or [])
    print_json(recipe_schema())
