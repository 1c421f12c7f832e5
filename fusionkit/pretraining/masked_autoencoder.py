"""Masked auto-encoder: most of a record is hidden, and predicted from the rest."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives
from fusionkit.pretraining.decoder import PlaceDecoder
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.places import choose_some, find_places, hidden_error

Layers = Annotated[int, Field(ge=1, description="blocks of the decoder")]
Heads = Annotated[int, Field(ge=1, description="attention heads of the decoder, a divisor of dim")]
Side = Annotated[int | None, Field(ge=1, description="side of a patch in pixels, or samples of a step, of raw windows")]


def draw_hidden(
    real: Bool[Tensor, "batch step"], channels: int, steps: float, share: float, span: int, generator: torch.Generator
) -> Bool[Tensor, "batch step channel"]:
    """Which places are hidden: whole steps in runs, and of the steps that stay whole channels.

    With 4 channels of which half are hidden, and half of 10 steps, 5 · 4 + 5 · 2 = 30 places of 40 are.

    Args:
        real: steps that are.
        channels: how many there are.
        steps: share of steps (patches) hidden.
        share: of channels hidden.
        span: steps of a run; runs start at multiples of it.
        generator: draws.
    """
    batch, length = real.shape
    runs = -(-length // span)
    padded = nn.functional.pad(real, (0, runs * span - length)).reshape(batch, runs, span).any(2)
    hidden = choose_some(padded, steps, generator).repeat_interleave(span, 1)[:, :length]
    every = torch.ones(batch, channels, dtype=torch.bool, device=real.device)
    return (hidden[:, :, None] | choose_some(every, share, generator)[:, None]) & real[:, :, None]


def normalise_patches(
    values: Float[Tensor, "batch step channel width"],
) -> Float[Tensor, "batch step channel width"]:
    r"""Every step as :math:`(x - \mu) / \sqrt{v + 10^{-6}}` of its own numbers, v without bias: 1, 2, 3 is -1, 0, 1."""
    variance, mean = torch.var_mean(values, (2, 3), keepdim=True)
    normal: Tensor = (values - mean) / (variance + 1e-6).sqrt()
    return normal


def mean_at_places(
    values: Float[Tensor, "batch step channel width"], real: Bool[Tensor, "batch step"]
) -> Float[Tensor, "batch step channel width"]:
    """For every record what a batch holds at each place on average: of 1 and 3 at one place, 2 and 2."""
    weight = real[:, :, None, None].to(values.dtype)
    mean = (values * weight).sum(0) / weight.sum(0).clamp_min(1)
    return mean.expand(values.shape)


@objectives.register("masked_autoencoder")
class MaskedAutoencoder(PretrainingObjective):
    """Hide most patches of an image, most steps of a spectrogram or EEG and some of its channels; predict them.

    An encoder of features does not see hidden steps at all: they are masked (the paper's encoder, which gets visible
    patches alone; ours gets the others as padding and saves no time). An encoder of windows sees the mean of the rest
    in their place, as in SimMIM. The decoder (see `PlaceDecoder`) is as wide as a token; the loss is the mean squared
    error of hidden places alone, in standard deviations of the training records (features) or of the record (windows).
    Steps of a signal resemble their neighbours: hide them in runs (``span``). A record of one step has nothing to hide
    but channels. No other augmentation is used. Of text nothing is learned: its vectors train, and would agree on zero;
    see `masked_language`.

    What is learned first is what stands at each place on average, and of a record nothing. The history says how far that
    is behind: ``unexplained_SENSOR`` is the loss over that of the batch's mean at each place. A transformer may stay near 1
    for hundreds of steps, and its pooled tokens are worth less than untrained ones until it leaves. On 3000 handwritten
    digits, a linear probe of two blocks over 49 patches fell from 0.76 to 0.64 in 190 steps, at 1.01; with half of the
    patches hidden and no dropout it was at 0.70 after 420 steps, at 0.92 and still rising. Over 16 patches, half hidden,
    it rose from 0.67 to 0.70 in 560. ``image_cnn`` gains at once: from 0.60 to 0.79 in 190. Hide less, train longer.

    Args:
        given: what the builder knows.
        steps: share of patches, or of steps, that are hidden; one stays. Audio-MAE has 0.8.
        channels: share of channels (mel bands, electrodes) that are hidden in all steps of a record; one stays.
        span: steps that are hidden in a row.
        side: of a patch, or of a step, where an encoder takes windows; None is 4 pixels (16 from 128 on), or a 32nd
            of a signal.
        normalise: predict each patch in its own mean and spread, as the paper's best models.
        layers: blocks of the decoder.
        heads: its attention heads; must divide ``dim``.

    Raises:
        ConfigError: no sensor has places to hide, or nothing is hidden.

    Reference:
        He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022; Huang et al., "Masked Autoencoders
        that Listen", NeurIPS 2022; Xie et al., "SimMIM", CVPR 2022.
    """

    learns_from: ClassVar[frozenset[str]] = frozenset({"image", "signal"})
    sums: Float[Tensor, "sensor 2"]

    def __init__(
        self,
        given: Given,
        *,
        steps: Annotated[float, Field(ge=0, lt=1, description="share of patches or steps hidden")] = 0.75,
        channels: Annotated[float, Field(ge=0, lt=1, description="share of channels hidden in all steps")] = 0.0,
        span: Annotated[int, Field(ge=1, description="steps hidden in a row")] = 1,
        side: Side = None,
        normalise: Annotated[bool, Field(description="predict each patch in its own mean and spread")] = False,
        layers: Layers = 2,
        heads: Heads = 4,
    ) -> None:
        super().__init__(given)
        if not steps and not channels:
            raise ConfigError("masked_autoencoder must hide something, but steps and channels are 0")
        self.steps, self.channels, self.span, self.normalise = steps, channels, span, normalise
        found = find_places(given, "masked_autoencoder", side).items()
        self.places = {n: it for n, it in found if (steps and it.steps != 1) or (channels and it.channel > 1)}
        if not self.places:
            raise ConfigError(
                f"masked_autoencoder must hide some of several, but {[n for n, _ in found]} have one each"
            )
        for name, it in self.places.items():
            if normalise and it.channel * it.width < 2:
                raise ConfigError(f"normalise must have two numbers a step, but {name} has one")
        self.decoders = nn.ModuleDict({name: PlaceDecoder(given.dim, layers, heads) for name in self.places})
        self.outs = nn.ModuleDict({n: nn.Linear(given.dim, it.channel * it.width) for n, it in self.places.items()})
        self.register_buffer("sums", torch.zeros(len(self.places), 2))  # of an epoch's errors, and of those of means

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses, plain = [], []
        for name, places in self.places.items():
            level = looks.level(name)
            target = places.target(level)
            hidden = draw_hidden(target.mask, places.channel, self.steps, self.channels, self.span, generator)
            tokens = looks.encode(name, places.show(level, hidden))
            read = self.outs[name](self.decoders[name](tokens, places.grid(target.values.shape[1])))
            wanted = normalise_patches(target.values) if self.normalise else target.values
            losses.append(hidden_error(read.unflatten(2, wanted.shape[2:]), wanted, hidden))
            plain.append(hidden_error(mean_at_places(wanted, target.mask), wanted, hidden))
        if self.training:
            self.sums += torch.stack([torch.stack(losses).detach(), torch.stack(plain)], 1)
        return torch.stack(losses).mean()

    def close_epoch(self) -> dict[str, float]:
        """How much more than what stands at each place on average is not told."""
        sums = self.sums.tolist()
        self.sums.zero_()
        return {
            f"unexplained_{name}": error / mean if mean else 1.0
            for name, (error, mean) in zip(self.places, sums, strict=True)
        }
