"""Windows of a sensor, and the features that a deterministic front end makes of them: once a study, then mapped."""

import copy
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import Array, FrontEnd, Modality
from fusionkit.data.alignment import Alignment
from fusionkit.data.study import StoredSensor, Study
from fusionkit.runtime.alignment import measured

VERSION = 1
CHUNK_WINDOWS = 256
CHUNK_BYTES = 2**23
CPU = torch.device("cpu")
Progress = Callable[[int, int], None]
"""Called with records done and records in all."""


class Windows:
    """The windows of one sensor, padded with zeros to the longest.

    Where a modality must see whole recordings (`Modality.whole`), each goes through it once and windows are cut of the
    result, which is kept until a record of another recording is asked for: read rows in order, or pay for a recording
    a row. What a record has not measured, all 0 as stored, stays 0 in its window.

    Args:
        name: the sensor's name, for messages.
        sensor: its stored samples.
        modality: makes a window of a stored slice.
        alignment: what each record's samples are multiplied by first.

    Attributes:
        shape: of a window, without batch.
        dtype: of a window.
        whole: whether windows are cut of whole recordings that went through a filter.
    """

    def __init__(self, name: str, sensor: StoredSensor, modality: Modality, alignment: Alignment | None = None) -> None:
        self.name, self.sensor, self.modality, self.alignment = name, sensor, modality, alignment
        stored, here = sensor.stored, np.flatnonzero(sensor.present)
        self._whole = modality.whole(stored)
        self.whole = self._whole is not None
        self._last: tuple[tuple[int, int], Array] = ((-1, -1), np.zeros(0))
        if self._whole is not None:
            blank = np.zeros((max(1, stored.longest), *stored.item), stored.dtype)
            longest = modality.window(self._whole(blank))
        elif here.size:
            longest = modality.window(sensor.slice(int(here[np.argmax(sensor.count[here])])))
        else:  # a sensor that the model was trained on and this study lacks
            longest = modality.window(np.zeros((max(1, stored.longest), *stored.item), stored.dtype))
        width = longest.shape[-1]
        if stored.sample_rate is None and not stored.item:  # bytes of text: more bytes may be less tokens
            width = max((modality.window(sensor.slice(int(row))).shape[-1] for row in here), default=1)
        self.shape: tuple[int, ...] = (*longest.shape[:-1], max(1, width))
        self.dtype = longest.dtype

    @property
    def nbytes(self) -> int:
        """Of one window."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def read(self, rows: Int[np.ndarray, " row"]) -> tuple[Array, Int[np.ndarray, " row"]]:
        """Windows of some records and their lengths; zeros and 0 where the sensor is absent.

        Raises:
            DataError: a window does not fit the others; the message names the row.
        """
        values = np.zeros((len(rows), *self.shape), self.dtype)
        length = np.zeros(len(rows), np.int64)
        sensor = self.sensor
        for index, row in enumerate(rows.tolist()):
            if sensor.offset[row] < 0:
                continue
            window = self.stretch(row, int(sensor.offset[row]), int(sensor.count[row]))
            if window.shape[:-1] != self.shape[:-1] or window.shape[-1] > self.shape[-1]:
                raise DataError(
                    f"windows of {self.name} must fit into {self.shape}, but that of record {row} (from 0) is "
                    f"{window.shape}"
                )
            length[index] = window.shape[-1]
            values[index, ..., : window.shape[-1]] = window
        return values, length

    def stretch(self, row: int, first: int, count: int) -> Array:
        """A window of ``count`` stored samples from ``first`` on, within the recording that the record ``row`` lies in."""
        stored = self.sensor.values[first : first + count]
        if self._whole is None and self.alignment is None:
            return self.modality.window(stored)
        if self._whole is None:
            assert self.alignment is not None
            return self.modality.window(self.alignment.apply(row, stored))
        start = int(self.sensor.recording_offset[self.sensor.recording[row]])
        window = self.modality.window(self._filtered(row)[first - start : first - start + count])
        dead = ~measured(stored.reshape(len(stored), stored.shape[1], -1).transpose(1, 2, 0))
        return np.where(dead.reshape((-1,) + (1,) * (window.ndim - 1)), window.dtype.type(0), window)

    def _filtered(self, row: int) -> Array:
        """The whole recording that a record lies in, aligned and filtered."""
        assert self._whole is not None
        sensor, recording = self.sensor, int(self.sensor.recording[row])
        key = (recording, -1 if self.alignment is None else int(self.alignment.group[row]))
        if self._last[0] != key:
            self._last = ((-1, -1), np.zeros(0))  # one recording in memory, not two
            first = int(sensor.recording_offset[recording])
            stored = sensor.values[first : first + int(sensor.recording_count[recording])]
            if self.alignment is not None:
                stored = self.alignment.apply(row, stored)
            self._last = (key, self._whole(stored))
        return self._last[1]


@dataclass(frozen=True)
class CachedFeatures:
    """Features of every record of a study, as the front end made them.

    Attributes:
        values: mapped and not writeable; zeros in padding and where the sensor is absent, NaN where a channel was not
            measured.
        steps: how many steps of each record are real.
        times: centre of each step in seconds, or None.
        name: of the cache entry.
    """

    values: Float[np.ndarray, "record time channel subchannel"]
    steps: Int[np.ndarray, " record"]
    times: Float[np.ndarray, " time"] | None
    name: str = ""


def compute(
    study: Study,
    sensor_name: str,
    modality: Modality,
    front_end: FrontEnd,
    cache: Path,
    key: str,
    *,
    alignment: Alignment | None = None,
    device: torch.device = CPU,
    progress: Progress | None = None,
) -> CachedFeatures:
    """Features of one sensor, from the cache or computed into it.

    The work is done in chunks, so memory does not grow with the study.

    Args:
        study: the study.
        sensor_name: which sensor.
        modality: makes windows of stored slices.
        front_end: makes features of windows; it must not train, and is left as it is.
        cache: the folder for the files.
        key: settings that the features depend on, besides the data: the modality's options as canonical JSON.
        alignment: what windows are multiplied by first; its matrices count too, for names of files choose its
            segments, and the study's digest does not know them.
        device: where the front end runs.
        progress: see `Progress`.

    Raises:
        ConfigError: the front end trains.
        DataError: features are not finite, windows too short for a single step, or the folder takes no files.
    """
    if front_end.shape.trains or any(parameter.requires_grad for parameter in front_end.parameters()):
        raise ConfigError(f"a front end must be deterministic to be cached, but that of {sensor_name} trains")
    identity = [VERSION, study.digest, sensor_name, modality.kind, key]
    if alignment is not None:
        identity.append(hashlib.sha256(alignment.group.tobytes() + alignment.matrix.tobytes()).hexdigest())
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def fill(path: Path) -> tuple[Array, Array | None]:
        windows = Windows(sensor_name, study.sensor(sensor_name), modality, alignment)
        return _fill(path, study, windows, copy.deepcopy(front_end).to(device).eval(), device, progress)

    return keep(cache, name, sensor_name, len(study.records), fill)


def keep(
    cache: Path, name: str, sensor_name: str, records: int, fill: Callable[[Path], tuple[Array, Array | None]]
) -> CachedFeatures:
    """Open an entry of the cache, or make it.

    Processes that want the same features wait for the first of them; what is half-written never has a final name; a
    file that is damaged is made anew.

    Args:
        cache: the folder.
        name: of the entry.
        sensor_name: for messages.
        records: how many there are.
        fill: writes the values to a file in NumPy's format and gives steps and times.

    Raises:
        DataError: the folder takes no files.
    """
    found = _open(cache, name, records)
    if found is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{name}.lock"):
                found = _open(cache, name, records)
                if found is None:
                    _write(cache, name, sensor_name, fill)
                    found = _open(cache, name, records)
        except OSError as error:
            raise DataError(f"{cache}: features must be written here, but {error.strerror or error}") from None
    if found is None:
        raise DataError(f"{cache}: features of {sensor_name} must be readable once written, but they are not")
    return found


def _write(cache: Path, name: str, sensor_name: str, fill: Callable[[Path], tuple[Array, Array | None]]) -> None:
    """Write the three files of one cache entry; the one that says what is right comes last."""
    temporary = cache / f".{name}.tmp"  # under the lock: a killed process leaves one, the next overwrites it
    try:
        steps, times = fill(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, cache / f"{name}.npy")
        with open(temporary, "wb") as file:
            np.save(file, steps)
            _flush(file)
        os.replace(temporary, cache / f"{name}.steps.npy")
        facts = {
            "sensor": sensor_name,
            "shape": np.load(cache / f"{name}.npy", mmap_mode="r", allow_pickle=False).shape,
            "times": None if times is None else times.tolist(),
            "checksums": [_checksum(cache / f"{name}.npy"), _checksum(cache / f"{name}.steps.npy")],
        }
        temporary.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(temporary, cache / f"{name}.json")
    finally:
        temporary.unlink(missing_ok=True)


@torch.no_grad()
def run_front_end(
    front_end: FrontEnd, values: Array, length: Int[np.ndarray, " row"], device: torch.device = CPU
) -> tuple[Float[np.ndarray, "row time channel subchannel"], Int[np.ndarray, " row"]]:
    """Features and number of real steps of some windows, computed in full float32; zeros in padding.

    Raises:
        ConfigError: the front end's mask is not one stretch from the first step on.
    """
    exact = (
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        if device.type == "cuda"
        else nullcontext()
    )
    with exact:
        features, mask = front_end(torch.from_numpy(values).to(device), torch.from_numpy(length).to(device))
    steps = mask.sum(1)
    if not torch.equal(mask, torch.arange(mask.shape[1], device=mask.device) < steps[:, None]):
        raise ConfigError(f"a cached front end must mask the last steps alone, but {type(front_end).__name__} does not")
    features = torch.where(mask[:, :, None, None], features, torch.zeros_like(features))
    return features.float().cpu().numpy(), steps.cpu().numpy()


def _fill(
    path: Path,
    study: Study,
    windows: Windows,
    front_end: FrontEnd,
    device: torch.device,
    progress: Progress | None,
) -> tuple[Array, Array | None]:
    """Write the features of every record, chunk by chunk; give steps and times."""
    total = len(study.records)
    blank = np.zeros((1, *windows.shape), windows.dtype)
    first, _ = run_front_end(front_end, blank, np.array([windows.shape[-1]]), device)
    if not first.shape[1]:
        raise DataError(
            f"windows must be long enough for a step, but {windows.shape[-1]} samples of {windows.name} are not"
        )
    shape = (total, *first.shape[1:])
    chunk = max(1, min(CHUNK_WINDOWS, CHUNK_BYTES // max(windows.nbytes, first.nbytes)))
    present, steps = windows.sensor.present, np.zeros(total, np.int64)
    with open(path, "wb") as file:
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, total, chunk):
            rows = np.arange(start, min(start + chunk, total))
            block = np.zeros((len(rows), *shape[1:]), np.float32)
            here = rows[present[rows]]
            if here.size:
                block[here - start], steps[here] = run_front_end(front_end, *windows.read(here), device)
            allowed = np.isfinite(block) | (np.isnan(block) & front_end.lacks)
            bad = np.flatnonzero(~allowed.all((1, 2, 3)))
            if bad.size:
                record = study.records.id[start + int(bad[0])]
                raise DataError(f"features must be finite, but those of {windows.name} of record {record!r} are not")
            file.write(block.tobytes())
            if progress is not None:
                progress(int(rows[-1]) + 1, total)
    times: Tensor | None = front_end.times(shape[1])
    return steps, None if times is None else times.double().numpy()


def _open(cache: Path, name: str, records: int) -> CachedFeatures | None:
    """What is cached under a name; None when it is missing or damaged."""
    paths = [cache / f"{name}.npy", cache / f"{name}.steps.npy"]
    try:
        facts = json.loads((cache / f"{name}.json").read_text(encoding="utf-8"))
        if facts["checksums"] != [_checksum(path) for path in paths]:
            return None
        values = np.load(paths[0], mmap_mode="r", allow_pickle=False)
        steps = np.load(paths[1], allow_pickle=False)
        times = None if facts["times"] is None else np.array(facts["times"], np.float32)
        if values.shape != tuple(facts["shape"]) or len(values) != records or steps.shape != (records,):
            return None
        return CachedFeatures(values, steps, times, name)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file: all of it up to 64 MiB, beyond that 64 stretches of a MiB each."""
    block, most = 2**20, 64
    size = path.stat().st_size
    starts = range(0, size, block) if size <= most * block else [i * (size - block) // (most - 1) for i in range(most)]
    crc = 0
    with open(path, "rb") as file:
        for start in starts:
            file.seek(start)
            crc = zlib.crc32(file.read(block), crc)
    return [size, crc]


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
