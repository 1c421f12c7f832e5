"""Rotation: by how many quarters an image is turned."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import pool
from fusionkit.core.registry import objectives
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.picture import pictures


def four_turns(pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "looks 3 side side"]:
    """Every image turned by 0, 90, 180 and 270 degrees: first all unturned, then all by a quarter ..."""
    return torch.cat([torch.rot90(pixels, quarters, (2, 3)) for quarters in range(4)])


@objectives.register("rotation")
class Rotation(PretrainingObjective):
    """Tell from an image's pooled tokens by which of four quarter turns it is turned; all four are in the batch.

    For images that have an upside. Square images only, turned after the sensor's augmentations; of other sensors of the
    stage nothing is learned. Costs four images a record.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: the stage has no image, or one that is not square.

    Reference:
        Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.
    """

    learns_from: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.pictures = pictures(given, "rotation")
        for name, it in self.pictures.items():
            if it.height != it.width:
                raise ConfigError(f"rotation must have square images, but those of {name} are {it.height} x {it.width}")
        self.heads = nn.ModuleDict({name: nn.Linear(given.dim, 4) for name in self.pictures})

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        losses = []
        for name, picture in self.pictures.items():
            turned = four_turns(picture.pixels(looks.view(0).levels[name]))
            logits = self.heads[name](pool(picture.stream(looks, turned)))
            here = looks.present(name)
            turns = torch.arange(4, device=logits.device).repeat_interleave(len(here))
            losses.append(guess_loss(logits, turns, here.repeat(4)))
        return torch.stack(losses).mean()
