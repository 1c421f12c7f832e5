"""`fusionkit explain`: a component's docstring and its options."""

import inspect
from typing import Annotated, Any

import typer


def explain(
    component: Annotated[str, typer.Argument(help="a kind, or family.kind where several families have it")],
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="module that registers the component")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
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
    width = max(len(row["option"]) for row in options)
    for row in options:
        default = row["default"] if row["default"] == "required" else f"default {row['default']}"
        print(f"  {row['option']:<{width}}  {row['type']}; {default}")
        if row["description"]:
            print(f"  {'':<{width}}    {row['description']}")


def option_table(schema: dict[str, Any]) -> list[dict[str, str]]:
    """A row per option of a JSON Schema: its name, its type with bounds, its default, what it means."""
    from fusionkit.recipe.write import dump_flow

    rows = []
    for name, entry in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else dump_flow(entry.get("default"))
        row = {"option": name, "type": describe(entry, schema.get("$defs", {}))}
        rows.append({**row, "default": default, "description": entry.get("description", "")})
    return rows


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
