"""What a cell's result depends on, as one hash: other recipe, data, split, code or libraries, another cell."""

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import fusionkit
from fusionkit.core.registry import families
from fusionkit.recipe.sections import Recipe
from fusionkit.training.run import PACKAGES

UNCOMPARED = ("name", "run", "expect")
"""Sections that change no result."""
ABOVE = ("bench", "cli", "compare", "export", "testing")
"""Packages that training does not import, so that no result depends on them."""


def cell_key(recipe: Recipe, fold: int, *, study: str, split: str) -> str:
    """Hash of all that a result depends on.

    That is: the recipe with its seed, files that it names and encoders that it begins with, records and signals, split,
    fold, our code, that of its plugins, and the versions of libraries.
    """
    said = uncompared(recipe)
    said["data"] = {name: part for name, part in said["data"].items() if name not in ("cache", "workers")}
    began = [] if recipe.init.from_ is None else _start(Path(recipe.init.from_), fold)
    named = [_hash(file) for file in sorted(_files({**said, "data": {}}))]
    code = [code_digest(), plugin_digest(recipe.plugins)]
    text = json.dumps([said, fold, study, split, code, began, named], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def uncompared(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe without what changes no result."""
    return {name: part for name, part in recipe.resolved().items() if name not in UNCOMPARED}


@cache
def code_digest() -> str:
    """Hash of the version, of every source file that training may import, of what is installed beside, of libraries.

    A version's local part (``+cpu``, ``+cu128``) says for what machine it was built, not what it computes.
    """
    root = Path(fusionkit.__file__).parent
    sensors = root / "modalities" if (root / "modalities").is_dir() else root.parent / "modalities"
    digest = hashlib.sha256(fusionkit.__version__.encode())
    below = (path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in ABOVE)
    for path in sorted({*below, *sensors.rglob("*.py")}):
        digest.update(path.read_bytes())
    for package in PACKAGES:
        digest.update(f"{package} {_version(package)}\n".encode())
    groups = [importlib.metadata.entry_points(group=f"fusionkit.{family}") for family in families]
    modules = sorted({entry.module for group in groups for entry in group if not entry.module.startswith("fusionkit.")})
    digest.update(plugin_digest(tuple(modules)).encode())
    return digest.hexdigest()


def plugin_digest(modules: Sequence[str]) -> str:
    """Hash of the sources of modules that are not ours: of all of the package that a module is in."""
    digest = hashlib.sha256()
    for name in modules:
        digest.update(name.encode())
        for path in _sources(name.partition(".")[0]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(package: str) -> list[Path]:
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return []
    if found.submodule_search_locations is not None:
        return sorted(path for place in found.submodule_search_locations for path in Path(place).rglob("*.py"))
    return [Path(found.origin)] if found.has_location and found.origin is not None else []


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def _start(run: Path, fold: int) -> list[str]:
    """Of what a fold may take of another run."""
    own = run / f"fold-{fold}" if (run / f"fold-{fold}").is_dir() else run / "fold-0"
    found = [run / "recipe.yaml", run / "split.json", own / "fused" / "best.safetensors"]
    found += [own / "pretrained" / "encoders.safetensors", *own.glob("*/files/**/*")]
    return [f"{path.relative_to(run)} {_hash(path)}" for path in sorted(found) if path.is_file()]


def _files(part: Any) -> Iterator[Path]:
    """Files that any value names, such as a thesaurus."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _files(one)
    elif isinstance(part, str):
        with suppress(OSError, ValueError):  # no name that a file could have
            if Path(part).is_file():
                yield Path(part)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
