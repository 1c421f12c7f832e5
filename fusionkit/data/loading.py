"""Records to batches: everything on the device where it fits, else streamed from the maps; the same bits either way."""

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch, Features, Window
from fusionkit.core.modality import Array, Modality
from fusionkit.data.alignment import Alignment
from fusionkit.data.features import CachedFeatures, Windows
from fusionkit.data.generated import Appended, Generated
from fusionkit.data.normalisation import Statistics
from fusionkit.data.study import Study

CHUNK_BYTES = 2**25
CHUNK_RECORDS = 256
BATCH_BYTES = 2**23
Rows = Int[Tensor, " batch"]


@dataclass(frozen=True)
class LoaderInput:
    """Where one input comes from.

    Attributes:
        source: cached features, which give `Features`; or a modality, whose windows give `Window`.
        statistics: normalise features on loading; go along with windows, for the front end to use.
        sensor: name of the study's sensor; by default the input's own name.
        alignment: what windows are multiplied by; features were made of aligned ones.
    """

    source: CachedFeatures | Modality
    statistics: Statistics | None = None
    sensor: str | None = None
    alignment: Alignment | None = None


class Loader:
    """Make batches of a study's records.

    Args:
        study: the study.
        inputs: every input by name.
        targets: per task ``(record,)`` or ``(record, label)``, NaN where missing; always held on the device.
        device: where batches are wanted.
        resident: True holds all inputs on the device and gathers them there; False reads each batch from the maps,
            with constant memory; ``auto`` is True when all inputs fit into half of the device's free memory.
        generated: records behind those of the study, in order: of n records the first of these is row n. They have
            the labels that they bring, and are held in memory.

    Attributes:
        resident: what was chosen.
        chunk: how many records to ask for at once where it does not matter: 256, or less where they are large.

    Raises:
        ConfigError: targets or features are not one per record.
    """

    def __init__(
        self,
        study: Study,
        inputs: Mapping[str, LoaderInput],
        targets: Mapping[str, Array],
        device: torch.device,
        resident: Literal["auto"] | bool = "auto",
        generated: Sequence[Generated] = (),
    ) -> None:
        count = len(study.records)
        for name, values in targets.items():
            if len(values) != count:
                raise ConfigError(f"targets must be one per record, but {name} has {len(values)} for {count} records")
        self.device = device = torch.empty(0, device=device).device  # with its index, as tensors have it
        columns: dict[str, _FeatureColumn | _WindowColumn] = {}
        for name, given in inputs.items():
            make = _FeatureColumn if isinstance(given.source, CachedFeatures) else _WindowColumn
            columns[name] = make(name, study, given, device)
        self.nbytes = sum(column.nbytes for column in columns.values())
        self.chunk = max(1, min(CHUNK_RECORDS, BATCH_BYTES * count // max(1, self.nbytes)))
        self.nbytes += sum(made.values.nbytes for made in generated)
        self.resident = self.nbytes <= free_memory(device) // 2 if resident == "auto" else resident
        self._inputs: dict[str, Callable[[Rows], Features | Window]] = {
            name: column.hold() if self.resident else column.read for name, column in columns.items()
        }
        self._targets = {
            name: torch.from_numpy(np.array(values, np.float32)).to(device) for name, values in targets.items()
        }
        self._real: Loader | None = None
        if generated:
            self._real = copy.copy(self)
            self._append(generated, count)

    @property
    def real(self) -> "Loader":
        """Loads records of the study alone, from the same memory; it knows no other row."""
        return self if self._real is None else self._real

    def batch(self, rows: Rows | Int[np.ndarray, " batch"]) -> Batch:
        """Some records, in the order of ``rows``.

        Resident and with rows on the device already, nothing is copied between host and device.
        """
        if not isinstance(rows, Tensor):
            rows = torch.from_numpy(np.asarray(rows, np.int64))
        if rows.device != self.device:
            rows = rows.to(self.device, non_blocking=True)
        return Batch(
            {name: read(rows) for name, read in self._inputs.items()},
            {name: values.index_select(0, rows) for name, values in self._targets.items()},
            rows,
        )

    def _append(self, generated: Sequence[Generated], count: int) -> None:
        """Put generated records behind those of the study."""
        held, first = self.device if self.resident else torch.device("cpu"), count
        own: dict[str, tuple[int, Generated | None]] = {}
        for made in generated:
            own[made.sensor] = first, made
            first += len(made)
        self._inputs = {
            name: Appended(read, count, *own.get(name, (0, None)), held) for name, read in self._inputs.items()
        }
        self._targets = {
            name: torch.cat([values, *(_targets(made, name, values) for made in generated)])
            for name, values in self._targets.items()
        }


def _targets(made: Generated, task: str, like: Tensor) -> Tensor:
    """Labels of generated records, NaN where they have none of this task."""
    if task in made.targets:
        return torch.from_numpy(np.array(made.targets[task], np.float32)).to(like)
    return torch.full((len(made), *like.shape[1:]), math.nan).to(like)


class _FeatureColumn:
    """Features of one sensor, normalised on the way."""

    def __init__(self, name: str, study: Study, given: LoaderInput, device: torch.device) -> None:
        assert isinstance(given.source, CachedFeatures)
        cached = self._cached = given.source
        present = study.sensor(given.sensor or name).present
        if len(cached.values) != len(present):
            raise ConfigError(
                f"features must be one per record, but {name} has {len(cached.values)} for {len(present)} records"
            )
        self.nbytes = cached.values.nbytes
        self._device = device
        self._statistics = None if given.statistics is None else _Statistics(given.statistics, device)
        self._mask = _step_mask(torch.from_numpy(np.array(cached.steps)), cached.values.shape[1], device)
        self._present = _PerRecord(torch.from_numpy(present), device)
        times = None if cached.times is None else torch.from_numpy(cached.times.copy())[None]
        self._time = None if times is None else _PerRecord(times, device)

    def hold(self) -> Callable[[Rows], Features]:
        """Put everything on the device; what comes back gathers from there."""
        shape = self._cached.values.shape
        values = torch.empty(shape, device=self._device)
        chunk = max(1, CHUNK_BYTES // max(1, 4 * math.prod(shape[1:])))
        for start in range(0, shape[0], chunk):
            stop = min(start + chunk, shape[0])
            values[start:stop] = self._values(torch.arange(start, stop, device=self._device))
        mask, present, time = self._mask, self._present, self._time

        def gather(rows: Rows) -> Features:
            times = None if time is None else time(rows)
            return Features(values.index_select(0, rows), mask(rows), present(rows), times)

        return gather

    def read(self, rows: Rows) -> Features:
        """Read some records from the map."""
        time = None if self._time is None else self._time(rows)
        return Features(self._values(rows), self._mask(rows), self._present(rows), time)

    def _values(self, rows: Rows) -> Tensor:
        values = torch.from_numpy(np.asarray(self._cached.values[rows.cpu().numpy()])).to(self._device)
        if self._statistics is None:
            return values
        shift, scale = self._statistics(rows)
        values = (values - shift[:, None]) / scale[:, None]
        return torch.where(self._mask(rows)[:, :, None, None], values, torch.zeros_like(values))


class _WindowColumn:
    """Windows of one sensor, their statistics beside them."""

    def __init__(self, name: str, study: Study, given: LoaderInput, device: torch.device) -> None:
        assert isinstance(given.source, Modality)
        sensor = study.sensor(given.sensor or name)
        self._windows = Windows(name, sensor, given.source, given.alignment)
        self._device, self._count = device, len(sensor.offset)
        self.nbytes = self._count * self._windows.nbytes
        self._present = _PerRecord(torch.from_numpy(sensor.present), device)
        self._statistics = None if given.statistics is None else _Statistics(given.statistics, device)

    def hold(self) -> Callable[[Rows], Window]:
        """Put everything on the device; what comes back gathers from there."""
        kind = torch.from_numpy(np.zeros(0, self._windows.dtype)).dtype
        values = torch.empty((self._count, *self._windows.shape), dtype=kind, device=self._device)
        lengths = torch.empty(self._count, dtype=torch.int64, device=self._device)
        chunk = max(1, CHUNK_BYTES // max(1, self._windows.nbytes))
        for start in range(0, self._count, chunk):
            stop = min(start + chunk, self._count)
            values[start:stop], lengths[start:stop] = self._read(np.arange(start, stop))
        length = _PerRecord(lengths, self._device)

        def gather(rows: Rows) -> Window:
            return self._window(values.index_select(0, rows), length(rows), rows)

        return gather

    def read(self, rows: Rows) -> Window:
        """Read some records from the map."""
        return self._window(*self._read(rows.cpu().numpy()), rows)

    def _read(self, rows: Int[np.ndarray, " row"]) -> tuple[Tensor, Tensor]:
        values, length = self._windows.read(rows)
        return torch.from_numpy(values).to(self._device), torch.from_numpy(length).to(self._device)

    def _window(self, values: Tensor, length: Tensor, rows: Rows) -> Window:
        shift, scale = (None, None) if self._statistics is None else self._statistics(rows)
        return Window(values, length, self._present(rows), shift, scale)


class _Statistics:
    """Statistics on a device, one row a group."""

    def __init__(self, statistics: Statistics, device: torch.device) -> None:
        self._shift = torch.from_numpy(statistics.group_shift).to(device)
        self._scale = torch.from_numpy(statistics.group_scale).to(device)
        self._group = torch.from_numpy(statistics.group).to(device)

    def __call__(self, rows: Rows) -> tuple[Tensor, Tensor]:
        group = self._group.index_select(0, rows)
        return self._shift.index_select(0, group), self._scale.index_select(0, group)


class _PerRecord:
    """A small tensor with one row a record. Where all rows are equal it is not gathered but expanded.

    The last expansion is kept, since batches are mostly of one size; being expanded, it refuses to be written to.
    """

    def __init__(self, values: Tensor, device: torch.device) -> None:
        self._same = bool((values == values[:1]).all())
        self._values = (values[:1] if self._same else values).to(device)
        self._last: tuple[int, Tensor] = (-1, self._values)

    def __call__(self, rows: Rows) -> Tensor:
        if not self._same:
            return self._values.index_select(0, rows)
        size, last = rows.shape[0], self._last
        if last[0] != size:
            last = self._last = (size, self._values.expand(size, *self._values.shape[1:]))
        return last[1]


def _step_mask(steps: Tensor, width: int, device: torch.device) -> Callable[[Rows], Tensor]:
    """Which steps of some records are real: the first ones."""
    arange = torch.arange(width)
    if (steps == steps[:1]).all():
        return _PerRecord((arange < steps[:1])[None], device)
    steps, arange = steps.to(device), arange.to(device)
    return lambda rows: arange < steps.index_select(0, rows)[:, None]


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device: what CUDA says, else the system's, within its container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [_available_memory()]
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            free.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass
    return max(0, min(free))


def _available_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # macOS and other systems without /proc: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError, AttributeError):
        return 2**31
