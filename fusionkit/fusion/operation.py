"""What every fusion operation is: one class at one level. Registered in its own file, one file an operation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

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

    Attributes:
        shares_heads: whether its `streams` are read by the heads of the node itself, not by heads of their own.
    """

    level: ClassVar[Level] = "intermediate"
    shares_heads: ClassVar[bool] = False

    def __init__(self, inputs: Mapping[str, int], dim: int, duration: float | None) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        self.dim = dim
        self.duration = duration

    @abstractmethod
    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens | Fused:
        """Join one batch. The result is present where any input is."""

    @property
    def streams(self) -> Mapping[str, float]:
        """Streams that learn the tasks by themselves, with the weights of their losses: the keys of `Fused.streams`."""
        return {}

    def readout(self, tokens: Tokens) -> Float[Tensor, "batch dim"] | None:
        """The vector that heads read, where it is not the mean over tokens (a causal stream's last step)."""
        return None


class LateFusion(FusionOperation):
    """Merge the branches' decisions about one task; the builder makes one for every task.

    Args:
        inputs: names of the branches.

    Attributes:
        takes_evidence: whether branches give numbers that become evidence, not log-probabilities.
        own_loss: whether `loss` trains branches and merged decision, in place of the task's loss of every branch.
        held_out: in how many inner folds branches must be trained, so that `Fittable.fit` sees decisions about
            training records that no branch has seen; 0 means none.
    """

    level: ClassVar[Level] = "late"
    takes_evidence: ClassVar[bool] = False
    own_loss: ClassVar[bool] = False
    held_out: int = 0

    def __init__(self, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.inputs = tuple(inputs)

    def bind(self, prior: Float[Tensor, "*outcome"]) -> None:
        """Hear of the task, once: what to answer without any sensor (`Task.prior`), in the form of a decision row."""

    def loss(
        self,
        decisions: Float[Tensor, "branch batch class_"],
        present: Bool[Tensor, "branch batch"],
        target: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sums of losses and of weights over labelled records, where ``own_loss``; a target is NaN where missing."""
        raise NotImplementedError

    def close_epoch(self) -> None:
        """Hear that an epoch of training ended."""

    @abstractmethod
    def merge_log_probabilities(
        self, decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch *outcome"]:
        """Merge normalised log-probabilities (last axis) into normalised log-probabilities.

        A branch that is absent counts as not there; with none present the outcome is uniform, or the prior.
        """

    @abstractmethod
    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Merge numbers (a regression); with no branch present the mean of all branches' answers."""


class TrainingBatch(dict[str, Any]):
    """Some training records as an operation takes them, by input, which also know what is right.

    The values are `Features`, `Tokens` or `Decision`, by the operation's level.

    Attributes:
        targets: by task, NaN where the label is missing: ``(batch,)`` class indices, ``(batch, 1)`` values or
            ``(batch, label)`` zeros and ones. A late operation, made for one task, gets that task alone.
    """

    targets: Mapping[str, Tensor]

    def __init__(self, inputs: Mapping[str, Any], targets: Mapping[str, Tensor]) -> None:
        super().__init__(inputs)
        self.targets = targets


@runtime_checkable
class Fittable(Protocol):
    """A component that is fitted before or beside gradient training, once a fold.

    ``training_batches()`` gives a fresh pass over the batches of training records, in one order; nothing of a pass
    has a gradient, and ``fit`` runs without: what trains inside enables it for itself. Everything that is learnt
    must lie in parameters and buffers whose shapes are known before, since they are the checkpoint; what else
    follows from them is taken up again by a hook after a state is loaded.
    """

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Learn from training records alone; every draw comes from the generator, which lives on the CPU."""
