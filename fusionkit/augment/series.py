"""What augmentations of time series share: which samples are real, and a random stretch of them."""

from abc import ABC
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored

from .augmentation import WindowAugmentation, uniform

Probability = Annotated[float, Field(ge=0, le=1, description="share of samples that are changed")]


class SeriesAugmentation(WindowAugmentation, ABC):
    """An augmentation of windows ``(batch, *item, time)`` of a sensor that has time: EEG, sound, any signal.

    Raises:
        ConfigError: (`bind`) the sensor has no sampling rate.
    """

    _sample_rate: float | None = None

    def bind(self, stored: Stored) -> None:
        if stored.sample_rate is None:
            raise ConfigError(f"{self.kind} must be of a sensor with time, but this one has no sampling rate")
        self._sample_rate = stored.sample_rate

    @property
    def sample_rate(self) -> float:
        """Hertz of the windows.

        Raises:
            ConfigError: it is not bound to a sensor yet.
        """
        if self._sample_rate is None:
            raise ConfigError(f"{self.kind} must be bound to a sensor first, for its sampling rate")
        return self._sample_rate


def real_samples(stream: Window) -> Bool[Tensor, "batch time"]:
    """Which samples of each row are no padding."""
    return torch.arange(stream.values.shape[-1], device=stream.values.device) < stream.length[:, None]


def centre(
    stream: Window,
) -> tuple[Float[Tensor, "batch *item time"], Float[Tensor, "batch *item 1"]]:
    """The real samples without their channel's mean (0 in the padding), and that mean."""
    real = across(real_samples(stream), stream.values)
    inside = torch.where(real, stream.values, torch.zeros_like(stream.values))
    mean = inside.sum(-1, keepdim=True) / across(stream.length.clamp_min(1), inside)
    return torch.where(real, inside - mean, torch.zeros_like(inside)), mean


def across(rows: Tensor, values: Tensor) -> Tensor:
    """``(batch,)`` or ``(batch, time)`` with axes of width 1 between, so that it meets ``(batch, *item, time)``."""
    return rows.reshape(len(rows), *(1,) * (values.ndim - 2), -1)


def take(
    values: Float[Tensor, "batch *item time"], source: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch *item time"]:
    """Sample ``source[i, n]`` of row ``i`` at every step ``n``."""
    return values.gather(-1, across(source, values).expand(values.shape))


def stretch(
    shortest: Int[Tensor, " batch"],
    longest: Int[Tensor, " batch"],
    length: Int[Tensor, " batch"],
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Where a random stretch of the ``length`` real samples starts, and how many samples it has.

    The count is one of ``shortest`` to ``longest``, the start one of 0 to ``length - count``, all equally likely.
    """
    draw = uniform((2, len(length)), length, generator)
    count = shortest + (draw[0] * (longest - shortest + 1)).long().minimum(longest - shortest)
    start = (draw[1] * (length - count + 1)).long().minimum(length - count)
    return start, count
