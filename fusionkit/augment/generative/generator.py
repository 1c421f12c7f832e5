"""What every generative augmenter is: it learns the records of a sensor by class, and makes new ones of a wanted class."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fusionkit.core.levels import WindowShape


@dataclass(frozen=True)
class Item:
    """What one record of a sensor looks like to a generator.

    Attributes:
        level: ``features`` ``(time, channel, subchannel)``, normalised as the model gets them; or ``window``, raw.
        shape: of one record, without batch.
        classes: how many classes the records have.
        places: where each channel sits, in metres; None where unknown.
    """

    level: Literal["features", "window"]
    shape: WindowShape
    classes: int
    places: tuple[tuple[float, float, float], ...] | None = None

    @property
    def width(self) -> int:
        """Numbers of one record."""
        return math.prod(self.shape)


class Made(NamedTuple):
    """New records, as the sensor's own are scaled; a record of mixed classes is there once for each, with its share."""

    values: Float[Tensor, "record *item"]
    label: Int[Tensor, " record"]
    share: Float[Tensor, " record"]


class Turn(NamedTuple):
    """One player's part of a step: so many updates of some parameters by the gradient of a loss.

    Attributes:
        name: of the player (``critic``, ``generator``); its losses are logged under it.
        parameters: what the loss updates; nothing else may get a gradient from it.
        loss: of standardised records ``(batch, *item)``, their classes ``(batch,)`` and a generator of random numbers;
            beside it, what is logged (tensors without gradient, left on the device).
        optimiser: makes the optimiser of these parameters.
        times: updates a step, each on a batch of its own.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Tensor, Tensor, torch.Generator], tuple[Float[Tensor, ""], Mapping[str, Tensor]]]
    optimiser: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
    times: int = 1


class GenerativeAugmenter(nn.Module, ABC):
    """Make records of one sensor by class. Its keyword-only arguments are its recipe options.

    `prepare` is called once with the fold's training records; then, where ``turns`` has any, a trainer makes steps;
    then `sample` makes as many records as one wants. All state that `sample` needs is parameters and buffers, of shapes
    that depend on ``item`` and options alone; one that `keeps_records` is prepared anew instead of restored.

    Args:
        item: what a record looks like.

    Attributes:
        kind: its registered name, in the registry ``generators``.
        keeps_records: it makes changed copies of training records, which it holds.
        mixes: its records are of mixed classes, which classifiers learn by their shares and no model is trained on.

    Raises:
        ConfigError: it cannot make such records.
    """

    kind: ClassVar[str]
    keeps_records: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    shift: Float[Tensor, " *item"]
    scale: Float[Tensor, " *item"]

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item
        self.register_buffer("shift", torch.zeros(tuple(item.shape)))
        self.register_buffer("scale", torch.ones(tuple(item.shape)))

    def prepare(self, values: Float[Tensor, "record *item"], label: Int[Tensor, " record"]) -> None:
        """Learn mean and standard deviation of every number from the training records; what is constant keeps scale 1."""
        del label
        self.shift.copy_(values.mean(0))
        deviation = values.std(0, correction=0)
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def standardise(self, values: Float[Tensor, "record *item"]) -> Float[Tensor, "record *item"]:
        """As networks see records: zero mean, unit variance over the training records."""
        return (values - self.shift) / self.scale

    def restore(self, values: Float[Tensor, "record *item"]) -> Float[Tensor, "record *item"]:
        """Undo `standardise`."""
        return values * self.scale + self.shift

    def turns(self) -> Sequence[Turn]:
        """Who learns in a step, in order; none where nothing is trained."""
        return ()

    def settle(self) -> None:
        """Hear that a step was made, for moving averages of weights."""

    @abstractmethod
    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Make records of the wanted classes, on the module's device, in evaluation mode and without gradients."""
