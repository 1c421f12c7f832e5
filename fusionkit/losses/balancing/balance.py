"""What every weighting of losses is: terms of the tasks, which training adds up."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

Outcome = Literal["probabilities", "value"]
Norms = Callable[[Float[Tensor, " task"]], Float[Tensor, " task"]]
"""From the tasks' losses to the norms of their gradients in the last shared layer."""


class Balance(nn.Module, ABC):
    """Weigh the losses of several tasks. Its keyword-only arguments are its recipe options.

    A task without a label in a batch has no term, and what is known of its weight stays as it is. Everything that is
    learned lies in parameters and buffers: the checkpoint is whole.

    Args:
        outcomes: of every task, in their order: what its decisions are.

    Attributes:
        compares_norms: whether it asks for norms of gradients.
    """

    kind: ClassVar[str]
    compares_norms: ClassVar[bool] = False

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        super().__init__()
        self.outcomes = tuple(outcomes)

    @abstractmethod
    def forward(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]) -> Float[Tensor, " task"]:
        """The terms that training adds up; 0 where the batch has no label of a task."""

    @abstractmethod
    def weights(self) -> Float[Tensor, " task"]:
        """What every task's loss counts now, without gradient."""

    def learn(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"], norms: Norms) -> None:
        """Hear of one training batch, whose terms are computed already."""

    def settle(self) -> None:
        """Hear that the optimiser made its step."""

    def close_epoch(self) -> None:
        """Hear that an epoch ended."""
