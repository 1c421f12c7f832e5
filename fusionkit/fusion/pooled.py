"""What operations share that take a vector a sensor: pooling under masks, which sensor is there, one token out."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens, any_present, scrub
from fusionkit.fusion.align import align_tokens, bin_times
from fusionkit.fusion.operation import IntermediateFusion


class VectorFusion(IntermediateFusion):
    """Join one vector a sensor into one vector.

    Each stream is averaged under its mask: over the whole window, which gives one token without time, or with more
    than one of ``steps`` in every bin of the window by itself, which gives a token a bin. A sensor that has nothing
    real there is a vector of zeros, and ``join`` is told so.

    Args:
        inputs: width of each token stream; one that is not ``dim`` wide is projected first.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.
        steps: equal bins of the window.

    Raises:
        ConfigError: there are fewer inputs than ``least``.
    """

    least: ClassVar[int] = 1

    def __init__(self, inputs: Mapping[str, int], dim: int, duration: float | None, steps: int = 1) -> None:
        super().__init__(inputs, dim, duration)
        if len(self.inputs) < self.least:
            raise ConfigError(f"needs at least {self.least} inputs, but has {list(self.inputs)}")
        self.steps = 1 if duration is None else steps
        self.project = nn.ModuleList(
            nn.Identity() if width == dim else nn.Linear(width, dim, bias=False) for width in self.inputs.values()
        )

    @abstractmethod
    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row, which are zeros where they are not ``real``; it answers any row."""

    def vectors(
        self, inputs: Mapping[str, Tokens]
    ) -> tuple[Float[Tensor, "branch row dim"], Bool[Tensor, "branch row"]]:
        """One vector a sensor and row, and whether anything is real in it; the rows of a window lie together."""
        if self.steps == 1:
            means, real = _means([inputs[name] for name in self.inputs])
            return torch.stack([project(mean) for project, mean in zip(self.project, means, strict=True)]), real
        streams = {}
        for project, name in zip(self.project, self.inputs, strict=True):
            clean = scrub(inputs[name])
            streams[name] = clean._replace(values=project(clean.values))
        values, real = align_tokens(streams, self.steps, self.duration)
        return values.permute(2, 0, 1, 3).flatten(1, 2), real.permute(2, 0, 1).flatten(1)

    def tokens(
        self, rows: Float[Tensor, "row dim"], real: Bool[Tensor, " row"], present: Bool[Tensor, " batch"]
    ) -> Tokens:
        """Rows as a stream; zeros where they are not real."""
        rows = torch.where(real[:, None], rows, torch.zeros_like(rows)).reshape(-1, self.steps, self.dim)
        time = None if self.steps == 1 else bin_times(self.steps, self.duration, rows)
        return Tokens(rows, real.reshape(-1, self.steps), present, time)

    def present(self, inputs: Mapping[str, Tokens]) -> Bool[Tensor, " batch"]:
        """Whether a sample has any of the sensors."""
        return any_present(inputs[name] for name in self.inputs)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens | Fused:
        """Join one batch; a token is real where any sensor has something in it."""
        vectors, real = self.vectors(inputs)
        return self.tokens(self.join(vectors, real), real.any(0), self.present(inputs))


def _means(
    streams: Sequence[Tokens],
) -> tuple[Sequence[Float[Tensor, "batch _"]], Bool[Tensor, "branch batch"]]:
    """Mean of each stream's real tokens, zeros where there are none, and whether there are any.

    What `align_tokens` makes of scrubbed streams in a single bin, for less; streams of one shape are averaged at once.
    """
    if not torch.compiler.is_exporting() and len({tokens.values.shape for tokens in streams}) == 1:
        here = torch.stack([tokens.present for tokens in streams])
        real = torch.stack([tokens.mask for tokens in streams]) & here[..., None]
        values = torch.stack([tokens.values for tokens in streams])
        totals = torch.where(real[..., None], values, values.new_zeros(())).sum(2)
        count = real.sum(2)
        return (totals / count.clamp_min(1)[..., None].to(totals.dtype)).unbind(0), count > 0
    clean = [scrub(tokens) for tokens in streams]
    counts = [tokens.mask.sum(1) for tokens in clean]
    means = [
        tokens.values.sum(1) / count.clamp_min(1)[:, None].to(tokens.values.dtype)
        for tokens, count in zip(clean, counts, strict=True)
    ]
    return means, torch.stack(counts) > 0


class ConcatLinear(VectorFusion):
    r"""Vectors side by side, an absent sensor's as zeros, through one linear map: :math:`y = W [h_1; \dots; h_M] + b`."""

    def __init__(self, inputs: Mapping[str, int], dim: int, duration: float | None) -> None:
        super().__init__(inputs, dim, duration)
        self.out = nn.Linear(len(self.inputs) * dim, dim)

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        joined: Tensor = self.out(vectors.transpose(0, 1).flatten(1))
        return joined


def one_at_least(tokens: Tokens, others: Bool[Tensor, " batch"], duration: float | None) -> Tokens:
    """Let the first token count, at the middle of the window, where none is real but the ``others`` have something.

    What is not real after that is zeros.
    """
    alone = (others & ~tokens.mask.any(1))[:, None]
    mask = tokens.mask | (alone & (torch.arange(tokens.mask.shape[1], device=alone.device) == 0))
    values = torch.where(mask[..., None], tokens.values, torch.zeros_like(tokens.values))
    time = tokens.time
    if time is not None and duration is not None:
        time = torch.where(alone, torch.full_like(time, duration / 2), time)
    return Tokens(values, mask, tokens.present, time)
