"""The first GAN whose networks know classes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.registry import generators

from .adversarial import AdversarialAugmenter
from .contest import Game
from .generator import Item
from .networks import Average, CriticSteps, GameForm, Latent, LearningRate, Spectral, bounded, start


@generators.register("cgan")
class CGAN(AdversarialAugmenter):
    """Conditional generative adversarial network: class and noise, or class and record, each through a layer, then joined.

    The widths are the paper's for MNIST: 200 for noise and 1000 for the class, then 1200 (ReLU); in the discriminator maxout
    of 240 units and 5 pieces for the record, 50 and 5 for the class, then 240 and 4; noise of 100 numbers, which we draw
    alike in (-1, 1). Ours are a linear output over standardised records (the paper has a sigmoid over pixels), Adam at 2e-4
    with (0.5, 0.999) instead of momentum, and no dropout.

    Args:
        item: what a record looks like; any shape, made flat.
        loss: ``non_saturating`` learns early, ``minimax`` is the game's own.
        latent: numbers of noise.
        critic_steps: updates of the discriminator a step.
        learning_rate: of Adam.
        spectral: whether the discriminator's weights are normalised.
        average: decay of the averaged generator.

    Reference:
        Mirza & Osindero, Conditional Generative Adversarial Nets, arXiv 1411.1784, 2014.
    """

    def __init__(
        self,
        item: Item,
        *,
        loss: GameForm = "non_saturating",
        latent: Latent = 100,
        critic_steps: CriticSteps = 1,
        learning_rate: LearningRate = 2e-4,
        spectral: Spectral = False,
        average: Average = 0.0,
    ) -> None:
        def networks() -> tuple[nn.Module, nn.Module]:
            maker = _Joined(
                nn.Sequential(start(nn.Linear(latent, 200), rectified=True), nn.ReLU()),
                nn.Sequential(start(nn.Linear(item.classes, 1000), rectified=True), nn.ReLU()),
                nn.Sequential(
                    start(nn.Linear(1200, 1200), rectified=True), nn.ReLU(), start(nn.Linear(1200, item.width))
                ),
            )
            judge = _Joined(
                Maxout(item.width, 240, 5, spectral),
                Maxout(item.classes, 50, 5, spectral),
                nn.Sequential(Maxout(290, 240, 4, spectral), bounded(nn.Linear(240, 1), spectral)),
            )
            return maker, judge

        super().__init__(
            item,
            networks,
            Game(loss),
            conditional=True,
            latent=latent,
            critic_steps=critic_steps,
            learning_rate=learning_rate,
            betas=(0.5, 0.999),
            average=average,
            noise="uniform",
        )


class _Joined(nn.Module):
    """Noise or records through one part, classes through another, both through a third."""

    def __init__(self, first: nn.Module, second: nn.Module, both: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.both = first, second, both

    def forward(
        self, values: Float[Tensor, "record *item"], beside: Float[Tensor, "record beside"]
    ) -> Float[Tensor, "record output"]:
        """Map both side by side."""
        found: Tensor = self.both(torch.cat([self.first(values.flatten(1)), self.second(beside)], 1))
        return found


class Maxout(nn.Module):
    """The largest of several linear maps, unit by unit.

    Two pieces x and -x of one unit make its absolute value.

    Args:
        inputs: width of what comes in.
        units: width of what goes out.
        pieces: linear maps a unit.
        spectral: as in `networks.bounded`.

    Reference:
        Goodfellow et al., Maxout Networks, ICML 2013.
    """

    def __init__(self, inputs: int, units: int, pieces: int, spectral: bool = False) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = bounded(nn.Linear(inputs, units * pieces), spectral)

    def forward(self, values: Float[Tensor, "record input"]) -> Float[Tensor, "record unit"]:
        """Map a batch; outputs of the linear map stand unit after unit, pieces inside."""
        mapped: Tensor = self.linear(values)
        return mapped.reshape(len(values), self.units, self.pieces).amax(2)
