"""What fitted sensors learned of training records, beside the weights that rest on it."""

import os
import shutil
from pathlib import Path

from fusionkit.core.modality import Modality
from fusionkit.training.checkpoint import write_atomically


def keep_files(modalities: dict[str, Modality], folder: Path) -> None:
    """Write what fitted sensors learned, once: a resumed run must see the same vocabulary.

    A sensor's folder gets its name when all of its files are in it, so that a kill leaves it whole or not there.
    """
    for name, modality in modalities.items():
        files, kept = modality.files(), folder / "files" / name
        if not files or kept.is_dir():
            continue
        temporary = folder / "files" / f".{name}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        for file, content in files.items():
            write_atomically(temporary / file, content)
        try:
            temporary.rename(kept)
        except OSError:  # another process of this training was first
            if not kept.is_dir():
                raise
            shutil.rmtree(temporary)
