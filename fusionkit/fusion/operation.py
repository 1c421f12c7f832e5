"""What every fusion operation is: one class at one level. Registered in its own file, one file an operation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.levels import Features, FeatureShape, Fused, Tokens

Level = Literal["early", "intermediate", "late"]


class FusionOperation(nn.Module, ABC):
    """One operation over named inputs; ``level`` says which currency it takes.

    Attributes:
        kind: its registered name.
        exempt: checks of the conformance suite that its definition breaks, each with the reason.
    """

    kind: ClassVar[str]
    level: ClassVar[Level]
    exempt: ClassVar[Mapping[str, str]] = {}


class EarlyFusion(FusionOperation):
    """Join features into one feature stream, which then has one encoder.

    Args:
        inputs: what is known of each feature stream.
        duration: length of the longest window in seconds: the clock that timed streams share; None if none has time.
    """

    level: ClassVar[Level] = "early"

    def __init__(self, inputs: Mapping[str, FeatureShape], duration: float | None) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.duration = duration

    @property
    @abstractmethod
    def shape(self) -> FeatureShape:
        """What is known of the joint stream."""

    @abstractmethod
    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Join one batch. The result is present where any input is."""


class IntermediateFusion(FusionOperation):
    """Join token streams into one.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: as in `EarlyFusion`.
    """

    level: ClassVar[Level] = "intermediate"

    def __init__(self, inputs: Mapping[str, int], dim: int, duration: float | None) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.dim = dim
        self.duration = duration

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens | Fused:
        """Join one batch. The result is present where any input is."""

    def readout(self, tokens: Tokens) -> Float[Tensor, "batch dim"] | None:
        """The vector that heads read, where it is not the mean over tokens (a causal stream's last step)."""
        return None


class LateFusion(FusionOperation):
    """Merge the branches' decisions about one task; the builder makes one for every task.

    Args:
        inputs: names of the branches.
    """

    level: ClassVar[Level] = "late"

    def __init__(self, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.inputs = tuple(inputs)

    @abstractmethod
    def merge_log_probabilities(
        self, decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch *outcome"]:
        """Merge normalised log-probabilities (last axis) into normalised log-probabilities.

        A branch that is absent counts as not there; with none present the outcome is uniform.
        """

    @abstractmethod
    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Merge numbers (a regression); with no branch present the mean of all branches' answers."""


@runtime_checkable
class Fittable(Protocol):
    """A component that is fitted before or beside gradient training, once a fold.

    ``training_batches()`` gives a fresh pass over the batches of training records, each a mapping from input
    name to what the operation takes at its level.
    """

    def fit(self, training_batches: Callable[[], Iterable[Mapping[str, Features]]], generator: torch.Generator) -> None:
        """Learn from training records alone."""
