"""A small residual convolutional network for small images."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, Window, scrub, scrub_window
from fusionkit.core.registry import encoders
from fusionkit.encoders.encoder import WindowEncoder

GROUPS = 8


class ImageBlock(nn.Module):
    """Halve height and width with one 3 x 3 convolution, then add what a second one finds.

    Group norms, not batch norms: an image's answer must not depend on the others of its batch, nor on the zeros of
    those that are absent.

    Args:
        channels: in.
        out: channels out.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, out)
        self.add = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm_add = nn.GroupNorm(GROUPS, out)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out down across"]:
        """Encode one batch."""
        x = F.relu(self.norm(self.halve(x)))
        added: Tensor = x + F.relu(self.norm_add(self.add(x)))
        return added


@encoders.register("image_cnn")
class ImageCNN(WindowEncoder):
    """Small images to one token a cell of the last grid, row by row: 4 x 4 for 28 to 32 pixels.

    A 5 x 5 convolution, then blocks that halve the image. Larger images are taken with a larger first stride, so that
    the last grid stays about 4 x 4. Learns from a few thousand images, without weights from elsewhere.

    Args:
        shape: ``(3, height, width)`` of the images.
        dim: width of a token.
        width: channels of the first layer, a multiple of 8; then 2, 4 and 4 times as many.
        blocks: how often the image is halved.
        dropout: share of a token's numbers dropped in training.

    Raises:
        ConfigError: the windows are no images.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dim: int,
        *,
        width: Annotated[int, Field(ge=GROUPS, multiple_of=GROUPS, description="channels of the first layer")] = 16,
        blocks: Annotated[int, Field(ge=1, le=6, description="how often the image is halved")] = 3,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        if len(shape) != 3 or shape[0] != 3:
            raise ConfigError(f"image_cnn takes images (3, height, width), but the windows are {shape}")
        stride = max(1, round(min(shape[1:]) / (4 * 2**blocks)))
        self.stem = nn.Conv2d(3, width, 5, stride=stride, padding=2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, width)
        channels = [width, *(width * min(2**i, 4) for i in range(1, blocks + 1))]
        self.blocks = nn.ModuleList(ImageBlock(a, b) for a, b in pairwise(channels))
        self.project = nn.Linear(channels[-1], dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, window: Window) -> Tokens:
        """Encode one batch of images."""
        clean = scrub_window(window)
        x = F.relu(self.norm(self.stem(clean.values)))
        for block in self.blocks:
            x = block(x)
        values = self.dropout(self.project(x.flatten(2).transpose(1, 2)))
        every = torch.ones_like(values[:, :, 0], dtype=torch.bool)
        return scrub(Tokens(values, every, clean.present))
