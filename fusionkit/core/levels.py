"""The currency of every level: windows, features and tokens, batch first, with their masks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


class Window(NamedTuple):
    """Raw samples of one sensor, and the statistics that its normalisation takes as inputs.

    ``values``: EEG and any time series ``(batch, channel, time)``, audio ``(batch, time)``, image
    ``(batch, 3, height, width)``, text ``(batch, token)`` integer ids; volts, seconds and hertz where they apply.
    ``length``: how many samples (or tokens) at the start of the last axis are real; images ignore it.
    ``present``: whether the sample has this sensor at all.
    ``shift``, ``scale``: statistics ``(batch, channel, subchannel)`` in feature units, or None.
    """

    values: Shaped[Tensor, "batch *rest"]
    length: Int[Tensor, " batch"]
    present: Bool[Tensor, " batch"]
    shift: Float[Tensor, "batch channel subchannel"] | None = None
    scale: Float[Tensor, "batch channel subchannel"] | None = None


class Features(NamedTuple):
    """What a front end makes of a window.

    A value that was not measured (an electrode that came off) is NaN; it becomes 0, the mean, once the features are
    normalised, and no statistics count it.

    ``time`` is the centre of each step in seconds from the start of the window, or None for what has no
    time (patches of an image, tokens of a sentence).
    """

    values: Float[Tensor, "batch time channel subchannel"]
    mask: Bool[Tensor, "batch time"]
    present: Bool[Tensor, " batch"]
    time: Float[Tensor, "batch time"] | None = None


class Tokens(NamedTuple):
    """What an encoder or an intermediate fusion makes: ``mask`` is False on padding."""

    values: Float[Tensor, "batch token dim"]
    mask: Bool[Tensor, "batch token"]
    present: Bool[Tensor, " batch"]
    time: Float[Tensor, "batch token"] | None = None


class Decision(NamedTuple):
    """What one branch decides about one task, and whether it had any sensor."""

    values: Float[Tensor, "batch *outcome"]
    present: Bool[Tensor, " batch"]


class Fused(NamedTuple):
    """Tokens, and what else a fusion operation wants learned.

    The engine adds ``auxiliary`` to the loss. ``streams``, as wide as the tokens, learn the tasks by themselves through
    heads of their own; the operation announces their names and weights (`IntermediateFusion.streams`).
    """

    tokens: Tokens
    auxiliary: Float[Tensor, ""]
    streams: Mapping[str, Tokens] = MappingProxyType({})


Stream = TypeVar("Stream", Features, Tokens)


@dataclass(frozen=True)
class FeatureShape:
    """What is known of a feature stream before any batch is seen.

    Attributes:
        channel: width of the channel axis (electrodes, mel bands, colours, embedding).
        subchannel: width of the subchannel axis (bands, 1, pixels of a patch, statistics).
        steps: number of steps when it is the same for every record (image patches), else None.
        timed: whether the steps have times; False for images, sentences and vectors.
        trains: whether the front end has parameters that train (text embeddings).
        places: where each channel sits, in metres (x to the right ear, y to the nose, z up); None where unknown.
    """

    channel: int
    subchannel: int
    steps: int | None = None
    timed: bool = True
    trains: bool = False
    places: tuple[tuple[float, float, float], ...] | None = None

    @property
    def width(self) -> int:
        """Numbers per step: ``channel * subchannel``."""
        return self.channel * self.subchannel


class WindowShape(tuple[int, ...]):
    """Shape of a sensor's longest window without batch, which also knows the clock and the unit of its samples.

    Attributes:
        sample_rate: hertz; None where there is no time, or nothing is known of it.
        unit: of the samples: ``V`` for EEG; empty where there is none.
    """

    sample_rate: float | None
    unit: str

    def __new__(cls, axes: Iterable[int], sample_rate: float | None = None, unit: str = "") -> Self:
        shape = super().__new__(cls, axes)
        shape.sample_rate, shape.unit = sample_rate, unit
        return shape


@dataclass
class Batch:
    """Some records on one device.

    ``inputs[name]`` is a `Window`, or `Features` where they were computed before.
    ``targets[task]`` is ``(batch,)`` float (class index or value; NaN where the label is missing) or, for
    multi-label tasks, ``(batch, label)`` with NaN rows where missing. ``index`` are the rows of the study.
    """

    inputs: dict[str, Window | Features]
    targets: dict[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Move every tensor; no copy where it is there already."""
        moved: dict[str, Window | Features] = {}
        for name, level in self.inputs.items():
            parts = [None if x is None else x.to(device, non_blocking=True) for x in level]
            moved[name] = type(level)(*parts)  # type: ignore[arg-type]
        targets = {task: x.to(device, non_blocking=True) for task, x in self.targets.items()}
        return Batch(moved, targets, None if self.index is None else self.index.to(device))


def valid(stream: Features | Tokens) -> Bool[Tensor, "batch step"]:
    """Steps that are real: not padding, and of a sensor that is present."""
    return stream.mask & stream.present[:, None]


def any_present(streams: Iterable[Features | Tokens]) -> Bool[Tensor, " batch"]:
    """Whether a sample has any of the sensors."""
    return torch.stack([stream.present for stream in streams]).any(0)


def scrub(stream: Stream) -> Stream:
    """Put zeros where nothing is real, so that absent values (NaN too) cannot reach any output.

    The mask that comes back is `valid`: padding and absence in one.
    """
    real = valid(stream)
    shape = real.shape + (1,) * (stream.values.ndim - 2)
    values = torch.where(real.reshape(shape), stream.values, stream.values.new_zeros(()))
    return stream._replace(values=values, mask=real)


def pool(tokens: Tokens) -> Float[Tensor, "batch dim"]:
    """Mean over the real tokens of each row; zeros where there are none.

    Two tokens 1 and 3 with mask (True, True) give 2; with mask (True, False), 1.
    """
    clean = scrub(tokens)
    weight = clean.mask.to(clean.values.dtype)[..., None]
    return (clean.values * weight).sum(1) / weight.sum(1).clamp_min(1)


def scrub_window(window: Window) -> Window:
    """Put zeros where the sensor is absent; its statistics become shift 0 and scale 1."""
    values = window.values
    here = window.present.reshape((-1,) + (1,) * (values.ndim - 1))
    values = torch.where(here, values, torch.zeros_like(values))
    shift, scale = window.shift, window.scale
    if shift is not None:
        shift = torch.where(window.present[:, None, None], shift, torch.zeros_like(shift))
    if scale is not None:
        scale = torch.where(window.present[:, None, None], scale, torch.ones_like(scale))
    return window._replace(values=values, shift=shift, scale=scale)
