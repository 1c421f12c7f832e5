"""A part of an image in place of the whole, at the size of the whole."""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment


@augment.register("resized_crop")
class ResizedCrop(WindowAugmentation):
    r"""Cut a random rectangle out of an image and stretch it to the image's size, with bilinear sampling.

    Its area is a share :math:`s \sim U[\text{least}, 1]` of the image's, its ratio of width to height
    :math:`e^u` times the image's, :math:`u \sim U[-\log a, \log a]`; where that would be wider or higher than the image,
    it is cut off there. It lies anywhere inside. A quarter of the area at the image's own ratio is half of each side.

    Args:
        least: smallest share of the area.
        ratio: :math:`a`, how much wider or higher than the image a rectangle may be.
        probability: of changing an image.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015; as SimCLR crops, with 0.08 and 4/3.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        least: Annotated[float, Field(gt=0, le=1, description="smallest share of the area")] = 0.3,
        ratio: Annotated[float, Field(ge=1, description="how much wider or higher than the image")] = 4 / 3,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing an image")] = 1.0,
    ) -> None:
        super().__init__()
        self.least = least
        self.ratio = ratio
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Crop one batch."""
        values = stream.values
        draw = uniform((4, len(values)), values, generator).to(values.dtype)
        side = (self.least + (1 - self.least) * draw[0]).sqrt()
        wider = torch.exp((2 * draw[1] - 1) * math.log(self.ratio) / 2)
        width, height = (side * wider).clamp_max(1), (side / wider).clamp_max(1)
        right, down = (1 - width) * (2 * draw[2] - 1), (1 - height) * (2 * draw[3] - 1)
        nothing = torch.zeros_like(side)
        rows = [torch.stack([width, nothing, right], 1), torch.stack([nothing, height, down], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), list(values.shape), align_corners=False)
        part = F.grid_sample(values, grid, align_corners=False, padding_mode="border")
        chosen = choose(len(values), self.probability, values, generator)
        return stream._replace(values=torch.where(chosen[:, None, None, None], part, values))
