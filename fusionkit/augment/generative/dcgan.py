"""A GAN of convolutions, for every class."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import generators

from .adversarial import AdversarialAugmenter
from .contest import Game
from .generator import Item
from .networks import Average, CriticSteps, GameForm, Latent, LearningRate, Spectral, bounded

SMALLEST = 4  # side from which nothing is halved any more
WIDEST = 8  # how many times the outermost width the innermost may be


@generators.register("dcgan")
class DCGAN(AdversarialAugmenter):
    """Deep convolutional GAN of images, and of features as maps: a pair a class, for it knows no classes.

    The paper's: strided convolutions of 5 x 5 down and fractionally strided ones up, no pooling and no hidden layer that is
    fully connected; batch normalisation everywhere but in the generator's output and the discriminator's input; ReLU and a
    tanh output, LeakyReLU of slope 0.2 in the discriminator; weights from N(0, 0.02); 100 numbers of noise alike in (-1, 1);
    Adam at 2e-4 with (0.5, 0.999). An image of 64 x 64 is made from 1024 maps of 4 x 4, then 512, 256 and 128.

    Ours: sides are halved, rounded up, while they are over 4, whatever they are, and records are scaled to -1 and 1 by the
    least and the greatest training value of each colour. Features ``(time, channel, band)`` are maps of time by channel whose
    colours are bands; series are maps of one row whose colours are channels. With ``spectral`` the discriminator has no batch
    normalisation, as Miyato et al. have it.

    Args:
        item: what a record looks like.
        loss: ``non_saturating`` learns early, ``minimax`` is the game's own.
        latent: numbers of noise.
        width: maps of the outermost layer; each layer inside has twice as many, up to eight times.
        critic_steps: updates of the discriminator a step.
        learning_rate: of Adam.
        spectral: whether the discriminator's weights are normalised.
        average: decay of the averaged generator.

    Raises:
        ConfigError: no side is over 4.

    Reference:
        Radford, Metz & Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016.
    """

    def __init__(
        self,
        item: Item,
        *,
        loss: GameForm = "non_saturating",
        latent: Latent = 100,
        width: Annotated[int, Field(ge=1, description="maps of the outermost layer")] = 128,
        critic_steps: CriticSteps = 1,
        learning_rate: LearningRate = 2e-4,
        spectral: Spectral = False,
        average: Average = 0.0,
    ) -> None:
        colours, height, across = as_map(item)
        sides = halvings(height, across)
        if len(sides) == 1:
            raise ConfigError(
                f"dcgan must have maps with a side over {SMALLEST}, but those of {tuple(item.shape)} are {height} x {across}"
            )
        super().__init__(
            item,
            lambda: (Up(item, sides, colours, width, latent), Down(item, sides, colours, width, spectral)),
            Game(loss),
            conditional=False,
            latent=latent,
            critic_steps=critic_steps,
            learning_rate=learning_rate,
            betas=(0.5, 0.999),
            average=average,
            noise="uniform",
        )

    def prepare(self, values: Float[Tensor, "record *item"], label: Int[Tensor, " record"]) -> None:
        """Learn the least and the greatest value of each colour, which become -1 and 1."""
        del label
        colours = values.flatten(0, -2) if self.item.level == "features" else _colours_last(values)
        least, most = colours.amin(0), colours.amax(0)
        scale = torch.where(most > least, (most - least) / 2, torch.ones_like(most))
        for kept, found in ((self.shift, (most + least) / 2), (self.scale, scale)):
            fits = (
                found if self.item.level == "features" or kept.ndim == 1 else found.reshape(-1, *(1,) * (kept.ndim - 1))
            )
            kept.copy_(fits.expand_as(kept))


def _colours_last(values: Tensor) -> Tensor:
    """Windows as ``(number, colour)``; a window of one axis has one colour."""
    return values.reshape(-1, 1) if values.ndim == 2 else values.movedim(1, -1).flatten(0, -2)


def as_map(item: Item) -> tuple[int, int, int]:
    """Colours, height and width of a record as a map.

    Features of 1 step, 62 channels and 5 bands are 5 colours of 1 x 62, a window of 62 channels by 200 samples is 62 colours
    of 1 x 200.

    Raises:
        ConfigError: a window has over three axes.
    """
    shape = tuple(item.shape)
    if item.level == "features":
        return shape[2], shape[0], shape[1]
    if len(shape) > 3:
        raise ConfigError(f"dcgan must have windows of three axes at most, but got {shape}")
    padded = (1,) * (2 - len(shape)) + shape
    return padded if len(padded) == 3 else (padded[0], 1, padded[1])


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Sides of every layer's maps from the outside in: 64 x 64 becomes 32, 16, 8, 4; 1 x 62 becomes 1 x 31, 16, 8, 4."""
    sides = [(height, width)]
    while max(sides[-1]) > SMALLEST:
        sides.append(tuple(-(-side // 2) if side > SMALLEST else side for side in sides[-1]))  # type: ignore[arg-type]
    return sides


def _widths(sides: list[tuple[int, int]], width: int) -> list[int]:
    return [width * min(2**place, WIDEST) for place in range(len(sides) - 1)]


def _steps(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding between two layers' sides."""
    kernel = (1 if outer[0] == 1 else 5, 1 if outer[1] == 1 else 5)
    stride = (1 if outer[0] == inner[0] else 2, 1 if outer[1] == inner[1] else 2)
    return kernel, stride, (kernel[0] // 2, kernel[1] // 2)


class Up(nn.Module):
    """The generator: noise to the innermost maps, then fractionally strided convolutions outward."""

    def __init__(self, item: Item, sides: list[tuple[int, int]], colours: int, width: int, latent: int) -> None:
        super().__init__()
        self.features = item.level == "features"
        widths = _widths(sides, width)
        self.inside = (widths[-1], *sides[-1])
        self.start = nn.Linear(latent, widths[-1] * sides[-1][0] * sides[-1][1], bias=False)
        parts: list[nn.Module] = [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
        for place in reversed(range(len(widths))):
            kernel, stride, padding = _steps(sides[place], sides[place + 1])
            least = [(inner - 1) * by + 1 for inner, by in zip(sides[place + 1], stride, strict=True)]
            more = (sides[place][0] - least[0], sides[place][1] - least[1])
            outputs = widths[place - 1] if place else colours
            parts.append(
                nn.ConvTranspose2d(
                    widths[place], outputs, kernel, stride, padding, output_padding=more, bias=place == 0
                )
            )
            parts.extend([nn.BatchNorm2d(outputs), nn.ReLU()] if place else [nn.Tanh()])
        self.layers = nn.Sequential(*parts)
        _start_small(self)

    def forward(
        self, noise: Float[Tensor, "record latent"], beside: Float[Tensor, "record 0"]
    ) -> Float[Tensor, "record *item"]:
        """Make maps, and turn features' axes back to ``(time, channel, band)``."""
        del beside
        maps: Tensor = self.layers(self.start(noise).unflatten(1, self.inside))
        return maps.permute(0, 2, 3, 1) if self.features else maps


class Down(nn.Module):
    """The discriminator: strided convolutions inward, and one number of all that is left."""

    def __init__(self, item: Item, sides: list[tuple[int, int]], colours: int, width: int, spectral: bool) -> None:
        super().__init__()
        self.features = item.level == "features"
        self.outside = (colours, *sides[0])
        widths = _widths(sides, width)
        parts: list[nn.Module] = []
        for place, outputs in enumerate(widths):
            kernel, stride, padding = _steps(sides[place], sides[place + 1])
            normed = place > 0 and not spectral
            inputs = widths[place - 1] if place else colours
            parts.append(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=not normed))
            parts.extend([nn.BatchNorm2d(outputs)] if normed else [])
            parts.append(nn.LeakyReLU(0.2))
        parts += [nn.Flatten(), nn.Linear(widths[-1] * sides[-1][0] * sides[-1][1], 1)]
        self.layers = nn.Sequential(*parts)
        _start_small(self)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                bounded(layer, spectral)

    def forward(
        self, values: Float[Tensor, "record *item"], beside: Float[Tensor, "record 0"]
    ) -> Float[Tensor, "record 1"]:
        """Judge records."""
        del beside
        maps = values.permute(0, 3, 1, 2) if self.features else values.reshape(len(values), *self.outside)
        found: Tensor = self.layers(maps)
        return found


def _start_small(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0, as the paper has it."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
