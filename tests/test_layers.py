"""Imports point down, the framework knows no sensor, and the lists that must agree do."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fusionkit.core import registry

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text()) if (ROOT / "pyproject.toml").is_file() else {}
pytestmark = pytest.mark.skipif(not PROJECT, reason="these hold in a checkout")


def imported(path):
    """Every module that a file imports, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            if not node.level:
                yield from (f"{base}.{alias.name}" for alias in node.names)


def files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def test_import_linter_keeps_every_contract():
    tool = Path(sys.executable).parent / "lint-imports"
    found = subprocess.run([tool, "--no-cache"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "4 kept, 0 broken" in found.stdout


def test_the_framework_never_imports_a_sensor():
    outside = ("fusionkit.modalities", "modalities", "fusionkit.recipes", "recipes")
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in files("fusionkit")
        for name in imported(path)
        if name.startswith(tuple(f"{place}." for place in outside)) or name in outside
    ]
    assert not wrong


def test_sensors_import_the_framework_absolutely_and_siblings_with_one_dot():
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in files("modalities")
        for name in imported(path)
        if name.startswith(("..", "fusionkit.modalities")) or name.split(".")[0] == "modalities"
    ]
    assert not wrong


def test_built_in_sensors_are_the_entry_points_and_the_folders():
    points = PROJECT["project"]["entry-points"]["fusionkit.modalities"]
    assert registry.modalities._targets == points
    folders = {path.name for path in (ROOT / "modalities").iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(points)
    for kind, target in points.items():
        module, _, name = target.partition(":")
        cls = registry.modalities.get(kind)
        assert module == f"fusionkit.modalities.{kind}" and cls.__name__ == name and cls.kind == kind


def test_packages_only_re_export():
    """An ``__init__.py`` has a docstring, imports, and the two lines that a package may need, but no logic."""
    for path in [*files("fusionkit"), *files("modalities")]:
        if path.name == "__init__.py":
            for node in ast.parse(path.read_text()).body:
                plain = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)
                text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                assert plain or text, f"{path.relative_to(ROOT)} line {node.lineno}"


@pytest.mark.parametrize("module", ["fusionkit", "fusionkit.runtime", "fusionkit.cli", "fusionkit.data.synthetic"])
def test_importing_takes_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, timeout=60).returncode == 0
