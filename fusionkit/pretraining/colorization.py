"""Colorization: an image without hue, and which hues it had."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.processes import summed
from fusionkit.core.registry import objectives
from fusionkit.pretraining.colour import colour_bins, grey, lab, rarity, share_colour
from fusionkit.pretraining.decoder import PlaceDecoder
from fusionkit.pretraining.masked_autoencoder import Heads, Layers
from fusionkit.pretraining.metric import mean_where
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.picture import pictures


def colour_loss(
    logits: Float[Tensor, "batch place bin"],
    shares: Float[Tensor, "batch place bin"],
    weights: Float[Tensor, " bin"],
    here: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    r"""Mean over places of :math:`-w_{\arg\max z} \sum_q z_q \log p_q`; with equal logits and weights 1 the log of the bins.

    Args:
        logits: predicted.
        shares: z, of the bins in a place's colour.
        weights: of each bin.
        here: images that count.
    """
    loss = -weights[shares.argmax(2)] * (shares * logits.float().log_softmax(2)).sum(2)
    return mean_where(loss, here[:, None].expand(loss.shape))


class ColourPrior(nn.Module):
    """How often each bin occurred so far; all alike, as if in one batch, before the first.

    Args:
        bins: how many.
    """

    total: Tensor
    batches: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.full((bins,), 1 / bins))
        self.register_buffer("batches", torch.ones(()))

    @torch.no_grad()
    def see(self, shares: Float[Tensor, "batch place bin"], here: Bool[Tensor, " batch"]) -> None:
        """Count the mean of a batch, of all processes; none where no image counts."""
        weight = here[:, None, None].to(shares.dtype)
        count = summed(here.sum() * shares.shape[1])
        self.total += summed((shares * weight).sum((0, 1))) / count.clamp_min(1)
        self.batches += (count > 0).to(self.batches.dtype)

    def forward(self) -> Float[Tensor, " bin"]:
        """The prior."""
        return self.total / self.batches


@objectives.register("colorization")
class Colorization(PretrainingObjective):
    """Show an image in greys, and tell the bin of hue of every square of it, rare hues weighing more.

    Hues are a* and b* in bins of 10 by 10 (see `colour_bins`), the mean of a square's pixels is shared by its five
    nearest bins, and a square is weighted by how rare its bin is (see `rarity`; here among the images seen so far, in
    the paper in the training set, smoothed). The predictions are read out of the tokens by `PlaceDecoder`, where the
    paper's network keeps a quarter of the resolution. For images that have colours, from 0 to 1: of grey ones nothing
    is to be learned. The sensor's augmentations come first. Of sensors that are no images nothing is learned.

    Args:
        given: what the builder knows.
        side: of a square in pixels.
        layers: blocks of the decoder.
        heads: its attention heads; must divide ``dim``.

    Raises:
        ConfigError: the stage has no image.

    Reference:
        Zhang, Isola and Efros, "Colorful Image Colorization", ECCV 2016.
    """

    bins: Float[Tensor, "bin 2"]

    learns_from: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(
        self,
        given: Given,
        *,
        side: Annotated[int, Field(ge=1, description="pixels of a square whose hue is told")] = 4,
        layers: Layers = 2,
        heads: Heads = 4,
    ) -> None:
        super().__init__(given)
        self.pictures = pictures(given, "colorization")
        self.side = side
        self.register_buffer("bins", colour_bins().clone(), persistent=False)
        self.decoders = nn.ModuleDict({name: PlaceDecoder(given.dim, layers, heads) for name in self.pictures})
        self.outs = nn.ModuleDict({name: nn.Linear(given.dim, len(self.bins)) for name in self.pictures})
        self.priors = nn.ModuleDict({name: ColourPrior(len(self.bins)) for name in self.pictures})

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        losses = []
        for name, picture in self.pictures.items():
            pixels, here = picture.pixels(looks.view(0).levels[name]), looks.present(name)
            hue = F.avg_pool2d(lab(pixels.float())[:, 1:], self.side, ceil_mode=True)
            shares = share_colour(hue.flatten(2).transpose(1, 2), self.bins)
            prior = self.priors[name]
            assert isinstance(prior, ColourPrior)
            if self.training:
                prior.see(shares, here)
            read = self.decoders[name](picture.stream(looks, grey(pixels)), (hue.shape[2], hue.shape[3]))
            losses.append(colour_loss(self.outs[name](read), shares, rarity(prior()), here))
        return torch.stack(losses).mean()
