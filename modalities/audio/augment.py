"""Augmentations of sound: of its spectrogram, which may be cached, and of its samples, which then may not."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import FeatureAugmentation, WindowAugmentation, choose, normal, uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window, valid
from fusionkit.core.registry import augment

Probability = Annotated[float, Field(ge=0, le=1, description="of changing a record")]


@augment.register("spec_augment")
class SpecAugment(FeatureAugmentation):
    r"""Hide random stripes of a spectrogram: bands of frequency and stretches of time.

    Each frequency mask hides :math:`f \sim U\{0..F\}` bands from :math:`f_0 \sim U\{0..\nu - f\}` of :math:`\nu`;
    each time mask hides :math:`t \sim U\{0..\min(T, p\tau)\}` steps from :math:`t_0 \sim U\{0..\tau - t\}` of a record's
    :math:`\tau` real ones. So at most ``time_masks * min(T, p tau)`` steps are hidden: of 100 steps with two masks,
    :math:`T = 100` and :math:`p = 0.2`, at most 40. What is hidden takes the record's mean, which is 0 for
    standardised features. With ``warp``, time is bent first (see `bend`); the paper found that to be worth least.

    Args:
        warp: :math:`W`, most steps that a moment is moved by; 0 for none.
        frequency: :math:`F`, most bands of one mask.
        frequency_masks: how many, 0 for none.
        time: :math:`T`, most steps of one mask.
        time_fraction: :math:`p`, most of a record that one mask hides.
        time_masks: how many, 0 for none.
        probability: of changing a record at all.

    Reference:
        Park et al., SpecAugment, Interspeech 2019.
    """

    def __init__(
        self,
        *,
        warp: Annotated[int, Field(ge=0, description="most steps that a moment is moved by")] = 0,
        frequency: Annotated[int, Field(ge=0, description="most bands that one mask hides")] = 8,
        frequency_masks: Annotated[int, Field(ge=0, description="frequency masks")] = 2,
        time: Annotated[int, Field(ge=0, description="most steps that one mask hides")] = 100,
        time_fraction: Annotated[float, Field(ge=0, le=1, description="most of a record that one mask hides")] = 0.2,
        time_masks: Annotated[int, Field(ge=0, description="time masks")] = 2,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.warp = warp
        self.frequency = frequency
        self.frequency_masks = frequency_masks
        self.time = time
        self.time_fraction = time_fraction
        self.time_masks = time_masks
        self.probability = probability

    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Bend and hide stripes of one batch."""
        values = stream.values
        batch, steps, bands = values.shape[:3]
        real = valid(stream)
        lengths = real.sum(1)
        if self.warp:
            chosen = choose(batch, self.probability, values, generator)
            bent = _bent(values, real, bend(lengths, self.warp, steps, generator))
            values = torch.where(chosen[:, None, None, None], bent, values)
        longest = torch.floor(self.time_fraction * lengths).clamp_max(self.time)
        every = torch.full_like(lengths, bands)
        hidden = torch.zeros((batch, steps, bands), dtype=torch.bool, device=values.device)
        for _ in range(self.frequency_masks):
            stripe = stripes(every, torch.full_like(longest, min(self.frequency, bands)), bands, generator)
            hidden = hidden | stripe[:, None, :]
        rank = real.cumsum(1) - 1  # which real step of its record a step is
        for _ in range(self.time_masks):
            stripe = stripes(lengths, longest, steps, generator)
            hidden = hidden | stripe.gather(1, rank.clamp_min(0))[:, :, None]
        hidden = hidden & choose(batch, self.probability, values, generator)[:, None, None] & real[:, :, None]
        inside = torch.where(real[:, :, None, None], values, torch.zeros_like(values))
        count = (lengths * bands * values.shape[3]).clamp_min(1)
        mean = inside.sum((1, 2, 3)) / count
        return stream._replace(values=torch.where(hidden[..., None], mean[:, None, None, None], values))


