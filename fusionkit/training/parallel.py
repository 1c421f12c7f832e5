"""Several processes, one training: data parallel under torchrun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed


@contextmanager
def joined() -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; True in the one that writes and speaks."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield True
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group(backend)
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


def processes() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_leader() -> bool:
    """Whether this process writes files."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def agree_on(path: Path) -> Path:
    """The leader's path, in every process."""
    if distributed.is_available() and distributed.is_initialized():
        said: list[Any] = [str(path)]
        distributed.broadcast_object_list(said)
        return Path(said[0])
    return path


def wait() -> None:
    """Wait until every process is here."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
