"""Read a recipe: the file, the command line, the plugins, then every section; all problems are reported at once."""

from collections.abc import Sequence
from pathlib import Path

from fusionkit.core.errors import UnknownNameError
from fusionkit.recipe.overrides import apply_overrides
from fusionkit.recipe.problem import Places, RecipeError
from fusionkit.recipe.reader import Reader
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.shipped import shipped_recipes
from fusionkit.recipe.yaml import Document, read_file, read_text


def find_recipe(name_or_path: str) -> tuple[Document, str]:
    """Read a shipped recipe by its name, or a file by its path; also how it is called in messages.

    Raises:
        RecipeError: the file is no recipe.
        UnknownNameError: there is no such recipe and no such file.
    """
    path = Path(name_or_path)
    if path.name == name_or_path and not path.suffix:
        shipped = shipped_recipes()
        if name_or_path in shipped:
            return read_text(shipped[name_or_path], f"{name_or_path}.yaml"), f"{name_or_path}.yaml"
        if not path.is_file():
            raise UnknownNameError("recipe", name_or_path, shipped)
    return read_file(path, name_or_path), name_or_path


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), *, complete: bool = True) -> Recipe:
    """Read and check a recipe before any data or device is touched.

    Args:
        name_or_path: a shipped recipe (``quickstart``) or a path (``my/recipe.yaml``).
        overrides: ``KEY=VALUE`` of the command line (see `fusionkit.recipe.overrides.apply_overrides`).
        complete: refuse values that are left open with ``???``. Without it they stay in the recipe as they are.

    Raises:
        RecipeError: everything that is wrong with it, a line each, with file, line and key.
        UnknownNameError: there is no such recipe.
    """
    document, file = find_recipe(name_or_path)
    return _read(document, file, overrides, complete)


def parse_recipe(text: str, file: str, overrides: Sequence[str] = ()) -> Recipe:
    """As `load_recipe`, of a text that lies elsewhere (in a bundle); ``file`` is how messages call it."""
    return _read(read_text(text, file), file, overrides, True)


def _read(document: Document, file: str, overrides: Sequence[str], complete: bool) -> Recipe:
    places = Places(file, document.lines)
    problems = apply_overrides(document.data, places, overrides)
    reader = Reader(places, document.data, complete)
    recipe = reader.read(Path(file).stem, file)
    lines = [*problems, *reader.lines()]
    if recipe is None or lines:
        raise RecipeError(lines)
    return recipe
