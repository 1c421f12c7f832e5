"""Copies of training records, turned about the head or moved across the picture."""

import math
from typing import Annotated

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import choose, uniform
from fusionkit.augment.pixels import move_pixels
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import generators

from .copies import CopyAugmenter
from .generator import Item, Made
from .networks import batches
from .rotation import turned_electrodes

TURNS = 64


@generators.register("geometric_copies")
class GeometricCopies(CopyAugmenter):
    """Copy training records of the class as seen from elsewhere: electrodes turned about the head, images moved.

    The literature's baseline for EEG reads what electrodes would measure had the cap been turned (Krell & Kim), about the
    axis to the right ear, to the nose or upward. How far and by which interpolation the papers on emotion turn is not known:
    15 degrees about one axis at a time are braindecode's, spherical splines that leave an unturned cap as it is are ours, and
    each copy gets one of 64 turns that are drawn. Features are interpolated as signals are. Images are moved by whole
    pixels, their edge repeated, and mirrored where that leaves their labels true (scenes, not digits).

    Args:
        item: what a record looks like.
        degrees: largest turn either way.
        shift: largest move either way, as a share of an image's side.
        mirror: whether half of the images are mirrored left to right.

    Raises:
        ConfigError: it is no image, and places of electrodes are not known.

    Reference:
        Krell & Kim, Rotational data augmentation for electroencephalographic data, EMBC 2017.
    """

    def __init__(
        self,
        item: Item,
        *,
        degrees: Annotated[float, Field(gt=0, le=180, description="largest turn either way, for electrodes")] = 15.0,
        shift: Annotated[
            float, Field(ge=0, lt=1, description="largest move either way, for images: share of a side")
        ] = 0.1,
        mirror: Annotated[bool, Field(description="mirror half of the images left to right")] = False,
    ) -> None:
        super().__init__(item)
        self.degrees, self.share, self.mirror = degrees, shift, mirror
        self.image = item.level == "window" and len(item.shape) == 3
        if not self.image and item.places is None:
            raise ConfigError(
                "geometric_copies must have images, or channels whose places are known, but got "
                f"{item.level} {tuple(item.shape)} without places"
            )

    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Copy and turn, or move."""
        with torch.no_grad():
            copied = self.values[self.draw(label, generator)]
            values = self._move(copied, generator) if self.image else self._turn(copied, generator)
            return Made(
                values, label.to(values.device), torch.ones(len(values), dtype=values.dtype, device=values.device)
            )

    def _move(self, values: Tensor, generator: torch.Generator) -> Tensor:
        most = torch.tensor([self.share * side for side in values.shape[2:]], device=values.device).round()
        draw = uniform((2, len(values)), values, generator)
        steps = torch.floor(draw * (2 * most[:, None] + 1)) - most[:, None]
        moved = move_pixels(values, *steps.long(), fill="edge")
        mirrored = choose(len(values), 0.5, values, generator) & self.mirror
        return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)

    def _turn(self, values: Tensor, generator: torch.Generator) -> Tensor:
        assert self.item.places is not None
        places = torch.tensor(self.item.places, device=values.device)
        axis = (uniform((TURNS,), values, generator) * 3).long()
        angle = (2 * uniform((TURNS,), values, generator) - 1) * math.radians(self.degrees)
        weights = turned_electrodes(places, axis, angle).to(values.dtype).mT
        turn = (uniform((len(values),), values, generator) * TURNS).long()
        channel = 2 if self.item.level == "features" else 1
        last = values.movedim(channel, -1).clone()
        for part in batches(len(values)):
            found = last[part].flatten(1, -2) @ weights[turn[part]]
            last[part] = found.reshape(last[part].shape)
        return last.movedim(-1, channel).contiguous()
