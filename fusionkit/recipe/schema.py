"""The JSON Schema of a whole recipe, made of the components' signatures, for editors."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from fusionkit.core import registry
from fusionkit.core.registry import Registry
from fusionkit.recipe.catalogue import load_sensors
from fusionkit.recipe.sections import (
    NAME,
    Choice,
    DataSection,
    ExportSection,
    GeneratorEntry,
    HeadsSection,
    InitSection,
    ModalityEntry,
    ObjectiveEntry,
    RunSection,
    StageSection,
    StreamEntry,
    TaskEntry,
    TrainSection,
    UnlabelledSection,
    choice_model,
)

Schema = dict[str, Any]


class Node(Choice):
    """One operation of a graph."""

    inputs: list[str] = Field(min_length=1, description="sensors or earlier nodes")


class OneNode(Choice):
    """The short form: one operation over all sensors."""

    dim: int = Field(64, ge=1, description="width of a token")


def recipe_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a recipe, over every component that is known."""
    load_sensors()
    defs: Schema = {}
    encoder = _choice(defs, "encoders", Choice, registry.encoders, kind_needed=False)
    beside = _choice(defs, "unlabelled", UnlabelledSection, registry.sources)
    data = _choice(defs, "data", DataSection, registry.sources, {"unlabelled": beside})
    sensor = _choice(defs, "modalities", ModalityEntry, registry.modalities, {"encoder": encoder})
    task = _choice(defs, "tasks", TaskEntry, registry.heads)
    augmentation = {
        "if": {"properties": {"kind": {"enum": registry.generators.kinds()}}, "required": ["kind"]},
        "then": _choice(defs, "generators", GeneratorEntry, registry.generators),
        "else": _choice(defs, "augment", Choice, registry.augment),
    }
    augmentations = {"if": {"type": "array"}, "then": {"items": augmentation}, "else": augmentation}
    node = _choice(defs, "nodes", Node, registry.fusion, early={"encoder": encoder})
    one_node = _choice(defs, "fusion", OneNode, registry.fusion, early={"encoder": encoder})
    train = _model(defs, "train", TrainSection)
    defs["train"]["properties"] |= {
        "balance": _choice(defs, "balance", Choice, registry.balancing, kind_needed=False),
        "surgery": _choice(defs, "surgery", Choice, registry.surgery, kind_needed=False),
        "consistency": {"type": "array", "items": _choice(defs, "consistency", Choice, registry.consistency)},
    }
    stage = _model(defs, "pretrain", StageSection)
    objective = _choice(defs, "objectives", ObjectiveEntry, registry.objectives)
    defs["pretrain"]["properties"]["objectives"] = {"type": "array", "items": objective, "minItems": 1}
    defs["pretrain"]["properties"]["stream"] = _choice(defs, "buffers", StreamEntry, registry.buffers)
    graph = {
        "type": "object",
        "properties": {"dim": {"type": "integer", "minimum": 1, "default": 64}, "graph": _entries(node)},
        "additionalProperties": False,
    }
    sections = {
        "name": {"type": "string", "description": "names the folder of its runs (default: the file's name)"},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
        "plugins": {"type": "array", "items": {"type": "string"}, "description": "modules that register components"},
        "data": data,
        "modalities": _entries(sensor),
        "fusion": {"if": {"required": ["kind"]}, "then": one_node, "else": graph},
        "tasks": _entries(task),
        "heads": _model(defs, "heads", HeadsSection),
        "augment": {"type": "object", "additionalProperties": augmentations},
        "pretrain": {"oneOf": [stage, {"type": "array", "items": stage}]},
        "init": _model(defs, "init", InitSection),
        "train": train,
        "export": _model(defs, "export", ExportSection),
        "run": _model(defs, "run", RunSection),
        "expect": {"type": "object", "description": "scores that a slow test holds the recipe to"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fusionkit recipe",
        "type": "object",
        "properties": sections,
        "required": ["data", "modalities", "tasks"],
        "additionalProperties": False,
        "$defs": defs,
    }


def _entries(entry: Schema) -> Schema:
    names = {"pattern": f"^{NAME.pattern}$"}
    return {"type": "object", "minProperties": 1, "propertyNames": names, "additionalProperties": entry}


def _choice(
    defs: Schema,
    place: str,
    base: type[Choice],
    family: Registry,
    more: Mapping[str, Schema] | None = None,
    *,
    early: Mapping[str, Schema] | None = None,
    kind_needed: bool = True,
) -> Schema:
    """Add ``place`` to ``defs``: the kinds of a family, each with the keys of ``base`` and its own options.

    Args:
        defs: where definitions are gathered.
        place: where in a recipe this stands.
        base: the keys that belong to the place.
        family: the kinds.
        more: schemas that replace or extend those of every kind.
        early: as ``more``, for early operations only.
        kind_needed: whether ``kind`` must be given.
    """
    kinds = family.kinds()
    branches = []
    for kind in kinds:
        cls = family.get(kind)
        _model(defs, f"{place}.{kind}", choice_model(base, cls, f"{family.family} component"))
        properties = defs[f"{place}.{kind}"]["properties"]
        properties["kind"] = {"const": kind}
        properties.update(more or {})
        if getattr(cls, "level", None) == "early":
            properties.update(early or {})
        when = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
        branches.append({"if": when, "then": {"$ref": f"#/$defs/{place}.{kind}"}})
    defs[place] = {"type": "object", "properties": {"kind": {"enum": kinds}}, "allOf": branches}
    if kind_needed:
        defs[place]["required"] = ["kind"]
    return {"$ref": f"#/$defs/{place}"}


def _model(defs: Schema, place: str, model: type[BaseModel]) -> Schema:
    """Add one model to ``defs``, and the models inside it under names of their own."""
    found = model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{place}.{{model}}")
    for name, inner in found.pop("$defs", {}).items():
        defs[f"{place}.{name}"] = inner
    defs[place] = found
    return {"$ref": f"#/$defs/{place}"}
