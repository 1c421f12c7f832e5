"""Jigsaw: in which order the nine tiles of an image were put."""

from functools import cache
from itertools import permutations
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.augment.augmentation import uniform
from fusionkit.core.levels import pool
from fusionkit.core.registry import objectives
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.picture import Picture, alike, crop, pictures

SIDE = 3
KEPT = 0.85
"""Side of a tile over that of its cell: 64 of 75 pixels in the paper. The rest is where tiles are moved in."""


@cache
def far_orders(count: int) -> Int[Tensor, "order 9"]:
    """Orders of nine tiles that are far from each other: each next differs in the most places from all before it.

    The first is the order itself; the next is the one whose least Hamming distance to those chosen is largest, of
    equals the one with the largest sum of distances, of equals the first of the alphabet. Ten orders differ from each
    other in 8 places or more, a hundred in 6, a thousand in 5.

    Reference:
        Algorithm 1 of Noroozi and Favaro, ECCV 2016, which takes the largest sum alone; the paper finds that the least
        distance is what matters.
    """
    every = np.array(list(permutations(range(SIDE * SIDE))), dtype=np.int8).T.copy()  # a row a place
    least = np.full(every.shape[1], SIDE * SIDE + 1, dtype=np.int32)
    total = np.zeros_like(least)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros(every.shape[1], dtype=np.int8)
        for place, last in zip(every, every[:, chosen[-1]], strict=True):
            distance += place != last
        np.minimum(least, distance, out=least)
        total += distance
        chosen.append(int(np.argmax(least * (SIDE * SIDE * count + 1) + total)))
    return torch.from_numpy(every[:, chosen].T.astype(np.int64))


@objectives.register("jigsaw")
class Jigsaw(PretrainingObjective):
    """Encode nine tiles of an image, each by itself and in a drawn order, and tell which order it is.

    A tile is a piece at a random place of its cell, so that edges do not continue, with the mean and spread of the
    whole image (the paper: mean 0 and spread 1), stretched to the image's size, so that every encoder takes it (the
    paper builds one for tiles). The sensor's augmentations come first. Costs nine images a record. Of sensors that are
    no images nothing is learned.

    Args:
        given: what the builder knows.
        orders: how many orders there are to tell apart, far from each other (see `far_orders`).
        hidden: width of the layer behind the nine pooled tiles.

    Raises:
        ConfigError: the stage has no image.

    Reference:
        Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016.
    """

    orders: Int[Tensor, "order 9"]

    learns_from: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(
        self,
        given: Given,
        *,
        orders: Annotated[int, Field(ge=2, le=1000, description="orders of the tiles to tell apart")] = 100,
        hidden: Annotated[int, Field(ge=1, description="width of the layer behind the nine tiles")] = 128,
    ) -> None:
        super().__init__(given)
        self.pictures = pictures(given, "jigsaw")
        self.register_buffer("orders", far_orders(orders).clone())
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(SIDE**2 * given.dim, hidden), nn.ReLU(), nn.Linear(hidden, orders))
                for name in self.pictures
            }
        )

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses = []
        for name, picture in self.pictures.items():
            pixels = picture.pixels(looks.view(0).levels[name])
            batch = len(pixels)
            draw = uniform((batch,), pixels, generator) * len(self.orders)
            order = draw.long().clamp_max(len(self.orders) - 1)
            tiles = pool(picture.stream(looks, alike(cut_tiles(picture, pixels, generator), pixels)))
            tiles = tiles.reshape(SIDE**2, batch, -1).transpose(0, 1)
            shuffled = tiles.gather(1, self.orders[order][:, :, None].expand_as(tiles))
            losses.append(guess_loss(self.heads[name](shuffled.flatten(1)), order, looks.present(name)))
        return torch.stack(losses).mean()


def cut_tiles(
    picture: Picture, pixels: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "looks 3 height width"]:
    """The nine tiles of every image, each stretched to its size: first all upper left ones, then the next to it ..."""
    tall, wide = picture.height / SIDE, picture.width / SIDE
    draw = uniform((SIDE, SIDE, 2, len(pixels)), pixels, generator) * (1 - KEPT)
    return torch.cat(
        [
            crop(
                pixels,
                (row + draw[row, column, 0]) * tall,
                (column + draw[row, column, 1]) * wide,
                KEPT * tall,
                KEPT * wide,
            )
            for row in range(SIDE)
            for column in range(SIDE)
        ]
    )
