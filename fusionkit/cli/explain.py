"""`fusionkit explain`: a component's docstring and its options."""

import inspect
from typing import Annotated, Any

import typer

from fusionkit.cli.options import Json


def explain(
    component: Annotated[str, typer.Argument(help="a kind, or family.kind where several families have it")],
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="module that registers the component")] = None,
    json: Json = False,
) -> None:
    """Say what a component does and which options it has, with types, bounds and defaults.

    Example:
        fusionkit explain rcft
        fusionkit explain fusion.concat
    """
    from fusionkit.cli.output import print_json
    from fusionkit.core.registry import import_plugins, options_model
    from fusionkit.recipe.catalogue import find_component

    import_plugins(plugin or [])
    family, kind, cls = find_component(component)
    options = option_table(options_model(cls).model_json_schema(by_alias=True))
    text = inspect.cleandoc(cls.__doc__ or "")
    if json:
        place = f"{cls.__module__}:{cls.__qualname__}"
        print_json({"family": family, "kind": kind, "class": place, "text": text, "options": options})
        return
    print(f"{family}.{kind}  ({cls.__module__}:{cls.__qualname__})\n\n{text}\n")
    if not options:
        print("No options.")
        return
    print("Options:")
    print("\n".join(_lines(options, "  ")))


def option_table(schema: dict[str, Any], defs: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A row per option of a JSON Schema: its name, its type with bounds, its default, what it means; and a table of
    the options inside it for every mapping that it may be."""
    from fusionkit.recipe.write import dump_flow

    defs = schema.get("$defs", {}) if defs is None else defs
    rows = []
    for name, entry in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else dump_flow(entry.get("default"))
        row = {"option": name, "type": describe(entry, defs)}
        inside = [option_table(part, defs) for part in _mappings(entry, defs)]
        rows.append({**row, "default": default, "description": entry.get("description", ""), "inside": inside})
    return rows


def _lines(rows: list[dict[str, Any]], indent: str) -> list[str]:
    """A table as text, tables inside it further to the right."""
    lines, width = [], max(len(row["option"]) for row in rows)
    for row in rows:
        default = row["default"] if row["default"] == "required" else f"default {row['default']}"
        lines.append(f"{indent}{row['option']:<{width}}  {row['type']}; {default}")
        if row["description"]:
            lines.append(f"{indent}{'':<{width}}    {row['description']}")
        for table in row["inside"]:
            lines += _lines(table, f"{indent}      ")
    return lines


def _mappings(entry: dict[str, Any], defs: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappings with known keys that a type may be."""
    if "$ref" in entry:
        return _mappings(defs[entry["$ref"].rpartition("/")[2]], defs)
    choices = [*entry.get("anyOf", ()), *entry.get("oneOf", ())]
    if choices:
        return [found for one in choices for found in _mappings(one, defs)]
    return [entry] if entry.get("properties") else []


def describe(entry: dict[str, Any], defs: dict[str, Any]) -> str:
    """A type with its bounds in words: ``integer >= 1``, ``mean | sum``, ``list of text``."""
    if "$ref" in entry:
        return describe(defs[entry["$ref"].rpartition("/")[2]], defs)
    if "const" in entry:
        return str(entry["const"])
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    for several in ("anyOf", "oneOf"):
        if several in entry:
            return " | ".join(dict.fromkeys(describe(one, defs) for one in entry[several]))
    kind = str(entry.get("type", "anything"))
    if kind == "array":
        if "prefixItems" in entry:
            return f"list of {', '.join(describe(one, defs) for one in entry['prefixItems'])}"
        return f"list of {describe(entry.get('items', {}), defs)}"
    if kind == "object":
        keys = ", ".join(entry.get("properties", ()))
        return f"mapping of {keys}" if keys else "mapping"
    words = {"string": "text", "boolean": "true | false"}
    bounds = [("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")]
    limits = [f"{sign} {entry[name]:g}" for name, sign in bounds if name in entry]
    return " ".join([words.get(kind, kind), *limits])
