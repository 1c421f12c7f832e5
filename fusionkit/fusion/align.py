"""One clock for streams of different length: equal bins of the window, averaged under masks."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.core.errors import ShapeError
from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub


def centres(steps: int, duration: float, like: Tensor) -> Float[Tensor, " {steps}"]:
    """Middles of ``steps`` equal bins of ``[0, duration]``: four bins of 2 s lie at 0.25, 0.75, 1.25 and 1.75."""
    return (torch.arange(steps, device=like.device, dtype=torch.float32) + 0.5) * (duration / steps)


def bin_times(steps: int, duration: float | None, like: Float[Tensor, "batch *rest"]) -> Tensor | None:
    """The `centres` for every row of ``like``; None without a clock."""
    return None if duration is None else centres(steps, duration, like).expand(like.shape[0], -1)


def membership(time: Float[Tensor, "batch token"], steps: int, duration: float) -> Bool[Tensor, "batch token {steps}"]:
    """Which bin each time falls in, by comparison with the bins' edges.

    A time on an edge belongs to the later bin (edges lie a ten-thousandth of a bin early, so that rounding
    does not decide); what lies outside the window belongs to its first or last bin.
    """
    edge = (torch.arange(1, steps, device=time.device, dtype=time.dtype) - 1e-4) * (duration / steps)
    lower = torch.nn.functional.pad(edge, (1, 0), value=-torch.inf)
    upper = torch.nn.functional.pad(edge, (0, 1), value=torch.inf)
    return (time[..., None] >= lower) & (time[..., None] < upper)


def align(
    values: Float[Tensor, "batch token width"],
    mask: Bool[Tensor, "batch token"],
    time: Float[Tensor, "batch token"] | None,
    steps: int,
    duration: float | None,
) -> tuple[Float[Tensor, "batch {steps} width"], Bool[Tensor, "batch {steps}"]]:
    """Bring one scrubbed stream onto the clock.

    A stream with time is averaged into the bins; one without is averaged over all its steps and repeated in
    every bin. A bin that nothing real falls in is zero and masked. Values 1, 3, 8 at 0.1, 0.4 and 0.9 s of one
    second, in two bins, become 2 and 8.

    Raises:
        ShapeError: the stream has times but the clock has no duration.
    """
    if time is None:
        weight = mask[..., None].to(values.dtype)
        mean = (values * weight).sum(1) / weight.sum(1).clamp_min(1)
        return mean[:, None].expand(-1, steps, -1), mask.any(1, keepdim=True).expand(-1, steps)
    if duration is None:
        raise ShapeError("streams with time need the duration of the longest window, but it is None")
    weight = (membership(time, steps, duration) & mask[..., None]).to(values.dtype)
    count = weight.sum(1)
    return weight.transpose(1, 2) @ values / count.clamp_min(1)[..., None], count > 0


def align_tokens(
    inputs: Mapping[str, Tokens], steps: int, duration: float | None
) -> tuple[Float[Tensor, "batch {steps} branch dim"], Bool[Tensor, "batch {steps} branch"]]:
    """Bring token streams of one width onto one clock, in the order of ``inputs``.

    Args:
        inputs: streams of one width; absent and padded values may be anything, NaN too.
        steps: how many bins.
        duration: length of the window in seconds; None where no stream has time.
    """
    clean = [scrub(tokens) for tokens in inputs.values()]
    pairs = [align(tokens.values, tokens.mask, tokens.time, steps, duration) for tokens in clean]
    return torch.stack([values for values, _ in pairs], 2), torch.stack([mask for _, mask in pairs], 2)


def aligned_width(shape: FeatureShape) -> int:
    """Numbers per bin that `align_features` makes of a stream: a fixed count of untimed steps is flattened."""
    return shape.width if shape.timed or shape.steps is None else shape.steps * shape.width


def align_features(
    inputs: Mapping[str, Features], shapes: Mapping[str, FeatureShape], steps: int, duration: float | None
) -> tuple[list[Float[Tensor, "batch {steps} _"]], Bool[Tensor, "batch {steps} branch"]]:
    """Bring feature streams onto one clock, in the order of ``shapes``; each keeps its own width.

    Channels and subchannels become one axis. Untimed steps whose count is fixed (patches of an image) go into
    the width too, so that their order in space is kept; those whose count varies (tokens of a sentence) are
    averaged.

    Args:
        inputs: streams; absent and padded values may be anything, NaN too.
        shapes: what is known of each.
        steps: how many bins.
        duration: length of the window in seconds; None where no stream has time.
    """
    blocks, masks = [], []
    for name, shape in shapes.items():
        clean = scrub(inputs[name])
        values, mask = clean.values.flatten(2), clean.mask
        if not shape.timed and shape.steps is not None:
            values, mask = values.reshape(-1, 1, shape.steps * shape.width), mask.any(1, keepdim=True)
        block, real = align(values, mask, clean.time if shape.timed else None, steps, duration)
        blocks.append(block)
        masks.append(real)
    return blocks, torch.stack(masks, 2)
