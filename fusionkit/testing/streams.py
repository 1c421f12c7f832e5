"""Made inputs of every level, and what the checks do to them: take rows, hide, fill, lengthen, cast."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from fusionkit.core.levels import Decision, Features, FeatureShape, Tokens, Window, WindowShape


class Scored(NamedTuple):
    """Decisions and what is right, for a loss; both are always there."""

    values: Float[Tensor, "batch *outcome"]
    target: Shaped[Tensor, "batch *outcome"]
    present: Bool[Tensor, " batch"]


Stream = Features | Tokens | Window | Decision | Scored
Streams = Mapping[str, Stream]


def make_features(
    shape: FeatureShape, rows: int, generator: torch.Generator, steps: int = 6, duration: float = 3.0
) -> Features:
    """Features of a sensor that every row has; rows are real for different lengths unless their number is fixed."""
    steps = shape.steps or steps
    values = torch.randn(rows, steps, shape.channel, shape.subchannel, generator=generator)
    mask = ragged(rows, steps) if shape.steps is None else torch.ones(rows, steps, dtype=torch.bool)
    return Features(values, mask, everywhere(rows), clock(rows, steps, duration) if shape.timed else None)


def make_tokens(
    dim: int, rows: int, generator: torch.Generator, *, steps: int = 6, timed: bool = True, duration: float = 3.0
) -> Tokens:
    """Tokens of a sensor that every row has; rows differ in length, and one has a hole."""
    mask = ragged(rows, steps)
    if steps > 2 and rows > 1:
        mask[1, 1] = False
    values = torch.randn(rows, steps, dim, generator=generator)
    return Tokens(values, mask, everywhere(rows), clock(rows, steps, duration) if timed else None)


def make_window(shape: tuple[int, ...], rows: int, generator: torch.Generator) -> Window:
    """Windows of a sensor that every row has; an image is whole, others have different lengths; volts are microvolts."""
    values = torch.randn(rows, *shape, generator=generator)
    length = torch.full((rows,), shape[-1])
    if is_image(values):
        values = values.sigmoid()
    else:
        length = length - torch.arange(rows) % 3 * (shape[-1] // 8)
    if isinstance(shape, WindowShape) and shape.unit == "V":
        values = 2e-5 * values
    return Window(values, length, everywhere(rows))


def is_image(values: Shaped[Tensor, "batch *rest"]) -> bool:
    """Whether windows are ``(batch, 3, height, width)``; made signals of four axes have not three channels."""
    return values.ndim == 4 and values.shape[1] == 3


def make_log_probabilities(outcome: tuple[int, ...], rows: int, generator: torch.Generator) -> Decision:
    """A branch's normalised log-probabilities."""
    return Decision(torch.randn(rows, *outcome, generator=generator).log_softmax(-1), everywhere(rows))


def make_values(rows: int, generator: torch.Generator) -> Decision:
    """A branch's answers to a regression."""
    return Decision(torch.randn(rows, 1, generator=generator), everywhere(rows))


def everywhere(rows: int) -> Bool[Tensor, " {rows}"]:
    """Present in every row."""
    return torch.ones(rows, dtype=torch.bool)


def ragged(rows: int, steps: int) -> Bool[Tensor, "{rows} {steps}"]:
    """A mask whose rows are real for all steps, one fewer, two fewer, all again ... but at least one."""
    count = (steps - torch.arange(rows) % 3).clamp_min(1)
    return torch.arange(steps) < count[:, None]


def clock(rows: int, steps: int, duration: float) -> Float[Tensor, "{rows} {steps}"]:
    """Centres of equal steps."""
    return ((torch.arange(steps) + 0.5) * duration / steps).expand(rows, -1).clone()


def each(streams: Streams, change: Callable[[Stream], Stream]) -> dict[str, Stream]:
    """Change every stream alike."""
    return {name: change(stream) for name, stream in streams.items()}


def over_tensors(stream: Stream, change: Callable[[Tensor], Tensor]) -> Stream:
    """Change every tensor of a stream alike."""
    parts: list[Any] = [None if part is None else change(part) for part in stream]
    return type(stream)(*parts)


def take(streams: Streams, rows: Tensor) -> dict[str, Stream]:
    """Rows by number, in that order."""
    return each(streams, lambda stream: over_tensors(stream, lambda part: part[rows]))


