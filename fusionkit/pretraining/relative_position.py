"""Relative position: on which of eight sides of a piece of an image another one lay."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.augment.augmentation import normal, uniform
from fusionkit.core.levels import pool
from fusionkit.core.registry import objectives
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.picture import Picture, alike, crop, pictures

SIDES = 8
"""Classes: the neighbours of the middle piece row by row, the upper left one first."""
GAP = 1 / 2
JITTER = 7 / 96
"""Of a piece's side: between pieces, and how far each is moved either way."""


@objectives.register("relative_position")
class RelativePosition(PretrainingObjective):
    """Encode the middle piece of an image and one of its eight neighbours, and tell which neighbour it is.

    Three pieces by three, half a piece between them and each moved by up to 7/96 of its side either way, fill the
    image; none touches another, so that lines do not continue. Two of three colours of every piece become noise of a
    hundredth of the third's spread (with ``drop_colours``), for lenses bend colours more the farther from the middle
    they are. Pieces get the mean and spread of the image and its size, so that every encoder takes them (the paper:
    96 x 96 pixels each). The sensor's augmentations come first. Costs two images a record. Of sensors that are no images nothing is learned.

    Args:
        given: what the builder knows.
        hidden: width of the layer behind the two pooled pieces.
        drop_colours: keep one colour of every piece.

    Raises:
        ConfigError: the stage has no image.

    Reference:
        Doersch, Gupta and Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015.
    """

    learns_from: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(
        self,
        given: Given,
        *,
        hidden: Annotated[int, Field(ge=1, description="width of the layer behind the two pieces")] = 128,
        drop_colours: Annotated[bool, Field(description="keep one colour of every piece")] = True,
    ) -> None:
        super().__init__(given)
        self.pictures = pictures(given, "relative_position")
        self.drop_colours = drop_colours
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(2 * given.dim, hidden), nn.ReLU(), nn.Linear(hidden, SIDES))
                for name in self.pictures
            }
        )

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses = []
        for name, picture in self.pictures.items():
            pixels = picture.pixels(looks.view(0).levels[name])
            side = (uniform((len(pixels),), pixels, generator) * SIDES).long().clamp_max(SIDES - 1)
            pieces = alike(cut_pair(picture, pixels, side, generator), pixels)
            if self.drop_colours:
                pieces = keep_one_colour(pieces, generator)
            first, second = pool(picture.stream(looks, pieces)).chunk(2)
            losses.append(guess_loss(self.heads[name](torch.cat([first, second], 1)), side, looks.present(name)))
        return torch.stack(losses).mean()


def cut_pair(
    picture: Picture,
    pixels: Float[Tensor, "batch 3 height width"],
    side: Int[Tensor, " batch"],
    generator: torch.Generator,
) -> Float[Tensor, "looks 3 height width"]:
    """The middle pieces, then those on the drawn sides, each stretched to the size of an image."""
    share = 1 / (3 + 2 * GAP + 2 * JITTER)
    tall, wide = picture.height * share, picture.width * share
    jitter = (2 * uniform((2, 2, len(pixels)), pixels, generator) - 1) * JITTER
    cell = side + (side >= 4)  # of nine, row by row, without the middle
    down, right = (cell // 3 - 1) * (1 + GAP), (cell % 3 - 1) * (1 + GAP)
    middle = 1 + GAP + JITTER
    return torch.cat(
        [
            crop(pixels, (middle + jitter[0, 0]) * tall, (middle + jitter[0, 1]) * wide, tall, wide),
            crop(pixels, (middle + down + jitter[1, 0]) * tall, (middle + right + jitter[1, 1]) * wide, tall, wide),
        ]
    )


def keep_one_colour(
    pieces: Float[Tensor, "looks 3 height width"], generator: torch.Generator
) -> Float[Tensor, "looks 3 height width"]:
    """Of every piece one colour stays; the others become noise about its mean, of a hundredth of its spread."""
    kept = (uniform((len(pieces),), pieces, generator) * 3).long().clamp_max(2)
    here = torch.arange(3, device=pieces.device) == kept[:, None]
    colour = pieces.gather(1, kept[:, None, None, None].expand(-1, 1, *pieces.shape[2:]))
    spread, centre = torch.std_mean(colour, (1, 2, 3), keepdim=True, correction=0)
    noise = centre + 0.01 * spread * normal(tuple(pieces.shape), pieces, generator)
    return torch.where(here[:, :, None, None], pieces, noise)
