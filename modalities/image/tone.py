"""Changes of colour and sharpness of whole batches of images in [0, 1], each as Pillow defines it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "batch 3 height width"]
LEVELS = 256


def grey(values: Images) -> Float[Tensor, "batch 1 height width"]:
    """Luma by ITU-R 601: ``0.299 R + 0.587 G + 0.114 B``. Pure red is 0.299."""
    return (values * values.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def smooth(values: Images) -> Images:
    """Mean of each pixel's neighbourhood, in which the pixel counts five times: ``(5 x + 8 neighbours) / 13``.

    The outermost pixels stay. A black pixel among white ones becomes 8/13.
    """
    if min(values.shape[2:]) < 3:
        return values
    around = 9 * F.avg_pool2d(values, 3, stride=1)
    inside = (around + 4 * values[:, :, 1:-1, 1:-1]) / 13
    changed = values.clone()
    changed[:, :, 1:-1, 1:-1] = inside
    return changed


def solarise(values: Images, threshold: Float[Tensor, " batch"]) -> Images:
    """Invert what is as bright as the threshold, or brighter: at 0.5, 0.8 becomes 0.2 and 0.4 stays."""
    return torch.where(values >= threshold[:, None, None, None], 1 - values, values)


def posterise(values: Images, dropped: Int[Tensor, " batch"]) -> Images:
    """Set the lowest ``dropped`` of 8 bits to 0: with 4, the byte 255 becomes 240."""
    step = torch.pow(2, dropped)[:, None, None, None]
    return (levels(values) // step * step).to(values.dtype) / (LEVELS - 1)


def stretch_levels(values: Images) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch 3"]]:
    """Factor and shift that make each colour's darkest pixel 0 and its brightest 1; 1 and 0 where all are equal."""
    lowest, highest = values.amin((2, 3)), values.amax((2, 3))
    spread = highest - lowest
    factor = torch.where(spread > 0, 1 / spread.clamp_min(1e-6), torch.ones_like(spread))
    return factor, torch.where(spread > 0, -lowest * factor, torch.zeros_like(lowest))


def equalise(values: Images) -> Images:
    r"""Spread the levels of each colour evenly over all 256: level :math:`i` of a colour with counts :math:`h` becomes

    .. math:: \lfloor (\lfloor s / 2 \rfloor + \textstyle\sum_{j < i} h_j) / s \rfloor, \quad
              s = \lfloor (\textstyle\sum_j h_j - h_\text{brightest}) / 255 \rfloor

    A colour with :math:`s = 0` (few pixels, or one level) stays as it is.
    """
    batch, colours, height, width = values.shape
    level = levels(values).reshape(batch * colours, -1)
    counts = torch.zeros(batch * colours, LEVELS, dtype=torch.int64, device=values.device)
    counts.scatter_add_(1, level, torch.ones_like(level))
    brightest = counts.gather(1, level.amax(1, keepdim=True))
    step = (height * width - brightest) // (LEVELS - 1)
    table = (step // 2 + counts.cumsum(1) - counts) // step.clamp_min(1)
    even = table.clamp_max(LEVELS - 1).gather(1, level).to(values.dtype) / (LEVELS - 1)
    return torch.where(
        step[..., None] > 0, even.reshape(batch * colours, -1, 1), values.reshape(batch * colours, -1, 1)
    ).reshape(values.shape)


def levels(values: Images) -> Int[Tensor, "batch 3 height width"]:
    """Bytes that numbers in [0, 1] stand for: 0.5 is 128."""
    return (values * (LEVELS - 1) + 0.5).long().clamp(0, LEVELS - 1)


def pick(chosen: Bool[Tensor, " batch"], changed: Images, values: Images) -> Images:
    """The changed image where it is chosen, and the very bits of the image elsewhere."""
    return torch.where(chosen[:, None, None, None], changed, values)
