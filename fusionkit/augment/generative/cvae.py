"""A variational autoencoder whose networks know classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fusionkit.augment.augmentation import normal
from fusionkit.core.registry import generators

from .generator import GenerativeAugmenter, Item, Made, Turn
from .networks import Average, FullyConnected, Hidden, Latent, Layers, LearningRate, average, batches, evaluating


@generators.register("cvae")
class CVAE(GenerativeAugmenter):
    r"""Conditional variational autoencoder, whose encoder and decoder are fully connected and know the class.

    With the encoder :math:`q(z | x, y)` and the decoder :math:`p(x | z, y)` it minimises
    :math:`\lVert x - \hat x \rVert^2 + KL(q(z | x, y) \,\Vert\, N(0, I))`, summed over a record's numbers and
    averaged over records, with one draw of z a record: the negative bound of a Gaussian of variance 1/2, up to a constant.
    A record is made as the decoder's mean of normal noise, without noise of its own, so that it varies less than real ones.
    Sohn et al. condition the prior on what is given, too; ours is N(0, I), as in the EEG paper's line. Layer sizes and the
    learning rate are a reconstruction, those of `cwgan_gp`'s generator.

    Args:
        item: what a record looks like; any shape, made flat.
        latent: width of z.
        hidden: width of hidden layers.
        layers: hidden layers.
        learning_rate: of Adam.
        average: decay of the averaged decoder.

    Reference:
        Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014; Sohn et al., NeurIPS 2015; Luo et al.,
        J. Neural Eng. 17 056021, 2020.
    """

    def __init__(
        self,
        item: Item,
        *,
        latent: Latent = 128,
        hidden: Hidden = 512,
        layers: Layers = 3,
        learning_rate: LearningRate = 1e-3,
        average: Average = 0.0,
    ) -> None:
        super().__init__(item)
        self.latent, self.learning_rate, self.decay = latent, learning_rate, average
        inside, outside = latent + item.classes, item.width + item.classes
        self.encoder = FullyConnected(outside, 2 * latent, hidden=hidden, layers=layers, activation="relu")
        self.decoder = FullyConnected(inside, item.width, hidden=hidden, layers=layers, activation="relu")
        self.averaged = None
        if average:
            self.averaged = FullyConnected(inside, item.width, hidden=hidden, layers=layers, activation="relu")
            self.averaged.load_state_dict(self.decoder.state_dict())
            self.averaged.requires_grad_(False)
        self.register_buffer("codes", torch.eye(item.classes), persistent=False)

    codes: Float[Tensor, "class_ class_"]

    def turns(self) -> Sequence[Turn]:
        """Both networks at once."""
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        return (Turn("autoencoder", parameters, self._loss, self._adam),)

    def settle(self) -> None:
        """Move the averaged decoder."""
        if self.averaged is not None:
            average(self.averaged, self.decoder, self.decay)

    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Decode normal noise beside the wanted classes."""
        decoder = self.decoder if self.averaged is None else self.averaged
        label = label.to(self.shift.device)
        with evaluating(self):
            noise = normal((len(label), self.latent), self.shift, generator)
            flat = torch.cat([decoder(noise[part], self.codes[label[part]]) for part in batches(len(label))])
            values = self.restore(flat.reshape(len(label), *self.item.shape))
            return Made(values, label, torch.ones_like(label, dtype=values.dtype))

    def _loss(
        self, values: Tensor, label: Tensor, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        classes = self.codes[label]
        mean, logarithm = self.encoder(values, classes).chunk(2, 1)
        noise = normal((len(values), self.latent), mean, generator)
        found = self.decoder(mean + (logarithm / 2).exp() * noise, classes)
        error = (found - values.flatten(1)).square().sum(1).mean()
        apart = divergence(mean, logarithm).mean()
        return error + apart, {"reconstruction": error.detach(), "divergence": apart.detach()}

    def _adam(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.learning_rate)


def divergence(
    mean: Float[Tensor, "batch latent"], logarithm: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    r"""Kullback-Leibler divergence of a Gaussian from N(0, I), of its mean and the logarithm of its variance.

    :math:`\tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2)`: mean 1 and variance 1 give 0.5 nats.
    """
    return (mean.square() + logarithm.exp() - 1 - logarithm).sum(1) / 2
