"""The first GAN, for every class."""

from torch import nn

from fusionkit.core.registry import generators

from .adversarial import AdversarialAugmenter
from .contest import Game
from .generator import Item
from .networks import (
    Average,
    CriticSteps,
    FullyConnected,
    GameForm,
    Hidden,
    Latent,
    Layers,
    LearningRate,
    Spectral,
)


@generators.register("gan")
class GAN(AdversarialAugmenter):
    """Generative adversarial network, of fully connected networks: a pair a class, for it knows no classes.

    The game, both of the generator's losses and k discriminator updates a step (the paper's k is 1) are those of algorithm 1.
    The networks, normal noise and Adam at 2e-4 with (0.5, 0.999) are a reconstruction; the paper has maxout in the
    discriminator and momentum.

    Args:
        item: what a record looks like; any shape, made flat.
        loss: ``non_saturating`` learns early, ``minimax`` is the game's own.
        latent: numbers of noise.
        hidden: width of hidden layers.
        layers: hidden layers.
        critic_steps: k, updates of the discriminator a step.
        learning_rate: of Adam.
        spectral: whether the discriminator's weights are normalised.
        average: decay of the averaged generator.

    Reference:
        Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014.
    """

    def __init__(
        self,
        item: Item,
        *,
        loss: GameForm = "non_saturating",
        latent: Latent = 128,
        hidden: Hidden = 512,
        layers: Layers = 3,
        critic_steps: CriticSteps = 1,
        learning_rate: LearningRate = 2e-4,
        spectral: Spectral = False,
        average: Average = 0.0,
    ) -> None:
        def networks() -> tuple[nn.Module, nn.Module]:
            maker = FullyConnected(latent, item.width, hidden=hidden, layers=layers, activation="relu")
            judge = FullyConnected(
                item.width, 1, hidden=hidden, layers=layers, activation="leaky_relu", spectral=spectral
            )
            return maker, judge

        super().__init__(
            item,
            networks,
            Game(loss),
            conditional=False,
            latent=latent,
            critic_steps=critic_steps,
            learning_rate=learning_rate,
            betas=(0.5, 0.999),
            average=average,
        )
