"""A Wasserstein GAN with gradient penalty for every class."""

from torch import nn

from fusionkit.core.registry import generators

from .adversarial import AdversarialAugmenter
from .contest import Wasserstein
from .generator import Item
from .networks import (
    Average,
    CriticSteps,
    FullyConnected,
    Hidden,
    Latent,
    Layers,
    LearningRate,
    PenaltyWeight,
    Spectral,
)


@generators.register("wgan_gp")
class WGANGP(AdversarialAugmenter):
    """Wasserstein GAN with gradient penalty, of fully connected networks: a pair a class, for it knows no classes.

    Weight 10, five critic updates a step and Adam at 1e-4 with (0, 0.9) are the paper's, and so is a critic without batch
    normalisation. The networks are those of `cwgan_gp`, a reconstruction.

    Args:
        item: what a record looks like; any shape, made flat.
        latent: numbers of noise.
        hidden: width of hidden layers.
        layers: hidden layers.
        penalty: weight of the gradient penalty.
        critic_steps: updates of the critic a step.
        learning_rate: of Adam.
        spectral: whether the critic's weights are normalised.
        average: decay of the averaged generator.

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017.
    """

    def __init__(
        self,
        item: Item,
        *,
        latent: Latent = 128,
        hidden: Hidden = 512,
        layers: Layers = 3,
        penalty: PenaltyWeight = 10.0,
        critic_steps: CriticSteps = 5,
        learning_rate: LearningRate = 1e-4,
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
            Wasserstein(penalty),
            conditional=False,
            latent=latent,
            critic_steps=critic_steps,
            learning_rate=learning_rate,
            betas=(0.0, 0.9),
            average=average,
        )
