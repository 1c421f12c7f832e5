"""Folders of results, called by when they were begun."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusionkit.core.errors import ConfigError
from fusionkit.training.interruption import Interrupted


def stamped_folder(parent: Path) -> Path:
    """Make an empty folder with a name of its own: ``20261122-101500``, or ``20261122-101500-1`` where that is taken.

    Raises:
        ConfigError: it cannot be written to.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = parent / stamp
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(100):
            folder = parent / (stamp if attempt == 0 else f"{stamp}-{attempt}")
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue
    except OSError as error:
        raise ConfigError(f"run.dir: must be a folder to write to, but {parent}: {error.strerror}") from None
    return folder


@contextmanager
def no_empty_folder(folder: Path, *, ours: bool) -> Iterator[None]:
    """Take a folder away again where an error came before the first checkpoint; a kill leaves it to be resumed.

    Args:
        folder: of results.
        ours: whether it was begun now.
    """
    try:
        yield
    except Exception as error:
        if ours and not isinstance(error, Interrupted) and not any(folder.rglob("*.safetensors")):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()  # only where no other is in it
        raise
