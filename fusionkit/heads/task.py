"""What every task is: how labels become targets, what a head answers, what its loss and probabilities are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.modality import Array


class Task(ABC):
    """One question the model answers. Its keyword-only arguments are its recipe options.

    A decision is in one form per task, so that late fusion and losses need no special cases:
    normalised log-probabilities ``(batch, class)`` for classification and ordinal tasks,
    ``(batch, label, 2)`` (no, yes) for multi-label ones, values ``(batch, 1)`` in the label's unit for regression.

    Targets are float: class index, value, or a 0/1 row per label; NaN where the label is missing.

    Attributes:
        mergeable: whether a late node can merge decisions about it.
    """

    kind: ClassVar[str]
    outcome: ClassVar[Literal["probabilities", "value"]] = "probabilities"
    classes: tuple[str, ...] = ()
    mergeable: bool = True

    @abstractmethod
    def learn(self, labels: Sequence[str | None], name: str) -> None:
        """Take classes that the recipe does not list from the labels of the whole study (names only, no counts).

        Raises:
            DataError: a label is outside the classes or no number; the message names task, row and value.
        """

    @abstractmethod
    def encode(self, labels: Sequence[str | None], name: str) -> Float[np.ndarray, "record *label"]:
        """Labels as they stand in the table to targets; None and empty cells are missing.

        Raises:
            DataError: as `learn`.
        """

    @abstractmethod
    def fit(self, targets: Array, name: str) -> None:
        """See the training targets of a fold: class weights, the mean and spread of values.

        Raises:
            DataError: a class does not occur in training, or nothing is labelled.
        """

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """A module from a readout ``(batch, dim)`` to a decision."""

    def evidence_head(self, dim: int) -> nn.Module:
        """A module from a readout to ``(batch, class)`` numbers that become evidence, for an evidential late node.

        Raises:
            ConfigError: the task is no choice between classes.
        """
        raise ConfigError(f"evidence is for one of several classes, but a {self.kind} task has no such answer")

    @abstractmethod
    def loss(self, decision: Tensor, target: Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sum of weighted losses over labelled records, and the sum of their weights (0 where none is labelled)."""

    def prediction(self, decision: Tensor) -> Tensor:
        """Decisions as what a user reads and metrics score: probabilities, or values."""
        return decision if self.outcome == "value" else decision.exp()

    @abstractmethod
    def prior(self) -> Array:
        """What to answer without any sensor: the training prior, in the form of a decision row (no batch)."""

    def state(self) -> dict[str, Any]:
        """What `learn` and `fit` took from the data, as plain JSON values: goes with a run and a bundle."""
        return {"classes": list(self.classes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave: the task is as if it had learned and been fitted."""
        self.classes = tuple(state["classes"])
