"""Streams as vectors: pooled under their masks, one a sensor, standardised by training records."""

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import DataError
from fusionkit.core.levels import Tokens, pool, valid
from fusionkit.core.processes import summed
from fusionkit.fusion.operation import TrainingBatch


class Vectors(NamedTuple):
    """Pooled streams of some records.

    ``values`` are by sensor, in the order of the operation's inputs, zero where it is absent; ``here`` says where a
    sensor has any real token; ``targets`` are those of the batches, joined.
    """

    values: list[Float[Tensor, "record width"]]
    here: Bool[Tensor, "record sensor"]
    targets: dict[str, Tensor]


def pool_streams(inputs: Mapping[str, Tokens], names: Iterable[str]) -> Vectors:
    """Pool one batch's streams."""
    streams = [inputs[name] for name in names]
    here = torch.stack([valid(stream).any(1) for stream in streams], 1)
    return Vectors([pool(stream) for stream in streams], here, {})


def pool_training(training_batches: Callable[[], Iterable[TrainingBatch]], names: Iterable[str]) -> Vectors:
    """Pool all training records in one pass; what is kept is a vector a sensor and record.

    Raises:
        DataError: no training record has one of the sensors.
    """
    names = list(names)
    parts, targets = [], []
    for batch in training_batches():
        parts.append(pool_streams(batch, names))
        targets.append(batch.targets)
    if not parts:
        raise DataError("fitting needs training records, but there are none")
    here = torch.cat([part.here for part in parts])
    for place, name in enumerate(names):
        if not bool(here[:, place].any()):
            raise DataError(f"fitting needs training records that have the sensor, but none has {name!r}")
    values = [torch.cat(blocks) for blocks in zip(*(part.values for part in parts), strict=True)]
    return Vectors(values, here, {task: torch.cat([some[task] for some in targets]) for task in targets[0]})


class SensorScale(nn.Module):
    r"""Standardise the vector of each sensor, so that none outweighs the others by its size or its width.

    :math:`(x - \mu) / (\sigma \sqrt{d})` with the training records' mean and spread per entry and the width d: on
    training records a sensor's vector has the mean square length 1. What does not vary keeps its scale. An absent
    sensor is zero. Of the training values 1 and 3 (mean 2, spread 1) in one entry, 3 becomes 1.

    The encoders before it go on learning after `fit`, and soon make numbers of another size. So every step of training
    moves mean and variance by a tenth towards those of its batch (of all processes), as batch normalisation does; what is computed goes by
    the numbers that are kept, so that no row hears of another. In evaluation nothing moves. That they move is our
    reconstruction; without it training diverged where untrained encoders make small numbers.

    Args:
        widths: width of each sensor's vector.
    """

    PACE: ClassVar[float] = 0.1

    mean: Float[Tensor, " total"]
    scale: Float[Tensor, " total"]

    def __init__(self, widths: Iterable[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.register_buffer("mean", torch.zeros(sum(self.widths)))
        self.register_buffer("scale", torch.cat([torch.full((width,), width**-0.5) for width in self.widths]))

    def fit(self, vectors: Vectors) -> None:
        """Take means and spreads over the records that have the sensor."""
        for mean, scale, values, here in zip(*self._by_sensor(), vectors.values, vectors.here.T, strict=True):
            seen = values[here].to(torch.promote_types(values.dtype, torch.float32))
            mean.copy_(seen.mean(0))
            spread = seen.std(0, correction=0)
            varies = spread > 1e-6 * seen.mean(0).abs() + 1e-12
            scale.copy_(torch.where(varies, spread, torch.ones_like(spread)).reciprocal() * len(mean) ** -0.5)

    def forward(self, vectors: Vectors) -> list[Float[Tensor, "batch _"]]:
        """Standardised blocks, zero where the sensor is absent."""
        if self.training and torch.is_grad_enabled():
            self._follow(vectors)
        blocks = []
        for mean, scale, values, here in zip(*self._by_sensor(), vectors.values, vectors.here.T, strict=True):
            block = (values - mean) * scale
            blocks.append(torch.where(here[:, None], block, torch.zeros_like(block)))
        return blocks

    @torch.no_grad()
    def _follow(self, vectors: Vectors) -> None:
        """Move towards the means and spreads of a batch, of all processes'; sensors that nobody has stay where they are."""
        sums = []
        for mean, _, values, here in zip(*self._by_sensor(), vectors.values, vectors.here.T, strict=True):
            off = torch.where(here[:, None], values - mean, torch.zeros_like(values)).to(mean.dtype)
            sums.append(torch.stack([off.sum(0), off.square().sum(0), here.sum().to(mean.dtype).expand_as(mean)]))
        first, second, count = summed(torch.cat(sums, 1))
        pace = self.PACE * (count > 0)
        first, second = first / count.clamp_min(1), second / count.clamp_min(1)
        moved = self.mean + pace * first
        spread = (second - 2 * pace * first.square() + (pace * first).square()).clamp_min(0)  # about the new mean
        width = torch.cat([torch.full_like(part, len(part)) for part in torch.split(self.scale, self.widths)])
        before = (self.scale.square() * width).reciprocal()
        varies = spread > (1e-6 * moved.abs() + 1e-12).square()
        variance = torch.where(varies, torch.lerp(before, spread, pace), before)
        # new tensors, for a step's earlier passes keep the old ones for their gradients
        self.mean, self.scale = moved, (variance * width).rsqrt()

    def _by_sensor(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return torch.split(self.mean, self.widths), torch.split(self.scale, self.widths)


def one_token(values: Float[Tensor, "batch dim"], inputs: Mapping[str, Tokens], here: Bool[Tensor, " batch"]) -> Tokens:
    """A vector as a stream of one token; zero and masked where no sensor has anything."""
    present = torch.stack([stream.present for stream in inputs.values()]).any(0)
    values = torch.where(here[:, None], values, torch.zeros_like(values))
    return Tokens(values[:, None], here[:, None], present)


def block_error(
    found: Float[Tensor, "batch total"],
    wanted: Float[Tensor, "batch total"],
    here: Bool[Tensor, "batch sensor"],
    widths: list[int],
) -> Float[Tensor, ""]:
    """Squared error of a reconstruction, summed over entries and averaged over the sensors that are there.

    Blocks (1, 0) and (3) against (0, 0) and (5) have the errors 1 and 4, so the mean 2.5; without the second, 1.
    """
    squared = [part.square().sum(1) for part in torch.split(found - wanted, widths, 1)]
    each = torch.stack(squared, 1).to(torch.promote_types(found.dtype, torch.float32))
    return torch.where(here, each, torch.zeros_like(each)).sum() / here.sum().clamp_min(1)


def minibatches(rows: int, size: int, generator: torch.Generator) -> Iterable[Tensor]:
    """Every row once, in random order, in parts of at most ``size``."""
    return torch.randperm(rows, generator=generator).tensor_split(max(1, -(-rows // size)))
