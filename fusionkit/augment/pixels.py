"""Images moved by whole pixels."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


def move_pixels(
    values: Float[Tensor, "batch colour height width"],
    down: Int[Tensor, " batch"],
    right: Int[Tensor, " batch"],
    *,
    fill: Literal["zero", "edge"],
) -> Float[Tensor, "batch colour height width"]:
    """Move every image by its own number of pixels; what comes in is black, or the outermost pixel again."""
    height, width = values.shape[2:]
    row = torch.arange(height, device=values.device) - down[:, None]  # where each pixel comes from
    column = torch.arange(width, device=values.device) - right[:, None]
    moved = values.gather(2, row.clamp(0, height - 1)[:, None, :, None].expand(values.shape))
    moved = moved.gather(3, column.clamp(0, width - 1)[:, None, None, :].expand(values.shape))
    if fill == "zero":
        inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
        moved = torch.where(inside[:, None], moved, torch.zeros_like(moved))
    return moved
