"""Records that a generator made: training sees them behind the study's own, and nothing else ever does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window
from fusionkit.core.modality import Array


@dataclass(frozen=True, eq=False)
class Generated:
    """New records of one sensor; they have no other sensor, and labels of some tasks.

    Attributes:
        sensor: whose.
        level: what ``values`` are: features as a `Loader` yields them, or raw windows; all steps are real.
        values: float32 ``(record, *item)``.
        targets: per task ``(record,)``; the other tasks have no label.
    """

    sensor: str
    level: Literal["features", "window"]
    values: Float[Tensor, "record *item"]
    targets: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ids(self) -> tuple[str, ...]:
        """What messages call them: ``generated/eeg/17``."""
        return tuple(f"generated/{self.sensor}/{number}" for number in range(len(self)))


class Appended:
    """Read one sensor of rows of a study, and of generated rows behind them.

    A generated row of another sensor has zeros and is absent. Nothing is copied between host and device.

    Args:
        read: reads rows of the study.
        count: how many records the study has.
        first: row of the first record of ``own``.
        own: the sensor's generated records; None where there are none.
        device: where they are held.

    Raises:
        ConfigError: the sensor is loaded at another level.
    """

    def __init__(
        self,
        read: Callable[[Int[Tensor, " batch"]], Features | Window],
        count: int,
        first: int,
        own: Generated | None,
        device: torch.device,
    ) -> None:
        self._read, self._count, self._first = read, count, first
        self._own = None if own is None else own.values.to(device)
        self._level = None if own is None else own.level
        self._name = "" if own is None else own.sensor

    def __call__(self, rows: Int[Tensor, " batch"]) -> Features | Window:
        """Some records, in the order of ``rows``."""
        real = rows < self._count
        stream: Features | Window = self._read(torch.where(real, rows, 0))
        values = torch.where(_as(real, stream.values), stream.values, torch.zeros_like(stream.values))
        present = stream.present & real
        own = torch.zeros_like(real)
        if self._own is not None:
            if (self._level == "features") != isinstance(stream, Features):
                loaded = "features" if isinstance(stream, Features) else "windows"
                raise ConfigError(f"generated records of {self._name} must be {loaded}, but are {self._level}")
            place = rows - self._first
            own = (place >= 0) & (place < len(self._own))
            made = self._own.index_select(0, place.clamp(0, len(self._own) - 1).to(self._own.device))
            values = torch.where(_as(own, values), made.to(values.device, values.dtype), values)
            present = present | own
        if isinstance(stream, Features):
            return Features(values, (stream.mask & real[:, None]) | own[:, None], present, stream.time)
        full = torch.full_like(stream.length, stream.values.shape[-1])
        length = torch.where(own, full, torch.where(real, stream.length, 0))
        return stream._replace(values=values, length=length, present=present)


def _as(rows: Tensor, values: Tensor) -> Tensor:
    """A mask of rows in the axes of their values."""
    return rows.reshape(-1, *(1,) * (values.ndim - 1))
