"""A number."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import Array
from fusionkit.core.registry import heads
from fusionkit.heads.single_label import clean
from fusionkit.heads.task import Task
from fusionkit.losses.loss import chosen, make_loss

SINGLE_PRECISION = float(np.finfo(np.float32).max)


class RegressionHead(nn.Module):
    """A linear layer whose answer is in standard deviations from the training mean, given in the label's unit.

    Mean and deviation are buffers: they travel with the weights and into the exported graph.

    Args:
        dim: width of the readout.
        mean: of the training labels.
        deviation: of the training labels, above 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 1"]:
        """Numbers in the label's unit for one batch."""
        answer: Tensor = self.linear(readout)
        answer = answer.to(torch.promote_types(answer.dtype, torch.float32))
        return self.mean.to(answer.dtype) + self.deviation.to(answer.dtype) * answer


@heads.register("regression")
class Regression(Task):
    """How large a number is.

    The loss is taken in standard deviations of the training labels, so that tasks of any unit weigh alike.

    Args:
        loss: a loss of numbers: ``squared_error`` aims at the mean, ``huber`` bears outliers.

    Example:
        ``tasks: {subtractions: {kind: regression, loss: {kind: huber, delta: 1.5}}}``
    """

    outcome: ClassVar[Literal["probabilities", "value"]] = "value"

    def __init__(
        self,
        *,
        loss: Annotated[
            str | dict[str, Any], chosen("value"), Field(description="a kind, or {kind: ..., option: ...}")
        ] = "squared_error",
    ) -> None:
        self.mean: float | None = None
        self.deviation: float | None = None
        self._loss = make_loss(loss, "value")

    def learn(self, labels: Sequence[str | None], name: str) -> None:
        self.encode(labels, name)

    def encode(self, labels: Sequence[str | None], name: str) -> Float[np.ndarray, " record"]:
        """Numbers as they stand in the table; None, empty cells and ``nan`` are missing."""
        targets = np.full(len(labels), np.nan, dtype=np.float32)
        for row, label in enumerate(labels):
            text = clean(label)
            try:
                value = float(text) if text else math.nan
            except ValueError:
                raise DataError(f"task {name!r} row {row + 1}: a label must be a number, but got {text!r}") from None
            if abs(value) > SINGLE_PRECISION:
                raise DataError(f"task {name!r} row {row + 1}: a label must be finite in float32, but got {text!r}")
            targets[row] = value
        return targets

    def fit(self, targets: Array, name: str) -> None:
        known = targets[~np.isnan(targets)].astype(np.float64)
        if not len(known):
            raise DataError(f"task {name!r}: training must have a labelled record, but all {len(targets)} are missing")
        mean, deviation = float(known.mean()), float(known.std()) if np.ptp(known) else 1.0
        if deviation < 1e-5 * abs(mean) and np.ptp(known):
            raise DataError(
                f"task {name!r}: labels must spread by more than 1e-5 of their mean, or float32 cannot tell them "
                f"apart (subtract a constant), but got mean {mean:g} and deviation {deviation:g}"
            )
        self.mean, self.deviation = mean, deviation

    def head(self, dim: int) -> RegressionHead:
        """As fitted; without `fit` the numbers come from the weights that are loaded."""
        if self.mean is None or self.deviation is None:
            return RegressionHead(dim)
        return RegressionHead(dim, self.mean, self.deviation)

    def loss(self, decision: Tensor, target: Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        mean, deviation = self._fitted()
        known = ~torch.isnan(target)
        value, truth = decision[:, 0], target.to(decision.dtype)
        nothing = torch.zeros_like(value)
        losses = self._loss(
            (torch.where(known, value, nothing) - mean) / deviation,
            (torch.where(known, truth, nothing) - mean) / deviation,
        )
        return torch.where(known, losses, nothing).sum(), known.to(losses.dtype).sum()

    def prior(self) -> Float[np.ndarray, " 1"]:
        """The training mean."""
        return np.array([self._fitted()[0]])

    def state(self) -> dict[str, Any]:
        return {**super().state(), "mean": self.mean, "deviation": self.deviation}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.mean, self.deviation = state["mean"], state["deviation"]

    def _fitted(self) -> tuple[float, float]:
        if self.mean is None or self.deviation is None:
            raise ConfigError("a regression task must be fitted to training targets before its loss or prior")
        return self.mean, self.deviation
