"""A head that guesses the subject, so that the trunk learns to hide it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.heads.classification import Classification

SUBJECT = "subject of the record"
"""Name of the target that the adversary learns; no task can have it."""


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: Tensor) -> Tensor:
        context.save_for_backward(strength)
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (strength,) = context.saved_tensors
        return -strength.to(gradients[0].dtype) * gradients[0], None


def reverse(x: Float[Tensor, "*rows"], strength: Float[Tensor, ""]) -> Float[Tensor, "*rows"]:
    """The same values; a gradient that comes back is turned around and multiplied by ``strength``."""
    reversed_: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


def strength(progress: Float[Tensor, ""]) -> Float[Tensor, ""]:
    r""":math:`2 / (1 + e^{-10 p}) - 1`: 0 at the start of training, 0.98661 half-way, nearly 1 at its end."""
    return 2 / (1 + (-10 * progress).exp()) - 1


class SubjectAdversary(nn.Module):
    r"""Guess the training subject from every readout, through a gradient that is reversed on its way back.

    The head learns to tell subjects apart; what makes the readout gets that gradient times :math:`-\lambda`, and
    learns to make them alike. With p from 0 to 1 through the training,

    .. math:: \lambda = \frac{2}{1 + e^{-10 p}} - 1

    Its classes are the training subjects: others are unknown to it, and it is no part of a trained model. One hidden
    layer as wide as the readout is our choice, and so is ``pace``: under Adam a head that is no faster than what it
    judges falls behind, and a readout that moves about deceives it although everything still shows there.

    Args:
        readouts: names of the vectors that task heads read; each gets a head of its own.
        dim: their width.
        subjects: names of the training subjects, in the order of the classes.
        steps: how many steps a whole training has.
        weight: what its loss counts beside the tasks'.
        pace: factor on the learning rate of its heads.

    Raises:
        ConfigError: there is one subject, from whom nobody is to be told apart.

    Reference:
        Ganin, Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015.
    """

    done: Tensor

    def __init__(
        self,
        readouts: Iterable[str],
        dim: int,
        subjects: Iterable[str],
        *,
        steps: int,
        weight: float = 1.0,
        pace: float = 30.0,
    ) -> None:
        super().__init__()
        self.task = Classification(classes=list(subjects))
        self.readouts = tuple(readouts)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, len(self.task.classes))) for _ in self.readouts
        )
        self.steps, self.weight, self.pace = steps, weight, pace
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def forward(self, readouts: Mapping[str, Float[Tensor, "batch dim"]]) -> dict[str, Float[Tensor, "batch subject"]]:
        """Log-probabilities of the subjects, by readout; counts a step in training."""
        share = strength(self.done / self.steps)
        if self.training:
            self.done += 1
        return {
            name: head(reverse(readouts[name], share)).float().log_softmax(-1)
            for name, head in zip(self.readouts, self.heads, strict=True)
        }

    def scales(self) -> dict[int, float]:
        """Factor on the learning rate, by the parameter's id; 1 for all that are not named."""
        return {id(p): self.pace for p in self.parameters()} if self.pace != 1 else {}
