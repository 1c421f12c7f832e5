"""Cut signals into steps of equal length, the same way in every front end."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusionkit.core.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Frames:
    """Steps of ``samples`` samples, one every ``hop`` samples; what is left over at the end is not used.

    Ten samples in frames of 4 every 3 make 3 steps: 0-3, 3-6 and 6-9.

    Attributes:
        samples: samples in one step.
        hop: samples from one step to the next.
        sample_rate: hertz.
    """

    samples: int
    hop: int
    sample_rate: float

    @classmethod
    def of_seconds(cls, window: float, step: float | None, sample_rate: float, longest: int) -> "Frames":
        """Frames of ``window`` seconds every ``step`` seconds (None: end to end), to the nearest sample.

        Raises:
            ConfigError: a frame is longer than the longest record, or a step is shorter than a sample.
        """
        samples = round(window * sample_rate)
        hop = samples if step is None else round(step * sample_rate)
        if samples < 1 or hop < 1:
            raise ConfigError(
                f"window and step must be at least one sample, but got {window} s and {step} s at {sample_rate:g} Hz"
            )
        if samples > longest:
            raise ConfigError(
                f"features.window must fit into a record, but {window:g} s is longer than the longest record, "
                f"{longest / sample_rate:g} s"
            )
        return cls(samples, hop, sample_rate)

    def cut(
        self, values: Float[Tensor, "batch channel *rest time"]
    ) -> Float[Tensor, "batch channel *rest step sample"]:
        """Frames of every channel; exports with free batch and time (of two steps or more).

        A view of the values, which must not be written to; in a graph one gather, for a view of free size exports not.

        Raises:
            ShapeError: the windows are shorter than one frame.
        """
        time = values.shape[-1]
        if time < self.samples:
            raise ShapeError(f"a window must hold a frame of {self.samples} samples, but it has {time}")
        if not torch.compiler.is_compiling():
            return values.unfold(-1, self.samples, self.hop)
        steps = (time - self.samples) // self.hop + 1
        start = torch.arange(steps, device=values.device) * self.hop
        index = start[:, None] + torch.arange(self.samples, device=values.device)
        return values[..., index]

    def mask(
        self, length: Int[Tensor, " batch"], frames: Float[Tensor, "batch channel step sample"]
    ) -> Bool[Tensor, "batch step"]:
        """Which of the ``frames`` that were cut lie wholly inside the real ``length`` samples."""
        end = torch.arange(frames.shape[2], device=length.device) * self.hop + self.samples
        return end <= length[:, None]

    def times(self, steps: int) -> Float[Tensor, " step"]:
        """Centre of every step in seconds."""
        return (torch.arange(steps) * self.hop + self.samples / 2) / self.sample_rate


def zero_padding(
    values: Float[Tensor, "batch channel *rest time"], length: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channel *rest time"]:
    """Put zeros where nothing was recorded, so that NaN there goes no further."""
    real = torch.arange(values.shape[-1], device=values.device) < length[:, None]
    real = real[(slice(None), *[None] * (values.ndim - 2))]
    return torch.where(real, values, torch.zeros_like(values))
