"""`fusionkit conform`: does a component keep its contract?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusionkit.cli.options import Json

if TYPE_CHECKING:
    from fusionkit.testing import CheckResult

FAMILIES = ("fusion", "encoders", "losses", "modalities", "objectives", "generators")
LIBRARIES = {"encoders.braindecode": "braindecode"}  # components that need a library of an extra


def conform(
    components: Annotated[
        list[str] | None, typer.Argument(help="kinds, family.kind, or module:Class; KEY=VALUE sets an option")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="check every registered component")] = False,
    export: Annotated[bool, typer.Option("--export", help="also torch.export and ONNX (minutes)")] = False,
    plugin: Annotated[list[str] | None, typer.Option("--plugin", help="module that registers components")] = None,
    json: Json = False,
) -> None:
    """Run the conformance suite over components; exit code 1 if a check fails.

    Example:
        fusionkit conform fusion.rcft layers=2
        fusionkit conform my_lab.fusion:MyOperation --export
        fusionkit conform --all
    """
    from fusionkit.cli.output import console, print_json
    from fusionkit.core.errors import ConfigError
    from fusionkit.core.registry import import_plugins

    import_plugins(plugin or [])
    names = [word for word in components or [] if "=" not in word]
    options = read_options([word for word in components or [] if "=" in word])
    if bool(names) == everything:
        raise ConfigError("name the components to check, or give --all, but not both" if names else "name a component")
    if options and len(names) != 1:
        raise ConfigError(f"options are for one component, but there are {len(names) or 'all'}")
    found = {name: find_class(name) for name in names} if names else all_components()
    results = {}
    lacking = [name for name in found if everything and missing_library(name)]
    for name in lacking:
        console(stderr=json).print(f"{name}: not checked, since {LIBRARIES[name]} is not installed")
        del found[name]
    for name, cls in found.items():
        results[name] = run_suite(cls, export, options, strict=not everything)
        if not json:
            print_results(name, results[name], full=len(found) == 1)
    failed = [name for name, checks in results.items() if any(check.outcome == "failed" for check in checks)]
    if json:
        print_json({name: [vars(check) for check in checks] for name, checks in results.items()})
    elif len(found) > 1:
        exempt = sum(any(check.outcome == "exempt" for check in checks) for checks in results.values())
        told = f", {exempt} with exemptions" if exempt else ""
        print(f"{len(found) - len(failed)} of {len(found)} components conform{told}")
    if failed:
        raise typer.Exit(1)


def read_options(words: list[str]) -> dict[str, Any]:
    """``layers=2`` as ``{"layers": 2}``; values are YAML."""
    import yaml

    from fusionkit.core.errors import ConfigError

    options = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{name}: an option's value must be YAML, but got {value!r}") from None
    return options


def find_class(name: str) -> type:
    """The class behind a kind, ``family.kind`` or ``module:Class``; modules are looked for in the current folder too.

    Raises:
        ConfigError: there is no such module or class.
        UnknownNameError: no component has that name.
    """
    import importlib
    import sys
    from pathlib import Path

    from fusionkit.core.errors import ConfigError
    from fusionkit.recipe.catalogue import find_component

    module, colon, attribute = name.partition(":")
    if not colon:
        return find_component(name)[2]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name}: the module must be importable, but {error}") from None
    if not isinstance(found, type):
        raise ConfigError(f"{name}: must be a class, but {module} has {'none such' if found is None else repr(found)}")
    return found


def all_components() -> dict[str, type]:
    """Every registered component that has a suite, by ``family.kind``."""
    from fusionkit.core import registry
    from fusionkit.recipe.catalogue import load_sensors

    load_sensors()
    return {
        f"{family}.{kind}": registry.families[family].get(kind)
        for family in FAMILIES
        for kind in registry.families[family].kinds()
    }


def missing_library(name: str) -> bool:
    """Whether a component needs a library that is not installed."""
    from importlib.util import find_spec

    return name in LIBRARIES and find_spec(LIBRARIES[name]) is None


def run_suite(cls: type, export: bool, options: dict[str, Any], strict: bool = True) -> "list[CheckResult]":
    """Every result, whether or not one failed.

    Args:
        cls: the component.
        export: whether it is exported too.
        options: its options.
        strict: whether a component that cannot be built is an error; otherwise it is a failed check of its own.

    Raises:
        ConfigError: it cannot be built, and ``strict``.
    """
    from fusionkit.core.errors import ConfigError
    from fusionkit.testing import CheckResult, ConformanceError, check_component

    try:
        return check_component(cls, export=export, **options)
    except ConformanceError as error:
        return error.results
    except ConfigError as error:
        if strict:
            raise
        return [CheckResult("inputs", "failed", str(error))]


def print_results(name: str, results: "list[CheckResult]", full: bool) -> None:
    """A table of one component's checks: all of them, or what is worth a look."""
    from rich.table import Table

    from fusionkit.cli.output import console

    order = ("failed", "exempt", "passed", "skipped")  # skipped only where every case is
    table = Table(box=None, pad_edge=False, show_header=False)
    count: dict[str, int] = dict.fromkeys(order, 0)
    for check in dict.fromkeys(result.name for result in results):
        of_check = [result for result in results if result.name == check]
        outcome = min((result.outcome for result in of_check), key=order.index)
        count[outcome] += 1
        if full or outcome in ("failed", "exempt"):
            cases: dict[str, list[str]] = {}
            for result in of_check:
                if result.outcome == outcome and result.detail:
                    cases.setdefault(result.detail, []).append(result.case)
            told = [f"{detail} ({', '.join(where)})" if any(where) else detail for detail, where in cases.items()]
            table.add_row(" ", check, outcome, "\n".join(told))
    screen = console()
    screen.print(f"{name}: {', '.join(f'{number} {outcome}' for outcome, number in count.items() if number)}")
    if table.row_count:
        screen.print(table)
