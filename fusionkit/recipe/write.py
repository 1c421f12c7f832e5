"""Write a recipe as YAML that reads back as the same recipe."""

from collections.abc import Mapping
from typing import Any

import yaml

from fusionkit.recipe.sections import SECTIONS, Recipe
from fusionkit.recipe.yaml import scalar


class _Dumper(yaml.SafeDumper):
    """Quotes every text that our reader would take for something else, and repeats instead of aliasing."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(value), str) and value != "<<" else "'"
    if not value.isprintable():
        style = '"'  # only these have escapes for line ends and control characters
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump_recipe(recipe: Recipe) -> str:
    """A resolved recipe, with every default, sections in their usual order."""
    return dump(recipe.resolved())


def dump(data: Mapping[str, Any]) -> str:
    """Plain data as YAML; sections of a recipe come first and in their usual order."""
    ordered = {name: data[name] for name in SECTIONS if name in data}
    ordered.update((name, value) for name, value in data.items() if name not in ordered)
    text = yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return str(text)


def dump_flow(value: Any) -> str:
    """Plain data as YAML on one line, to stand behind a key."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=True)
    return str(text).removesuffix("\n").removesuffix("\n...")