@augment.register("band_warp")
class BandWarp(FeatureAugmentation):
    r"""Stretch and move a spectrogram along its bands, as another throat would.

    Band :math:`b` takes the value at :math:`\alpha b + s`, between two bands by linear interpolation, beyond the
    outermost by repeating it; :math:`\alpha \sim U[1 - a, 1 + a]` and :math:`s \sim U[-m, m]`, one of each a record. On
    recordings of few speakers this is what makes a model hear words instead of voices. Bands are those of the mel
    scale, where the paper warps hertz; the move is ours.

    Args:
        stretch: :math:`a`, largest relative change of width.
        move: :math:`m`, largest move, in bands.
        probability: of changing a record at all.

    Reference:
        Jaitly and Hinton, Vocal Tract Length Perturbation, ICML workshop 2013.
    """

    def __init__(
        self,
        *,
        stretch: Annotated[float, Field(ge=0, lt=1, description="largest relative change of width")] = 0.1,
        move: Annotated[float, Field(ge=0, description="largest move, in bands")] = 2.0,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.stretch = stretch
        self.move = move
        self.probability = probability

    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Warp one batch; padding stays as it is."""
        values = stream.values
        batch, bands = values.shape[0], values.shape[2]
        draw = 2 * uniform((2, batch), values, generator) - 1
        draw = draw * choose(batch, self.probability, values, generator)
        place = torch.arange(bands, device=values.device)
        source = place * (1 + self.stretch * draw[0, :, None]) + self.move * draw[1, :, None]
        source = source.clamp(0, bands - 1)
        below = source.floor().clamp_max(max(bands - 2, 0))
        share = (source - below).to(values.dtype)[:, None, :, None]
        index = below.long()[:, None, :, None].expand(values.shape)
        low, high = values.gather(2, index), values.gather(2, (index + 1).clamp_max(bands - 1))
        warped = torch.lerp(low, high, share.expand(values.shape))
        return stream._replace(values=torch.where(valid(stream)[..., None, None], warped, values))


def bend(
    length: Int[Tensor, " batch"], warp: int, steps: int, generator: torch.Generator | None
) -> Float[Tensor, "batch {steps}"]:
    r"""Where each step of a bent record comes from: a moment :math:`w_0` is moved by :math:`w`, both ends stay.

    :math:`w_0 \sim U[W, \tau - 1 - W]` and :math:`w \sim U[-W, W]`, W no more than half of the record's :math:`\tau` steps;
    before and behind that moment time runs evenly (in the paper along a spline through these three points). If 2 of
    the steps 0 to 8 is moved to 4, steps 0, 2, 4, 6, 8 come from 0, 1, 2, 5, 8.

    Args:
        length: steps of each record.
        warp: W.
        steps: of the longest.
        generator: draws.
    """
    draw = uniform((2, len(length)), length, generator)
    last = (length - 1).clamp_min(0).to(draw.dtype)
    most = (last / 2).clamp_max(warp)
    moment = most + draw[0] * (last - 2 * most)
    return unbent(moment, moment + (2 * draw[1] - 1) * most, last, steps)


def unbent(
    moment: Float[Tensor, " batch"], moved: Float[Tensor, " batch"], last: Float[Tensor, " batch"], steps: int
) -> Float[Tensor, "batch {steps}"]:
    """Two lines through 0, the moment that was moved, and the last step; beyond it every step is itself."""
    place = torch.arange(steps, device=last.device, dtype=last.dtype).expand(len(last), -1)
    moment, moved, last = moment[:, None], moved[:, None], last[:, None]
    before = place * moment / moved.clamp_min(1e-6)
    behind = moment + (place - moved) * (last - moment) / (last - moved).clamp_min(1e-6)
    source = torch.where(place < moved, before, behind).clamp_min(0).minimum(last)
    return torch.where(place <= last, source, place)


def _bent(
    values: Float[Tensor, "batch time channel sub"],
    real: Bool[Tensor, "batch time"],
    source: Float[Tensor, "batch time"],
) -> Float[Tensor, "batch time channel sub"]:
    """Steps in between others, of those that are real; the others stay."""
    order = torch.argsort((~real).long(), dim=1, stable=True)  # the real steps first, in time
    most = values.shape[1] - 1
    below = source.floor().clamp_max(most)
    low, high = (order.gather(1, place.long().clamp_max(most)) for place in (below, below + 1))
    share = (source - below).to(values.dtype)[:, :, None, None]
    first, second = (
        values.gather(1, index[:, :, None, None].expand_as(values))
        for index in (low, torch.where(share[:, :, 0, 0] > 0, high, low))
    )
    mixed = torch.lerp(first, second, share.expand_as(values))
    rank = (real.cumsum(1) - 1).clamp_min(0)[:, :, None, None].expand_as(values)
    return torch.where(real[:, :, None, None], mixed.gather(1, rank), values)


def stripes(
    size: Int[Tensor, " batch"], longest: Tensor, width: int, generator: torch.Generator | None
) -> Bool[Tensor, "batch {width}"]:
    """One stripe a row: ``n ~ U{0..longest}`` of the first ``size`` places, from ``start ~ U{0..size - n}``."""
    draw = uniform((2, len(size)), size, generator)
    length = torch.floor(draw[0] * (longest + 1))
    start = torch.floor(draw[1] * (size - length + 1))
    place = torch.arange(width, device=size.device)
    return (place >= start[:, None]) & (place < (start + length)[:, None])


@augment.register("audio_gain")
class Gain(WindowAugmentation):
    """Make sound louder or softer by a factor of up to ``decibels`` either way; 6 dB is a factor of 1.995.

    Args:
        decibels: the largest change.
        probability: of changing a record.
    """

    axes: ClassVar[int] = 1

    def __init__(
        self,
        *,
        decibels: Annotated[float, Field(ge=0, description="largest change either way")] = 6.0,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.decibels = decibels
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch."""
        batch = len(stream.values)
        change = self.decibels * (2 * uniform((batch,), stream.values, generator) - 1)
        change = change * choose(batch, self.probability, stream.values, generator)
        return stream._replace(values=stream.values * (10 ** (change / 20)).to(stream.values.dtype)[:, None])


@augment.register("audio_shift")
class AudioShift(WindowAugmentation):
    """Move sound in time by up to ``most`` of its length either way; silence comes in, and the length stays.

    Args:
        most: the farthest, as a share of the real samples.
        probability: of changing a record.
    """

    axes: ClassVar[int] = 1

    def __init__(
        self,
        *,
        most: Annotated[float, Field(ge=0, le=1, description="farthest move, share of the record")] = 0.1,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Move one batch; padding stays as it is."""
        values, length = stream.values, stream.length[:, None]
        draw = 2 * uniform((len(values),), values, generator) - 1
        draw = draw * choose(len(values), self.probability, values, generator)
        place = torch.arange(values.shape[1], device=values.device)
        source = place - torch.round(draw[:, None] * self.most * length).long()
        moved = values.gather(1, source.clamp(0, values.shape[1] - 1))
        moved = torch.where((source >= 0) & (source < length), moved, torch.zeros_like(moved))
        return stream._replace(values=torch.where(place < length, moved, values))


@augment.register("audio_noise")
class AudioNoise(WindowAugmentation):
    """Add white noise at a signal-to-noise ratio drawn uniformly in decibels.

    Args:
        least: lowest ratio in decibels; at 0 the noise has the power of the record.
        most: highest ratio.
        probability: of changing a record.
    """

    axes: ClassVar[int] = 1

    def __init__(
        self,
        *,
        least: Annotated[float, Field(description="lowest signal-to-noise ratio, decibels")] = 10.0,
        most: Annotated[float, Field(description="highest signal-to-noise ratio, decibels")] = 40.0,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        if least > most:
            raise ConfigError(f"least must be no more than most, but {least:g} is more than {most:g}")
        self.least = least
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Add noise to one batch; padding stays as it is."""
        values = stream.values
        real = torch.arange(values.shape[1], device=values.device) < stream.length[:, None]
        power = torch.where(real, values, torch.zeros_like(values)).square().sum(1) / stream.length.clamp_min(1)
        ratio = self.least + (self.most - self.least) * uniform((len(values),), values, generator)
        spread = (power * 10 ** (-ratio / 10)).sqrt() * choose(len(values), self.probability, values, generator)
        noise = spread[:, None].to(values.dtype) * normal(tuple(values.shape), values, generator)
        return stream._replace(values=torch.where(real, values + noise, values))
