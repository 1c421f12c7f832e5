"""`fusionkit copy`: a recipe out of the package, to be owned."""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.core.errors import ConfigError, UnknownNameError


def copy(
    recipe: Annotated[str, typer.Argument(help="a shipped recipe, as `fusionkit ls recipes` lists them")],
    to: Annotated[Path | None, typer.Argument(help="file or folder [default: RECIPE.yaml here]")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a file that is there")] = False,
) -> None:
    """Copy a recipe out, with its comments, to change it.

    Example:
        fusionkit copy quickstart my.yaml
        fusionkit train my.yaml
    """
    from fusionkit.recipe.shipped import shipped_recipes

    known = shipped_recipes()
    name = recipe.removesuffix(".yaml")
    if name not in known:
        raise UnknownNameError("recipe", recipe, known)
    target = Path(f"{name}.yaml") if to is None else to / f"{name}.yaml" if to.is_dir() else to
    write_new(target, known[name], force)
    print(target)


def write_new(target: Path, text: str, force: bool) -> None:
    """Write a file that must not be there yet.

    Raises:
        ConfigError: it is there and ``force`` is not given, or its folder is missing.
    """
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{target}: a file that exists is overwritten only with --force") from None
    except OSError as error:
        raise ConfigError(f"{target}: a recipe must go where it can be written, but {error.strerror}") from None
