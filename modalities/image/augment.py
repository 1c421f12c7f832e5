"""Augmentations of images, on whole batches of windows and on their device."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.augment.augmentation import WindowAugmentation, choose, normal, uniform
from fusionkit.augment.pixels import move_pixels
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

Probability = Annotated[float, Field(ge=0, le=1, description="of changing an image")]


@augment.register("shift")
class Shift(WindowAugmentation):
    """Move an image by whole pixels, each direction by itself, uniformly up to ``pixels`` either way.

    Args:
        pixels: the farthest.
        fill: ``zero`` fills the free border with black, ``edge`` repeats the outermost pixels.
        probability: of changing an image.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        pixels: Annotated[int, Field(ge=0, description="farthest move in each direction")] = 2,
        fill: Annotated[Literal["zero", "edge"], Field(description="what comes in from the border")] = "zero",
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.fill = fill
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Move one batch."""
        values = stream.values
        batch = len(values)
        draw = torch.floor(uniform((2, batch), values, generator) * (2 * self.pixels + 1)) - self.pixels
        down, right = draw.long() * choose(batch, self.probability, values, generator)
        moved = move_pixels(values, down, right, fill=self.fill)
        return stream._replace(values=moved)


@augment.register("affine")
class Affine(WindowAugmentation):
    """Turn, stretch and slant an image about its centre, with bilinear sampling and black outside.

    Args:
        degrees: largest turn either way.
        stretch: largest change of size: 0.1 is a factor between 0.9 and 1.1, for height and width by themselves.
        slant: largest shear either way: 0.2 moves the top edge by a fifth of half the height.
        probability: of changing an image.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        degrees: Annotated[float, Field(ge=0, le=180, description="largest turn either way")] = 10.0,
        stretch: Annotated[float, Field(ge=0, lt=1, description="largest relative change of size")] = 0.1,
        slant: Annotated[float, Field(ge=0, le=1, description="largest shear either way")] = 0.1,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.degrees = degrees
        self.stretch = stretch
        self.slant = slant
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch."""
        values = stream.values
        batch, _, height, width = values.shape
        turn, slant, tall, wide = 2 * uniform((4, batch), values, generator).to(values.dtype) - 1
        angle = torch.deg2rad(turn * self.degrees)
        cosine, sine = angle.cos(), angle.sin()
        tall, wide = 1 / (1 + tall * self.stretch), 1 / (1 + wide * self.stretch)
        ratio = height / width  # grid_sample measures both axes from -1 to 1
        first = torch.stack([wide * cosine, (slant * self.slant * cosine - sine) * wide * ratio], 1)
        second = torch.stack([tall * sine / ratio, tall * (slant * self.slant * sine + cosine)], 1)
        matrix = F.pad(torch.stack([first, second], 1), (0, 1))
        chosen = choose(batch, self.probability, values, generator)
        grid = F.affine_grid(matrix, list(values.shape), align_corners=False)
        moved = F.grid_sample(values, grid, align_corners=False)
        return stream._replace(values=torch.where(chosen[:, None, None, None], moved, values))


@augment.register("flip")
class Flip(WindowAugmentation):
    """Mirror an image left to right. Not for what has a side: digits, letters, road signs.

    Args:
        probability: of mirroring an image.
    """

    axes: ClassVar[int] = 3

    def __init__(self, *, probability: Probability = 0.5) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Mirror some of one batch."""
        chosen = choose(len(stream.values), self.probability, stream.values, generator)
        return stream._replace(values=torch.where(chosen[:, None, None, None], stream.values.flip(3), stream.values))


@augment.register("cutout")
class Cutout(WindowAugmentation):
    """Black out one square, whose centre is any pixel and which is cut off at the border.

    With ``size=16`` at most a quarter of a 32 x 32 image goes.

    Args:
        size: side of the square in pixels.
        probability: of changing an image.

    Reference:
        DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=1, description="side of the square in pixels")] = 8,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Cut one batch."""
        values = stream.values
        batch, _, height, width = values.shape
        draw = uniform((2, batch), values, generator)
        rows = self._inside(draw[0], height)
        columns = self._inside(draw[1], width)
        chosen = choose(batch, self.probability, values, generator)
        hidden = rows[:, :, None] & columns[:, None, :] & chosen[:, None, None]
        return stream._replace(values=torch.where(hidden[:, None], torch.zeros_like(values), values))

    def _inside(self, draw: Float[Tensor, " batch"], length: int) -> Tensor:
        start = torch.floor(draw * length)[:, None] - self.size // 2
        place = torch.arange(length, device=draw.device)
        return (place >= start) & (place < start + self.size)


@augment.register("image_noise")
class ImageNoise(WindowAugmentation):
    """Add Gaussian noise to every pixel and colour; values may leave [0, 1].

    Args:
        most: largest standard deviation; each image draws its own from 0 to this.
        probability: of changing an image.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        most: Annotated[float, Field(ge=0, description="largest standard deviation, where white is 1")] = 0.1,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Add noise to one batch."""
        values = stream.values
        spread = self.most * uniform((len(values),), values, generator).to(values.dtype)
        spread = spread * choose(len(values), self.probability, values, generator)
        noise = normal(tuple(values.shape), values, generator)
        return stream._replace(values=values + spread[:, None, None, None] * noise)


@augment.register("brightness")
class Brightness(WindowAugmentation):
    """Change brightness and contrast: ``mean + contrast * (x - mean) + brightness``, cut to [0, 1].

    Args:
        brightness: largest amount added, either way.
        contrast: largest change of the factor: 0.2 is between 0.8 and 1.2.
        probability: of changing an image.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        brightness: Annotated[float, Field(ge=0, le=1, description="largest amount added, either way")] = 0.2,
        contrast: Annotated[float, Field(ge=0, le=1, description="largest change of the factor")] = 0.2,
        probability: Probability = 1.0,
    ) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch."""
        values = stream.values
        draw = 2 * uniform((2, len(values)), values, generator).to(values.dtype)[..., None, None, None] - 1
        mean = values.mean((1, 2, 3), keepdim=True)
        changed = mean + (1 + self.contrast * draw[0]) * (values - mean) + self.brightness * draw[1]
        chosen = choose(len(values), self.probability, values, generator)
        return stream._replace(values=torch.where(chosen[:, None, None, None], changed.clamp(0, 1), values))
