"""An image as a sequence of patches."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd


class Patches(FrontEnd):
    """Cut an image into square patches, row by row: patches as time, colours as channels, pixels as subchannels.

    A last row or column of patches that the image does not fill is filled with zeros. A 4 x 4 image with
    ``patch=2`` gives four patches of four pixels; the first holds pixels (0,0), (0,1), (1,0), (1,1).

    Args:
        height: of every image, pixels.
        width: likewise.
        patch: side of a patch.
    """

    def __init__(self, height: int, width: int, *, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.rows = -(-height // patch)
        self.columns = -(-width // patch)
        self.padding = (0, self.columns * patch - width, 0, self.rows * patch - height)
        self.shape = FeatureShape(channel=3, subchannel=patch * patch, steps=self.rows * self.columns, timed=False)

    def forward(
        self, values: Shaped[Tensor, "batch 3 height width"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch patch 3 pixel"], Bool[Tensor, "batch patch"]]:
        """Cut one batch; ``length`` says nothing of images, and no patch is padding."""
        image = F.pad(values, self.padding)
        grid = image.reshape(-1, 3, self.rows, self.patch, self.columns, self.patch)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, self.rows * self.columns, 3, self.patch**2)
        return patches, torch.ones_like(patches[:, :, 0, 0], dtype=torch.bool)

    def times(self, steps: int) -> None:
        """Patches have no time."""
        return
