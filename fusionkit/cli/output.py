"""How verbs print: rich on a terminal, plain text elsewhere, JSON where asked."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionkit.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> "Console":
    """A console that draws on a terminal, and elsewhere writes plain lines of any length."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, soft_wrap=width is not None, highlight=False, markup=False)


def check_output(path: Path | None, option: str = "-o") -> None:
    """Refuse, before any work, to write where nothing can be written.

    Raises:
        ConfigError: it is a folder, or lies below what is no folder or may not be changed.
    """
    if path is None:
        return
    above = next(folder for folder in path.absolute().parents if folder.exists())
    problem = "is a folder" if path.is_dir() else None
    if not above.is_dir():
        problem = f"{above} is no folder"
    elif not os.access(above, os.W_OK):
        problem = f"{above} may not be written"
    if problem is not None:
        raise ConfigError(f"{option} must name a file that can be written, but {path}: {problem}")


def print_json(data: Any) -> None:
    """Print plain data as JSON, for programs. NaN and infinities become null, which JSON can say."""
    print(json.dumps(_finite(data), indent=2, ensure_ascii=False))


def json_line(data: Any) -> str:
    """Plain data as JSON on one line, for programs that read while we write."""
    return json.dumps(_finite(data), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
