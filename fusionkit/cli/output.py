"""How verbs print: rich on a terminal, plain text elsewhere, JSON where asked."""

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool = False) -> "Console":
    """A console that draws on a terminal, and elsewhere writes plain lines of any length."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, soft_wrap=width is not None, highlight=False, markup=False)


def print_json(data: Any) -> None:
    """Print plain data as JSON, for programs. NaN and infinities become null, which JSON can say."""
    print(json.dumps(_finite(data), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
