"""Images as pixels, whatever their encoder takes: the picture itself, or patches of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Tokens, Window, scrub, scrub_window
from fusionkit.pretraining.objective import Given, Looks


@dataclass(frozen=True)
class Picture:
    """One image sensor of a stage.

    Attributes:
        name: of the sensor.
        height: of every image, pixels.
        width: likewise.
        patch: side of the patches that its features are, row by row; None where the encoder takes the image.
    """

    name: str
    height: int
    width: int
    patch: int | None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of its patches; None where there are none."""
        return None if self.patch is None else (-(-self.height // self.patch), -(-self.width // self.patch))

    def pixels(self, level: Window | Features) -> Float[Tensor, "batch 3 height width"]:
        """The images of a batch; zeros where a record has none."""
        if isinstance(level, Window):
            return scrub_window(level).values
        assert self.grid is not None and self.patch is not None
        patches = scrub(level).values.reshape(-1, *self.grid, 3, self.patch, self.patch)
        whole = patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
        return whole[:, :, : self.height, : self.width]

    def level(self, like: Window | Features, pixels: Float[Tensor, "looks 3 height width"]) -> Window | Features:
        """Changed images in the form of ``like``, whose rows they repeat: first every record, then all once more."""
        times = len(pixels) // len(like.present)
        present = like.present.repeat(times)
        if isinstance(like, Window):
            shift, scale = (None if x is None else x.repeat(times, 1, 1) for x in (like.shift, like.scale))
            return Window(pixels, like.length.repeat(times), present, shift, scale)
        assert self.grid is not None and self.patch is not None
        rows, columns = self.grid
        right, below = columns * self.patch - self.width, rows * self.patch - self.height
        cut = F.pad(pixels, (0, right, 0, below)).reshape(-1, 3, rows, self.patch, columns, self.patch)
        return Features(cut.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2), like.mask.repeat(times, 1), present)

    def stream(self, looks: Looks, pixels: Float[Tensor, "looks 3 height width"]) -> Tokens:
        """Tokens of changed images, normalised as the sensor's own are; rows as in `level`."""
        inputs = looks.batch.inputs
        return looks.model.look({**inputs, self.name: self.level(inputs[self.name], pixels)}).stream(self.name)


def pictures(given: Given, kind: str) -> Mapping[str, Picture]:
    """The image sensors of a stage by name.

    Raises:
        ConfigError: there is none.
    """
    found = {name: picture for name in given.sensors if (picture := picture_of(given, name)) is not None}
    if not found:
        raise ConfigError(f"{kind} learns from images (3, height, width), but none of {list(given.sensors)} is one")
    return found


def picture_of(given: Given, name: str) -> Picture | None:
    """An image sensor; None where a sensor is none, or its features are no patches of it."""
    window = given.windows.get(name)
    if window is None or len(window) != 3 or window[0] != 3:
        return None
    if given.levels[name] == "window":
        return Picture(name, window[1], window[2], None)
    shape = given.features[name]
    picture = Picture(name, window[1], window[2], isqrt(shape.subchannel))
    rows, columns = picture.grid or (0, 0)
    patches = shape.channel == 3 and isqrt(shape.subchannel) ** 2 == shape.subchannel and shape.steps == rows * columns
    return picture if patches else None


def alike(
    tiles: Float[Tensor, "looks 3 height width"], whole: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "looks 3 height width"]:
    """Give every tile the mean and spread of its image, so that neighbours are not told by their brightness.

    Tiles are as many times the images as there are, in their order; a tile of one colour becomes that mean.
    """
    axes = (1, 2, 3)
    spread, centre = torch.std_mean(tiles, axes, keepdim=True, correction=0)
    wanted, level = torch.std_mean(whole, axes, keepdim=True, correction=0)
    times = len(tiles) // len(whole)
    return (tiles - centre) / spread.clamp_min(1e-4) * wanted.repeat(times, 1, 1, 1) + level.repeat(times, 1, 1, 1)


def crop(
    pixels: Float[Tensor, "batch 3 height width"],
    top: Float[Tensor, " batch"],
    left: Float[Tensor, " batch"],
    height: float,
    width: float,
) -> Float[Tensor, "batch 3 height width"]:
    """A piece of every image, stretched to the size of an image, so that its encoder takes it; bilinear.

    Args:
        pixels: the images.
        top: where the piece begins, in pixels, fractions too.
        left: likewise.
        height: of the pieces, in pixels.
        width: likewise.
    """
    tall, wide = pixels.shape[2:]
    one, zero = torch.ones_like(top), torch.zeros_like(top)
    across = torch.stack([one * width / wide, zero, (2 * left + width) / wide - 1], 1)
    down = torch.stack([zero, one * height / tall, (2 * top + height) / tall - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1).to(pixels.dtype), list(pixels.shape), align_corners=False)
    piece: Tensor = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return piece
