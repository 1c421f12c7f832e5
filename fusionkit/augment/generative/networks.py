"""The fully connected networks of generative augmenters, and what all their networks share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Latent = Annotated[int, Field(ge=1, description="numbers of noise that a record is made of")]
Hidden = Annotated[int, Field(ge=1, description="width of every hidden layer")]
Layers = Annotated[int, Field(ge=1, description="hidden layers of each network")]
LearningRate = Annotated[float, Field(gt=0, description="of Adam, for every network")]
CriticSteps = Annotated[int, Field(ge=1, description="updates of the critic a step, each on a batch of its own")]
GameForm = Annotated[
    Literal["minimax", "non_saturating"], Field(description="what the generator minimises of the game")
]
PenaltyWeight = Annotated[float, Field(ge=0, description="of the gradient penalty")]
Spectral = Annotated[bool, Field(description="divide the critic's weights by their largest singular value")]
Average = Annotated[float, Field(ge=0, lt=1, description="decay of the averaged generator that samples; 0 is none")]


class FullyConnected(nn.Module):
    """Hidden layers of one width over two inputs side by side, and a linear output; it starts as `start` says.

    Args:
        inputs: width of both inputs together.
        outputs: width of the output.
        hidden: width of every hidden layer.
        layers: how many of them.
        activation: after each; ``leaky_relu`` keeps 0.2 of what is negative.
        spectral: whether every weight is divided by its largest singular value (Miyato et al., ICLR 2018).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int,
        layers: int,
        activation: Literal["relu", "leaky_relu"],
        spectral: bool = False,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for width in [inputs] + [hidden] * (layers - 1):
            parts.append(bounded(start(nn.Linear(width, hidden), rectified=True), spectral))
            parts.append(nn.ReLU() if activation == "relu" else nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*parts, bounded(start(nn.Linear(hidden, outputs)), spectral))

    def forward(
        self, values: Float[Tensor, "record *item"], beside: Float[Tensor, "record beside"]
    ) -> Float[Tensor, "record output"]:
        """Map noise, or records made flat, with classes one-hot beside them (of width 0 where there are none)."""
        found: Tensor = self.layers(torch.cat([values.flatten(1), beside], 1))
        return found


def start(layer: nn.Linear, *, rectified: bool = False) -> nn.Linear:
    """The layer with He's uniform weights before a rectifier, Glorot's elsewhere, and biases 0.

    A generator so begins with records about as spread as its noise; torch's own weights make them ten times narrower, and
    few steps against a critic do not widen them.
    """
    if rectified:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def bounded(layer: nn.Module, spectral: bool) -> nn.Module:
    """The layer as it is, or with spectral normalisation: its largest singular value is 1, by one power iteration."""
    return parametrizations.spectral_norm(layer) if spectral else layer


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """While this lasts, what is computed gives no gradient to the module's parameters; it passes through to inputs."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; then the mode that was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def batches(count: int, most: int = 1024) -> Iterator[slice]:
    """Cut so many records into parts that fit into memory; one empty part where there are none."""
    for start in range(0, max(count, 1), most):
        yield slice(start, min(start + most, count))


def own_rows(label: Int[Tensor, " batch"], class_: int, take: int) -> tuple[Int[Tensor, " take"], Float[Tensor, ""]]:
    """So many rows of one class, in order and again from the start where there are fewer; without a host copy.

    The number beside them is 1, or 0 where the batch has none of the class, and the rows are others'. Of classes
    (0, 1, 0, 1) four rows of class 1 are 1, 3, 1, 3.
    """
    own = label == class_
    order = (~own).to(torch.uint8).argsort(stable=True)
    count = own.sum()
    place = torch.arange(take, device=label.device) % count.clamp_min(1)
    return order[place], (count > 0).to(torch.float32)


def average(shadow: nn.Module, module: nn.Module, decay: float) -> None:
    """Move averaged weights toward the weights: ``decay * shadow + (1 - decay) * weights``; other state is copied.

    Decay 0.9, average 1 and weight 2 give 1.1.
    """
    with torch.no_grad():
        weights: list[Tensor] = list(module.parameters())
        averaged: list[Tensor] = list(shadow.parameters())
        torch._foreach_lerp_(averaged, weights, 1 - decay)
        for kept, buffer in zip(shadow.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)
