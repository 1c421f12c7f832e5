"""What two networks that learn against each other minimise: the game of 2014, and Wasserstein's distance."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .gradient_penalty import gradient_penalty

Judge = Callable[[Float[Tensor, "batch *item"]], Float[Tensor, " batch"]]


class Contest(ABC):
    """The losses of a judge of records and of a maker of records.

    Attributes:
        judge: what the judge is called in logs.
    """

    judge: ClassVar[str]

    @abstractmethod
    def judging(
        self, judge: Judge, real: Tensor, made: Tensor, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What the judge minimises, of real and made records (without gradient); beside it what is logged."""

    @abstractmethod
    def making(self, judge: Judge, made: Tensor) -> Float[Tensor, ""]:
        """What the maker minimises, of its records."""


@dataclass(frozen=True)
class Game(Contest):
    r"""Real against made, where D is the sigmoid of the judge's number:

    .. math:: V(D, G) = E \log D(x) + E \log(1 - D(G(z)))

    The discriminator minimises :math:`-V`. The generator minimises :math:`E \log(1 - D(G(z)))` (``minimax``), or
    :math:`-E \log D(G(z))` (``non_saturating``), whose gradient does not vanish where it loses: by the number :math:`l`
    it is :math:`-(1 - \sigma(l))`, that of minimax :math:`-\sigma(l)`. Where D is 1/2 everywhere, V is -1.386294.

    Reference:
        Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014, equation 1 and algorithm 1.
    """

    judge: ClassVar[str] = "discriminator"
    form: Literal["minimax", "non_saturating"] = "non_saturating"

    def judging(
        self, judge: Judge, real: Tensor, made: Tensor, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The value of the game, negative; logged are it and the mean of D over real and made records."""
        del generator
        right, wrong = judge(real), judge(made)
        value = F.logsigmoid(right).mean() + F.logsigmoid(-wrong).mean()
        seen = {"value": value, "real": right.sigmoid().mean(), "made": wrong.sigmoid().mean()}
        return -value, {name: number.detach() for name, number in seen.items()}

    def making(self, judge: Judge, made: Tensor) -> Float[Tensor, ""]:
        """The generator's part, as ``form`` says."""
        numbers = judge(made)
        return F.logsigmoid(-numbers).mean() if self.form == "minimax" else -F.logsigmoid(numbers).mean()


@dataclass(frozen=True)
class Wasserstein(Contest):
    r"""Distance between real and made by a critic of slope 1:

    .. math:: E D(\tilde x) - E D(x) + \lambda E (\lVert\nabla D(\hat x)\rVert_2 - 1)^2

    is what the critic minimises, :math:`-E D(\tilde x)` what the generator minimises. A critic that gives real records 3
    and made ones 1, with slope 1, has the loss -2 and estimates the distance as 2.

    Args:
        weight: :math:`\lambda` of the penalty.

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, algorithm 1.
    """

    judge: ClassVar[str] = "critic"
    weight: float = 10.0

    def judging(
        self, judge: Judge, real: Tensor, made: Tensor, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The critic's loss; logged are the estimate of the distance and the penalty without its weight."""
        distance = judge(real).mean() - judge(made).mean()
        penalty = gradient_penalty(judge, real, made, generator)
        seen: Mapping[str, Tensor] = {"wasserstein": distance, "gradient_penalty": penalty}
        return self.weight * penalty - distance, {name: number.detach() for name, number in seen.items()}

    def making(self, judge: Judge, made: Tensor) -> Float[Tensor, ""]:
        """The made records' mean, negative."""
        return -judge(made).mean()
