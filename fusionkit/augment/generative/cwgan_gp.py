"""A Wasserstein GAN with gradient penalty whose networks know classes."""

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


@generators.register("cwgan_gp")
class CWGANGP(AdversarialAugmenter):
    """Conditional Wasserstein GAN with gradient penalty, of fully connected networks: the method of SEED and DEAP.

    The class stands one-hot beside noise and records. Weight 10, five critic updates a step and Adam at 1e-4 with
    (0, 0.9) are those of Gulrajani et al.; of the EEG papers it is known that they condition WGAN-GP on the class to make
    differential entropy and power. Three hidden layers of 512 (ReLU, and LeakyReLU of slope 0.2 in the critic), 128 numbers
    of normal noise and a linear output over standardised features are a reconstruction: their sizes could not be read.
    Records of few numbers want a lower weight: on three Gaussians in the plane, weight 10 swings to and fro, and 0.1, that of
    Gulrajani et al. for such toys, settles.

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
        Gulrajani et al., NeurIPS 2017; Luo & Lu, EEG data augmentation for emotion recognition using a conditional
        Wasserstein GAN, EMBC 2018; Luo et al., J. Neural Eng. 17 056021, 2020.
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
            inside, outside = latent + item.classes, item.width + item.classes
            maker = FullyConnected(inside, item.width, hidden=hidden, layers=layers, activation="relu")
            judge = FullyConnected(outside, 1, hidden=hidden, layers=layers, activation="leaky_relu", spectral=spectral)
            return maker, judge

        super().__init__(
            item,
            networks,
            Wasserstein(penalty),
            conditional=True,
            latent=latent,
            critic_steps=critic_steps,
            learning_rate=learning_rate,
            betas=(0.0, 0.9),
            average=average,
        )
