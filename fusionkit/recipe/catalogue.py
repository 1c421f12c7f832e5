"""What there is to choose from: recipes, and every family's components with a line each."""

import inspect
import re
from typing import Any

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.recipe.shipped import shipped_recipes, summary


def catalogue(components: bool = True) -> dict[str, dict[str, str]]:
    """Names and first lines, by family; recipes come first."""
    found = {"recipes": {name: summary(text) for name, text in shipped_recipes().items()}}
    if components:
        load_sensors()
        for family, known in registry.families.items():
            found[family] = {kind: first_line(known.get(kind)) for kind in known.kinds()}
    return found


def load_sensors() -> None:
    """Import every sensor, for they bring encoders and augmentations of their own."""
    for kind in registry.modalities.kinds():
        registry.modalities.get(kind)


def find_component(name: str) -> tuple[str, str, type[Any]]:
    """The family, kind and class of ``rcft`` or ``fusion.rcft``.

    Raises:
        UnknownNameError: no component has that name, or several have (the message lists them in full).
    """
    load_sensors()
    family, dot, kind = name.rpartition(".")
    if dot and family not in registry.families:
        raise UnknownNameError("family", family, registry.families)
    if dot:
        return family, kind, registry.families[family].get(kind)
    full = [(family, kind) for family, known in registry.families.items() for kind in known.kinds()]
    found = [(family, kind) for family, kind in full if kind == name]
    if not found:
        raise UnknownNameError("component", name, [kind for _, kind in full])
    if len(found) > 1:
        choices = ", ".join(f"{family}.{kind}" for family, kind in found)
        raise ConfigError(f"a name must mean one component, but {name!r} is in several families: {choices}")
    return (*found[0], registry.families[found[0][0]].get(name))


def first_line(cls: type) -> str:
    """The first sentence of a class's docstring."""
    paragraph = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) ", paragraph)[0]
