"""A component is explained by its docstring and its signature."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from fusionkit.cli import main
from fusionkit.cli.explain import option_table
from fusionkit.core import registry
from fusionkit.core.registry import options_model


def test_a_component_is_explained(capsys):
    assert main(["explain", "rcft"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("fusion.rcft  (fusionkit.fusion.rcft:")
    assert "Options:" in shown
    assert any(line.startswith("  layers ") and "integer >= 1" in line for line in shown.splitlines())


def test_json_has_the_same(capsys):
    assert main(["explain", "fusion.rcft", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["family"], found["kind"]) == ("fusion", "rcft")
    assert {"option", "type", "default", "description", "inside"} == set(found["options"][0])


def test_an_ambiguous_name_lists_its_families(capsys, monkeypatch):
    class Both:
        """In two families."""

    for family in ("fusion", "losses"):
        registry.families[family].kinds()
        monkeypatch.setitem(registry.families[family]._classes, "both", Both)
    assert main(["explain", "both"]) == 2
    assert capsys.readouterr().err == (
        "error: a name must mean one component, but 'both' is in several families: fusion.both, losses.both\n"
    )
    assert main(["explain", "losses.both"]) == 0
    assert "losses.both" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rctf", "no component named 'rctf'; did you mean 'rcft'?; known: ["),
        ("fusion.rctf", "no fusion component named 'rctf'; did you mean 'rcft'?; known: ["),
        ("fusoin.rcft", "no family named 'fusoin'; did you mean 'fusion'?; known: ["),
    ],
)
def test_an_unknown_name_is_refused(capsys, name, message):
    assert main(["explain", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_every_component_can_be_explained(capsys):
    for family, known in registry.families.items():
        for kind in known.kinds():
            assert main(["explain", f"{family}.{kind}"]) == 0
            assert capsys.readouterr().out.startswith(f"{family}.{kind}  (")


def test_an_unknown_plugin_is_named(capsys):
    assert main(["explain", "rcft", "--plugin", "no_such_lab"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: plugins: a plugin must be a module that imports, but no_such_lab: ModuleNotFoundError"
    )


class Inner(BaseModel):
    kind: Literal["inner"] = "inner"
    width: int = 3


class Parts:
    def __init__(
        self,
        inputs,
        *,
        needed: int,
        count: Annotated[int, Field(ge=1, lt=9, description="how many")] = 4,
        share: Annotated[float, Field(gt=0)] = 0.5,
        names: list[str] | None = None,
        mode: Literal["mean", "sum"] = "mean",
        pair: tuple[int, float] = (1, 2.0),
        flag: bool = True,
        weights: dict[str, float] | None = None,
        inner: Inner = Inner(),  # noqa: B008
        word: str = "true",
    ) -> None: ...


def test_types_bounds_and_defaults_are_put_in_words():
    rows = option_table(options_model(Parts).model_json_schema())
    assert [(row["option"], row["type"], row["default"]) for row in rows] == [
        ("needed", "integer", "required"),
        ("count", "integer >= 1 < 9", "4"),
        ("share", "number > 0", "0.5"),
        ("names", "list of text | null", "null"),
        ("mode", "mean | sum", "mean"),
        ("pair", "list of integer, number", "[1, 2.0]"),
        ("flag", "true | false", "true"),
        ("weights", "mapping | null", "null"),
        ("inner", "mapping of kind, width", "{kind: inner, width: 3}"),
        ("word", "text", "'true'"),
    ]
    assert rows[1]["description"] == "how many"
    assert [row["option"] for table in rows[-2]["inside"] for row in table] == ["kind", "width"]


def test_options_inside_options_are_explained(capsys):
    assert main(["explain", "eeg"]) == 0
    said = capsys.readouterr().out.splitlines()
    for option in ("notch", "interpolate_bad", "lof", "order", "points", "floor", "asymmetry"):
        assert any(line.startswith("        ") and line.split()[:1] == [option] for line in said), option
