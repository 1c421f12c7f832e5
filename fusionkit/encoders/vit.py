"""Vision transformer: an image as a sentence of patches."""

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.levels import Tokens, Window, scrub, scrub_window
from fusionkit.core.registry import encoders
from fusionkit.encoders.encoder import WindowEncoder


class Size(NamedTuple):
    """Width of a token, number of blocks, attention heads."""

    width: int
    layers: int
    heads: int


SIZES = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
    "huge": Size(1280, 32, 16),
}


class VisionBlock(nn.Module):
    r"""Self-attention, then a hidden layer of four widths, each on a normalised copy and added.

    .. math:: z' = \mathrm{MSA}(\mathrm{LN}(z)) + z, \qquad z'' = \mathrm{MLP}(\mathrm{LN}(z')) + z'

    Args:
        width: of a token.
        heads: attention heads; must divide ``width``.
        dropout: share dropped behind attention and behind the hidden layers, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width, eps=1e-6)
        self.hidden = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.query_key_value, self.out, self.hidden, self.shrink):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, z: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """Change one batch of tokens."""
        joint = self.query_key_value(self.norm_attention(z))
        query, key, value = joint.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        z = z + self.dropout(self.out(mixed))
        changed: Tensor = z + self.dropout(self.shrink(F.gelu(self.hidden(self.norm_hidden(z)))))
        return changed


class VisionTransformer(nn.Module):
    """The backbone alone: image to tokens of its own width, the class token first.

    It has ``P²·3·D + D + D + (N+1)·D + L·(12·D² + 13·D) + 2·D`` parameters with patches of side P, N of them, width D
    and L blocks: 85,798,656 for base with P = 16 on 224 x 224 pixels, 303,301,632 for large, and 630,764,800 for
    huge with P = 14. Positions are learned; on an image of another size they are interpolated.

    Args:
        height: of the images that it is made for, pixels.
        width: likewise.
        patch: side of a patch.
        size: width, blocks and heads.
        dropout: as in `VisionBlock`.

    Raises:
        ConfigError: ``patch`` does not divide height and width.
    """

    def __init__(self, height: int, width: int, *, patch: int, size: Size, dropout: float = 0.0) -> None:
        super().__init__()
        if height % patch or width % patch:
            raise ConfigError(f"patch must divide height and width, but {patch} does not divide {height} x {width}")
        self.grid = (height // patch, width // patch)
        self.patch = patch
        self.embed = nn.Conv2d(3, size.width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.positions = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], size.width))
        self.blocks = nn.ModuleList(VisionBlock(size.width, size.heads, dropout) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1))
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch token size"]:
        """Encode one batch of images.

        Raises:
            ShapeError: a patch does not divide the images.
        """
        grid = (image.shape[2] // self.patch, image.shape[3] // self.patch)
        if image.shape[2] % self.patch or image.shape[3] % self.patch:
            raise ShapeError(
                f"patch must divide height and width, but {self.patch} does not divide "
                f"{image.shape[2]} x {image.shape[3]}"
            )
        patches = self.embed(image).flatten(2).transpose(1, 2)
        z = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], 1)
        z = z + interpolate_positions(self.positions, self.grid, grid)
        for block in self.blocks:
            z = block(z)
        normed: Tensor = self.norm(z)
        return normed


def interpolate_positions(
    positions: Float[Tensor, "1 token width"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 new_token width"]:
    """Stretch learned positions from one grid of patches to another, bicubic; the class token keeps its own.

    At equal grids it is the identity, to the bit.

    Args:
        positions: of the class token, then of the patches row by row.
        old: rows and columns that they were learned on.
        new: rows and columns wanted.

    Raises:
        ShapeError: there are not as many positions as ``old`` has patches, and one.
    """
    if positions.shape[1] != 1 + old[0] * old[1]:
        raise ShapeError(f"a grid of {old[0]} x {old[1]} has {1 + old[0] * old[1]} positions, got {positions.shape[1]}")
    if old == new:
        return positions
    plane = positions[:, 1:].transpose(1, 2).reshape(1, -1, *old)
    plane = F.interpolate(plane, new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], plane.flatten(2).transpose(1, 2)], 1)


@encoders.register("vit")
class ViTEncoder(WindowEncoder):
    """Vision transformer on an image: the class token, then one token a patch. For large data, or weights to start from.

    On a few thousand images ``image_cnn`` learns better. Cost is quadratic in the number of patches.

    Args:
        shape: ``(3, height, width)`` of the images.
        dim: width of a token that comes out; where the backbone's differs, a linear map follows it.
        size: ``tiny`` (192 wide, 12 blocks, 3 heads), ``small`` (384, 12, 6), ``base`` (768, 12, 12), ``large``
            (1024, 24, 16) or ``huge`` (1280, 32, 16).
        patch: side of a patch, a divisor of height and width; None is 16, and 4 below 128 pixels.
        dropout: share dropped in training.

    Raises:
        ConfigError: the windows are no images, or ``patch`` does not divide them.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; tiny and small are those of Touvron et al., DeiT.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dim: int,
        *,
        size: Annotated[
            Literal["tiny", "small", "base", "large", "huge"], Field(description="width, blocks and heads")
        ] = "tiny",
        patch: Annotated[int | None, Field(ge=1, description="side of a patch in pixels")] = None,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.0,
    ) -> None:
        super().__init__(shape, dim)
        if len(shape) != 3 or shape[0] != 3:
            raise ConfigError(f"vit takes images (3, height, width), but the windows are {shape}")
        side = patch or (16 if min(shape[1:]) >= 128 else 4)
        self.backbone = VisionTransformer(shape[1], shape[2], patch=side, size=SIZES[size], dropout=dropout)
        width = SIZES[size].width
        self.project = nn.Identity() if width == dim else nn.Linear(width, dim)

    def forward(self, window: Window) -> Tokens:
        """Encode one batch of images."""
        clean = scrub_window(window)
        values = self.project(self.backbone(clean.values))
        every = torch.ones_like(values[:, :, 0], dtype=torch.bool)
        return scrub(Tokens(values, every, clean.present))
