"""What is wrong with a recipe, and where: every problem on a line of its own, all of them at once."""

from collections.abc import Iterable, Mapping

from fusionkit.core.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value stands in a recipe: ``("train", "epochs")``, ``("augment", "audio", 0, "kind")``."""


class RecipeError(ConfigError):
    """Everything that is wrong with a recipe; the message has one line a problem.

    Attributes:
        lines: the problems.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class Places:
    """Where the values of a recipe come from: a line of its file, or the command line.

    Args:
        file: how the file is called in messages.
        lines: the line of every key that stands in the file.
    """

    def __init__(self, file: str, lines: Mapping[Key, int] | None = None) -> None:
        self.file = file
        self._lines: dict[Key, int | None] = dict(lines or {})  # None: the command line

    def override(self, key: Key) -> None:
        """Note that ``key``, and all that is under it, now comes from the command line."""
        self.forget(key)
        self._lines[key] = None
        for depth in range(1, len(key)):
            self._lines.setdefault(key[:depth], None)

    def forget(self, key: Key) -> None:
        """Note that ``key`` is gone from the recipe, and all that was under it."""
        self._lines = {known: line for known, line in self._lines.items() if known[: len(key)] != key}

    def say(self, key: Key, message: str) -> str:
        """Put the place before a problem: ``quickstart.yaml:12: fusion.slot: no such option``."""
        _, where = self._find(key)
        return f"{where}: {dotted(key)}: {message}" if key else f"{where}: {message}"

    def order(self, key: Key) -> tuple[bool, int]:
        """Sorts problems as a reader meets them: down the file, then the command line."""
        line, where = self._find(key)
        return where == "command line", line

    def _find(self, key: Key) -> tuple[int, str]:
        for depth in range(len(key), 0, -1):
            if key[:depth] in self._lines:
                line = self._lines[key[:depth]]
                return (0, "command line") if line is None else (line, f"{self.file}:{line}")
        return 0, self.file


def dotted(key: Key) -> str:
    """Write a key as overrides do: ``augment.audio.0.kind``."""
    return ".".join(str(part) for part in key)
