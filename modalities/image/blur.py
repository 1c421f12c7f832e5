"""Images out of focus."""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment


@augment.register("blur")
class Blur(WindowAugmentation):
    r"""Smooth an image by a Gaussian whose deviation each image draws for itself, evenly from ``least`` to ``most``.

    The Gaussian reaches :math:`\lceil 3 \cdot \text{most} \rceil` pixels to each side and sums to 1, so that an image of
    one colour stays as it is; beyond the border the outermost pixels go on.

    Args:
        least: smallest deviation in pixels.
        most: largest deviation in pixels.
        probability: of changing an image.

    Raises:
        ConfigError: ``least`` is more than ``most``.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020: 0.1 to 2, half of
        the images.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        least: Annotated[float, Field(gt=0, description="smallest deviation in pixels")] = 0.1,
        most: Annotated[float, Field(gt=0, le=20, description="largest deviation in pixels")] = 1.0,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing an image")] = 0.5,
    ) -> None:
        super().__init__()
        if least > most:
            raise ConfigError(f"least must be no more than most, but {least:g} is more than {most:g}")
        self.least = least
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Smooth one batch: all images as channels of one, each with a kernel of its own."""
        values = stream.values
        batch, colours, height, width = values.shape
        reach = math.ceil(3 * self.most)
        spread = self.least + (self.most - self.least) * uniform((batch,), values, generator).to(values.dtype)
        place = torch.arange(-reach, reach + 1, device=values.device)
        kernel = torch.softmax(-0.5 * (place / spread[:, None]).square(), 1).repeat_interleave(colours, 0)
        flat = values.reshape(1, batch * colours, height, width)
        flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "replicate"), kernel[:, None, None], groups=batch * colours)
        flat = F.conv2d(
            F.pad(flat, (0, 0, reach, reach), "replicate"), kernel[:, None, :, None], groups=batch * colours
        )
        chosen = choose(batch, self.probability, values, generator)
        return stream._replace(values=torch.where(chosen[:, None, None, None], flat.reshape(values.shape), values))
