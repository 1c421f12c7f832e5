"""The recipes that come with fusionkit."""

from importlib.resources import files


def shipped_recipes() -> dict[str, str]:
    """Name and text of every shipped recipe, sorted."""
    try:
        found = sorted(files("fusionkit.recipes").iterdir(), key=lambda entry: entry.name)
    except ModuleNotFoundError:  # a folder without files is no package to git
        return {}
    return {entry.name[:-5]: entry.read_text("utf-8") for entry in found if entry.name.endswith(".yaml")}


def summary(text: str) -> str:
    """The first line of a recipe's comment."""
    for line in text.splitlines():
        if line.startswith("#") and line.strip("# "):
            return line.strip("# ")
    return ""
