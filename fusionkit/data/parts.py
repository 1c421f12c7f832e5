"""What an unfinished ingestion has read so far, so that the next one goes on from there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from fusionkit.core.recording import Array, Recording
from fusionkit.data.study import sample_digest


@dataclass(frozen=True)
class Part:
    """One recording in the file of samples."""

    id: str
    byte: int
    shape: list[int]
    dtype: str
    sample_rate: float | None
    channels: list[str]
    unit: str
    digest: str

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.byte + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Parts:
    """Recordings appended to one file of samples; a line of a journal follows when a recording is whole.

    A kill at any moment leaves whole recordings, each with its line, and at most one without: that one is cut off.
    Samples found from an earlier run are taken only if they match their digest.

    Args:
        folder: where both files lie; nobody else may use it meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._journal: IO[bytes] = open(folder / "journal.jsonl", "a+b")  # noqa: SIM115 - closed by close
        self._samples: IO[bytes] = open(folder / "samples.bin", "a+b")  # noqa: SIM115
        self._parts: dict[str, Part] = {}
        self._recover()

    def _recover(self) -> None:
        size = self._samples.seek(0, 2)
        self._journal.seek(0)
        whole = end = 0
        for line in self._journal:
            part = _parsed(line)
            if part is None or part.byte != end or part.end > size:
                break
            self._parts[part.id] = part
            whole, end = whole + len(line), part.end
        self._journal.truncate(whole)
        self._samples.truncate(end)

    def find(self, id: str) -> tuple[Part, Recording] | None:
        """A recording that an earlier run has read, or None."""
        part = self._parts.get(id)
        if part is None:
            return None
        values = self.load(part)
        if sample_digest(values) != part.digest:  # the machine went down before the samples reached the disk
            return None
        return part, Recording(values, part.sample_rate, tuple(part.channels), part.unit)

    def append(self, id: str, recording: Recording) -> Part:
        """Keep a recording."""
        values = np.ascontiguousarray(recording.values, dtype=recording.values.dtype.newbyteorder("<"))
        part = Part(
            id=id,
            byte=self._samples.seek(0, 2),
            shape=list(recording.values.shape),
            dtype=values.dtype.str,
            sample_rate=recording.sample_rate,
            channels=list(recording.channels),
            unit=recording.unit,
            digest=sample_digest(recording.values),
        )
        self._samples.write(values.reshape(-1).view(np.uint8).data)
        self._samples.flush()
        self._journal.write(json.dumps(vars(part)).encode() + b"\n")
        self._journal.flush()
        self._parts[id] = part
        return part

    def load(self, part: Part) -> Array:
        """The samples of one recording."""
        self._samples.seek(part.byte)
        values: Array = np.frombuffer(self._samples.read(part.end - part.byte), part.dtype).reshape(part.shape)
        return values

    def close(self) -> None:
        """Close both files; they stay for the next run."""
        self._journal.close()
        self._samples.close()

    def remove(self) -> None:
        """Close and delete both files."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __contains__(self, id: str) -> bool:
        return id in self._parts

    def __len__(self) -> int:
        return len(self._parts)


@contextmanager
def parts_in(folder: Path) -> Iterator[Parts]:
    """Parts that are deleted when all went well, and kept for the next run otherwise unless there are none."""
    parts = Parts(folder)
    try:
        yield parts
    except BaseException:
        if len(parts):
            parts.close()
        else:
            parts.remove()
        raise
    parts.remove()


def _parsed(line: bytes) -> Part | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return Part(**json.loads(line))
    except (ValueError, TypeError):
        return None