def cast(streams: Streams, dtype: torch.dtype) -> dict[str, Stream]:
    """Values in another precision; times keep at least single precision, as they do under autocast."""

    def change(stream: Stream) -> Stream:
        if not stream.values.is_floating_point():
            return stream
        stream = stream._replace(values=stream.values.to(dtype))
        if isinstance(stream, Features | Tokens) and stream.time is not None and dtype == torch.float64:
            return stream._replace(time=stream.time.to(dtype))
        return stream

    return each(streams, change)


def real_mask(stream: Stream) -> Bool[Tensor, "batch *rest"]:
    """True where a value is real: of a present sensor and no padding; broadcasts against ``values``."""
    present = stream.present.reshape((-1,) + (1,) * (stream.values.ndim - 1))
    return present & _inside(stream)


def _inside(stream: Stream) -> Bool[Tensor, "batch *rest"]:
    values = stream.values
    if isinstance(stream, Features | Tokens):
        return stream.mask.reshape(stream.mask.shape + (1,) * (values.ndim - 2))
    if isinstance(stream, Window) and not is_image(values):  # images ignore lengths
        inside = torch.arange(values.shape[-1], device=values.device) < stream.length[:, None]
        return inside.reshape(inside.shape[:1] + (1,) * (values.ndim - 2) + inside.shape[1:])
    return torch.ones((), dtype=torch.bool, device=values.device).reshape((1,) * values.ndim)


def fill_hidden(stream: Stream, fill: str, padding: bool = True) -> Stream:
    """Put something else (``zeros``, ``noise`` or ``nan``) where nothing is real; an absent sensor's statistics too.

    Args:
        stream: any.
        fill: what to put.
        padding: whether padding is filled too, or absent sensors alone.
    """
    kept = real_mask(stream) if padding else stream.present.reshape((-1,) + (1,) * (stream.values.ndim - 1))
    stream = stream._replace(values=torch.where(kept, stream.values, _filler(stream.values, fill)))
    if isinstance(stream, Window) and stream.shift is not None and stream.scale is not None:
        here = stream.present[:, None, None]
        shift = torch.where(here, stream.shift, _filler(stream.shift, fill))
        scale = torch.where(here, stream.scale, _filler(stream.scale, fill))
        return stream._replace(shift=shift, scale=scale)
    return stream


def _filler(values: Tensor, fill: str) -> Tensor:
    if fill == "zeros":
        return torch.zeros_like(values)
    if not values.is_floating_point():
        return torch.ones_like(values)
    if fill == "nan":
        return torch.full_like(values, torch.nan)
    noise = 7.0 * torch.randn(values.shape, generator=torch.Generator().manual_seed(5))
    return noise.to(values.device, values.dtype)


def without(streams: Streams, name: str, rows: Tensor | None = None) -> dict[str, Stream]:
    """Say that ``rows`` (None: all) lack a sensor; values and masks stay as they are."""
    stream = streams[name]
    present = torch.zeros_like(stream.present) if rows is None else stream.present & ~rows
    return {**streams, name: stream._replace(present=present)}


def all_padding(stream: Stream, rows: Tensor) -> Stream:
    """Say that nothing of ``rows`` is real, though the sensor is there."""
    if isinstance(stream, Features | Tokens):
        return stream._replace(mask=stream.mask & ~rows[:, None])
    if isinstance(stream, Window):
        return stream._replace(length=torch.where(rows, torch.zeros_like(stream.length), stream.length))
    return stream


def lengthen(stream: Stream, extra: int) -> Stream:
    """Append padding filled with noise; times go on evenly."""
    if isinstance(stream, Decision | Scored) or (isinstance(stream, Window) and is_image(stream.values)):
        return stream
    axis = 1 if isinstance(stream, Features | Tokens) else -1
    shape = list(stream.values.shape)
    shape[axis] = extra
    tail = _filler(stream.values.new_zeros(shape), "noise")
    longer = stream._replace(values=torch.cat([stream.values, tail], axis))
    if isinstance(longer, Window):
        return longer
    mask = torch.cat([longer.mask, longer.mask.new_zeros(len(longer.mask), extra)], 1)
    time = longer.time
    if time is not None:
        step = time[:, 1:2] - time[:, :1] if time.shape[1] > 1 else torch.ones_like(time[:, :1])
        time = torch.cat([time, time[:, -1:] + step * torch.arange(1, extra + 1, device=time.device)], 1)
    return longer._replace(mask=mask, time=time)
