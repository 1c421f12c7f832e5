"""Let a checkout import what a wheel carries inside the package.

The repository keeps adapters in ``modalities/`` and recipes in ``recipes/``, beside ``fusionkit/``.
A wheel puts both inside it. Here, and only in a checkout, the two names are looked up beside us.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parent.parent
_BESIDE = frozenset({"fusionkit.modalities", "fusionkit.recipes"})


class _Beside:
    """Find the two outside folders under their inside names."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(_ROOT)]) if name in _BESIDE else None


if (_ROOT / "pyproject.toml").is_file():
    sys.meta_path.append(_Beside)
