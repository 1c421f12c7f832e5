"""What a bench must know and set of the process that it measures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusionkit.core.errors import ConfigError

STATUS = Path("/proc/self/status")


@contextmanager
def in_environment(values: dict[str, str]) -> Iterator[None]:
    """Processes that are started meanwhile find these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_anonymous() -> None:
    """Refuse a system that does not tell anonymous memory.

    Raises:
        ConfigError: it does not (no Linux).
    """
    if "RssAnon" not in (STATUS.read_text() if STATUS.exists() else ""):
        raise ConfigError(f"anonymous memory must be told by {STATUS} (RssAnon), but this system has none")


def anonymous_mb() -> float:
    """Anonymous memory of this process in megabytes; mapped files are not counted."""
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
