"""RandAugment: a few changes of an image, drawn from one list, at one magnitude."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

from .tone import equalise, grey, pick, posterise, smooth, solarise, stretch_levels

Operation = Literal[
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "invert",
]
PAPER: tuple[Operation, ...] = tuple(name for name in get_args(Operation) if name != "invert")
Rows = Bool[Tensor, " batch"]
Size = Float[Tensor, " batch"]


@augment.register("rand_augment")
class RandAugment(WindowAugmentation):
    """Change an image by ``operations`` draws from a list, one after the other, all at one magnitude of 0 to 10.

    At 10: turns of 30 degrees, shears of 0.3, moves of 0.3 of the side, factors of brightness, contrast, colour and
    sharpness of 0.1 or 1.9, all either way; posterize drops 4 of 8 bits, solarize inverts everything. At 0 these
    change nothing; autocontrast, equalize and invert have no magnitude. What comes in from outside is black.

    Every image draws its own operations, and the batch is changed as one: only listed operations cost time. UDA's
    variant draws the magnitude anew for every operation, makes each with a chance of one half, and cuts out a square:
    ``[{kind: rand_augment, magnitude: null, chance: 0.5}, {kind: cutout, size: 16}]``.

    Args:
        operations: how many an image gets.
        magnitude: of all of them; null draws it from 0 to 10 for every operation.
        chance: of making an operation once it is drawn.
        among: what is drawn from; by default the paper's 14 (``invert`` is of UDA's list).
        probability: of changing an image at all.

    Reference:
        Cubuk et al., RandAugment, CVPR workshops 2020; Xie et al., Unsupervised Data Augmentation, NeurIPS 2020.
    """

    axes: ClassVar[int] = 3

    def __init__(
        self,
        *,
        operations: Annotated[int, Field(ge=1, description="changes of an image")] = 2,
        magnitude: Annotated[float | None, Field(ge=0, le=10, description="of the changes; null draws it")] = 5.0,
        chance: Annotated[float, Field(ge=0, le=1, description="of making a drawn change")] = 1.0,
        among: Annotated[tuple[Operation, ...], Field(min_length=1, description="changes to draw from")] = PAPER,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing an image")] = 1.0,
    ) -> None:
        super().__init__()
        self.operations = operations
        self.magnitude = magnitude
        self.chance = chance
        self.among = among
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch."""
        values = stream.values
        chosen = choose(len(values), self.probability, values, generator) & stream.present
        for _ in range(self.operations):
            draw = uniform((4, len(values)), values, generator)
            number = torch.floor(draw[0] * len(self.among)).long()
            number = torch.where((draw[1] < self.chance) & chosen, number, len(self.among))
            size = 10 * draw[2] if self.magnitude is None else torch.full_like(draw[2], self.magnitude)
            size = (size / 10).to(values.dtype)
            values = self.change(values, number, size, torch.where(draw[3] < 0.5, -size, size))
        return stream._replace(values=values)

    def change(
        self,
        values: Float[Tensor, "batch 3 height width"],
        number: Int[Tensor, " batch"],
        size: Size,
        signed: Size,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Make one operation of each image.

        Args:
            values: the images.
            number: place of the operation in ``among``; beyond its end, none.
            size: a tenth of the magnitude.
            signed: the same, either way.
        """
        for names, change in CHANGES:
            listed = [name for name in names if name in self.among]
            if not listed:
                continue
            draws = Draws({name: number == self.among.index(name) for name in listed}, size, signed)
            chosen = torch.stack(list(draws.rows.values())).any(0)
            if values.device.type == "cpu":  # elsewhere the host would have to wait to hear how many there are
                index = chosen.nonzero()[:, 0]
                if len(index):
                    values = values.index_copy(0, index, change(values[index], draws.of(index)))
            else:
                values = pick(chosen, change(values, draws), values)
        return values


@dataclass(frozen=True)
class Draws:
    """What is asked of some images.

    Attributes:
        rows: which images get an operation, for those that are listed.
        size: a tenth of the magnitude.
        signed: the same, either way.
    """

    rows: dict[Operation, Rows]
    size: Size
    signed: Size

    def of(self, index: Int[Tensor, " chosen"]) -> "Draws":
        """The same of fewer images."""
        return Draws({name: rows[index] for name, rows in self.rows.items()}, self.size[index], self.signed[index])

    def where(self, name: Operation, value: Tensor, other: Tensor) -> Tensor:
        """One value where the images get this operation, another elsewhere."""
        if name not in self.rows:
            return other
        return torch.where(self.rows[name].reshape(-1, *(1,) * (other.ndim - 1)), value, other)


def _move(values: Tensor, draws: Draws) -> Tensor:
    """Turn, slant or move, bilinear, all by one matrix."""
    ratio = values.shape[2] / values.shape[3]  # grid_sample measures both axes from -1 to 1
    nothing = torch.zeros_like(draws.signed)

    def amount(name: Operation, most: float) -> Tensor:
        return draws.where(name, most * draws.signed, nothing)

    angle = amount("rotate", math.pi / 6)
    first = [angle.cos(), (amount("shear_x", 0.3) - angle.sin()) * ratio, amount("translate_x", 0.6)]
    second = [(amount("shear_y", 0.3) + angle.sin()) / ratio, angle.cos(), amount("translate_y", 0.6)]
    matrix = torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)
    grid = F.affine_grid(matrix, list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, align_corners=False)


def _rescale(values: Tensor, draws: Draws) -> Tensor:
    """What multiplies all pixels of a colour and adds to them."""
    factor, shift = torch.ones_like(values[:, :, 0, 0]), torch.zeros_like(values[:, :, 0, 0])
    strength = 1 + 0.9 * draws.signed[:, None]
    factor = draws.where("brightness", strength, draws.where("contrast", strength, factor))
    if "contrast" in draws.rows:
        shift = draws.where("contrast", (1 - strength) * grey(values).mean((2, 3)), shift)
    factor = draws.where("invert", -torch.ones_like(factor), factor)
    shift = draws.where("invert", torch.ones_like(shift), shift)
    if "autocontrast" in draws.rows:
        wide, low = stretch_levels(values)
        factor, shift = draws.where("autocontrast", wide, factor), draws.where("autocontrast", low, shift)
    return (values * factor[..., None, None] + shift[..., None, None]).clamp(0, 1)


def _sharpen(values: Tensor, draws: Draws) -> Tensor:
    """What goes from a duller image through the image and beyond: colour from grey, sharpness from smooth."""
    dull = values
    if "color" in draws.rows:
        dull = draws.where("color", grey(values), dull)
    if "sharpness" in draws.rows:
        dull = draws.where("sharpness", smooth(values), dull)
    return torch.lerp(dull, values, (1 + 0.9 * draws.signed)[:, None, None, None]).clamp(0, 1)


CHANGES: tuple[tuple[tuple[Operation, ...], Callable[[Tensor, Draws], Tensor]], ...] = (
    (("rotate", "shear_x", "shear_y", "translate_x", "translate_y"), _move),
    (("brightness", "contrast", "invert", "autocontrast"), _rescale),
    (("color", "sharpness"), _sharpen),
    (("solarize",), lambda values, draws: solarise(values, 1 - draws.size)),
    (("posterize",), lambda values, draws: posterise(values, torch.round(4 * draws.size).long())),
    (("equalize",), lambda values, draws: equalise(values)),
)
