"""Restricted Boltzmann machines, learnt by contrastive divergence."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fusionkit.fusion.vectors import minibatches


class Moments(NamedTuple):
    """Mean statistics of visible and hidden units: of the data, of the model, or the difference of both."""

    weight: Float[Tensor, "visible hidden"]
    visible: Float[Tensor, " visible"]
    hidden: Float[Tensor, " hidden"]


class RBM:
    r"""Binary hidden units h over visible units v, which are binary or Gaussian of unit variance.

    .. math:: E(v, h) = -v^T W h - b^T v - a^T h, \qquad
              E_{Gauss}(v, h) = \tfrac12 \| v - b \|^2 - v^T W h - a^T h

    so that :math:`p(h = 1 | v) = \sigma(a + W^T v)` and :math:`v | h` is :math:`\sigma(b + W h)` or
    :math:`N(b + W h, 1)`. With W = (1, -1), a = 0.5 and b = (0.2, -0.3) the partition function is 12.930881 and
    p(v = 10) = 0.517780.

    Args:
        visible: how many visible units.
        hidden: how many hidden ones.
        gaussian: whether visible units are Gaussian.
        generator: draws the first weights, normal with deviation 0.01, and every sample.

    Reference:
        Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 14(8), 2002.
    """

    def __init__(self, visible: int, hidden: int, *, gaussian: bool, generator: torch.Generator) -> None:
        self.gaussian, self.generator = gaussian, generator
        self.weight = 0.01 * torch.randn(visible, hidden, generator=generator)
        self.visible = torch.zeros(visible)
        self.hidden = torch.zeros(hidden)

    def hide(self, visible: Float[Tensor, "row visible"]) -> Float[Tensor, "row hidden"]:
        """Probability that each hidden unit is on."""
        return torch.sigmoid(self.hidden + visible @ self.weight)

    def show(self, hidden: Float[Tensor, "row hidden"]) -> Float[Tensor, "row visible"]:
        """Mean of each visible unit: a probability where it is binary."""
        mean = self.visible + hidden @ self.weight.T
        return mean if self.gaussian else torch.sigmoid(mean)

    def free_energy(self, visible: Float[Tensor, "row visible"]) -> Float[Tensor, " row"]:
        """``-log sum_h exp(-E(v, h))``: log-likelihood, up to a constant of the model, with the other sign."""
        hidden = F.softplus(self.hidden + visible @ self.weight).sum(1)
        if self.gaussian:
            return (visible - self.visible).square().sum(1) / 2 - hidden
        return -(visible @ self.visible) - hidden

    def divergence(self, visible: Float[Tensor, "row visible"], steps: int) -> Moments:
        r"""The direction in which CD-k raises the likelihood: :math:`\langle v h \rangle_0 - \langle v h \rangle_k`.

        The chain starts at the data; hidden units are sampled on the way, and visible ones too, but the last hidden
        ones are probabilities.
        """
        first = self.hide(visible)
        hidden, model = first, visible
        for _ in range(steps):
            mean = self.show(self._bernoulli(hidden))
            model = mean + self._normal(mean) if self.gaussian else self._bernoulli(mean)
            hidden = self.hide(model)
        rows = len(visible)
        return Moments(
            (visible.T @ first - model.T @ hidden) / rows, (visible - model).mean(0), (first - hidden).mean(0)
        )

    def fit(
        self, rows: Float[Tensor, "row visible"], *, epochs: int, steps: int, lr: float, momentum: float = 0.9
    ) -> None:
        """Follow CD-k over minibatches of 100, momentum 0.5 in the first five passes, weight decay 2e-4.

        Args:
            rows: training data: numbers between 0 and 1, or standardised ones where visible units are Gaussian.
            epochs: passes.
            steps: k.
            lr: learning rate.
            momentum: from the sixth pass on.

        Reference:
            Hinton, "A Practical Guide to Training Restricted Boltzmann Machines", UTML TR 2010-003.
        """
        self.weight, self.visible, self.hidden = (x.to(rows) for x in (self.weight, self.visible, self.hidden))
        parameters = (self.weight, self.visible, self.hidden)
        speed = [torch.zeros_like(parameter) for parameter in parameters]
        for epoch in range(epochs):
            keep = 0.5 if epoch < 5 else momentum
            for part in minibatches(len(rows), 100, self.generator):
                direction = self.divergence(rows[part.to(rows.device)], steps)
                decayed = direction._replace(weight=direction.weight - 2e-4 * self.weight)
                for parameter, velocity, step in zip(parameters, speed, decayed, strict=True):
                    velocity.mul_(keep).add_(step, alpha=lr)
                    parameter.add_(velocity)

    def _bernoulli(self, probability: Tensor) -> Tensor:
        draw = torch.rand(probability.shape, generator=self.generator).to(probability)
        return (draw < probability).to(probability.dtype)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like)
