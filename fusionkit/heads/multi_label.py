"""Any number of labels at once."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import Array
from fusionkit.core.registry import heads
from fusionkit.heads.quantity import QuantityHead, take_top
from fusionkit.heads.single_label import ClassName, check_classes, clean, outside, sort_classes
from fusionkit.heads.task import Task
from fusionkit.heads.yes_or_no import yes_or_no
from fusionkit.losses.loss import chosen, make_loss


class MultiLabelHead(nn.Module):
    """A linear layer and a log-sigmoid for each label's no and yes, in float32 at least.

    Args:
        dim: width of the readout.
        labels: how many labels there are.
        quantity: guesses how many of them a record has; its answer comes as a last label.
    """

    def __init__(self, dim: int, labels: int, quantity: QuantityHead | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, labels)
        self.quantity = quantity

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch answer 2"]:
        """Normalised log-probabilities (no, yes) of one batch."""
        decision = yes_or_no(self.linear(readout))
        return decision if self.quantity is None else torch.cat([decision, self.quantity(readout)], 1)


@heads.register("multi_label")
class MultiLabel(Task):
    r"""Which of several labels a record has; labels do not exclude one another.

    A cell names its labels, as in ``joy;surprise``. An empty cell is missing, not "none of them": that is what
    ``none`` is for.

    With ``quantity``, a `QuantityHead` beside the labels guesses how many there are, and the answer is the
    :math:`\mathrm{round}(\hat n)` likeliest labels (`take_top`): at least one, or none where a cell can say so. Its
    squared error, in standard deviations of the number of labels in training, is added to every record's loss. A
    record with n = 3 labels of which 2 are guessed, where the deviation is 2, costs 0.25 more. A late node cannot
    merge such decisions.

    Args:
        classes: the labels, in the order that probabilities come in; by default the sorted ones of the study.
        separator: what stands between labels in a cell.
        none: the cell that says that a record has none of the labels.
        class_weights: ``none`` counts all alike; ``balanced`` counts a label's yes and no alike, which helps rare
            labels and shifts every probability towards them.
        quantity: guess how many labels there are, and answer with so many.
        loss: a loss of yes-or-no log-probabilities.

    Raises:
        ConfigError: a label is listed twice, or is the marker for none.

    Reference:
        For ``quantity``: Niu et al., "Multi-Modal Multi-Scale Deep Learning for Large-Scale Image Annotation", IEEE
        TIP 28(4), 2019; deviations, bounds and where it starts are ours.

    Example:
        ``tasks: {feelings: {kind: multi_label, separator: "|", none: neutral}}``
    """

    def __init__(
        self,
        *,
        classes: Annotated[list[ClassName] | None, Field(description="default: the study's, sorted")] = None,
        separator: Annotated[str, Field(min_length=1, description="between the labels of a cell")] = ";",
        none: Annotated[ClassName | None, Field(description="the cell that means none of the labels")] = None,
        class_weights: Annotated[Literal["none", "balanced"], Field(description="none or balanced")] = "none",
        quantity: Annotated[
            bool, Field(description="guess how many labels there are, and answer with so many")
        ] = False,
        loss: Annotated[
            str | dict[str, Any], chosen("labels"), Field(description="a kind, or {kind: ..., option: ...}")
        ] = "bernoulli",
    ) -> None:
        self.listed = classes is not None
        self.classes = tuple(text.strip() for text in classes or ())
        self.separator = separator
        self.none = none
        self.class_weights = class_weights
        self.quantity = quantity
        self.mergeable = not quantity
        self.deviation = 1.0  # of the number of labels a record has
        self.records = 0
        self.counts: tuple[int, ...] = ()  # records that have the label
        self._loss = make_loss(loss, "labels")
        self._weights: Tensor | None = None
        if self.listed:
            check_classes(self.classes, fewest=1)
        if none is not None and none in self.classes:
            raise ConfigError(f"the marker for none of the labels may be no label itself, but {none!r} is listed")

    def learn(self, labels: Sequence[str | None], name: str) -> None:
        if not self.listed:
            rows = [self._split(label, name, row) or () for row, label in enumerate(labels)]
            self.classes = sort_classes({text for row in rows for text in row})
            if not self.classes:
                raise DataError(f"task {name!r}: a record must have a label, but none of {len(labels)} has")
        self.encode(labels, name)

    def encode(self, labels: Sequence[str | None], name: str) -> Float[np.ndarray, "record label"]:
        index = {text: number for number, text in enumerate(self.classes)}
        targets = np.full((len(labels), len(self.classes)), np.nan, dtype=np.float32)
        for row, label in enumerate(labels):
            parts = self._split(label, name, row)
            if parts is None:
                continue
            targets[row] = 0
            for text in parts:
                if text not in index:
                    raise outside(name, row, text, self.classes)
                targets[row, index[text]] = 1
        return targets

    def fit(self, targets: Array, name: str) -> None:
        known = targets[~np.isnan(targets).any(axis=1)]
        if not len(known):
            raise DataError(f"task {name!r}: training must have a labelled record, but all {len(targets)} are missing")
        counts = known.sum(axis=0)
        absent = [text for text, count in zip(self.classes, counts, strict=True) if not count]
        if absent:
            raise DataError(f"task {name!r}: every label must occur in training, but {absent} do not")
        self.records = len(known)
        self.counts = tuple(int(count) for count in counts)
        self.deviation = float(known.sum(axis=1).std()) or 1.0
        self._weights = None

    def head(self, dim: int) -> MultiLabelHead:
        quantity = QuantityHead(dim, float(self._shares()[:, 1].mean())) if self.quantity else None
        return MultiLabelHead(dim, len(self.classes), quantity)

    def weights(self) -> Float[np.ndarray, "label 2"]:
        """What each label's no and yes count: 1, or under ``balanced`` records / (2 * records with that outcome).

        One yes in four records gives (2/3, 2).

        Raises:
            ConfigError: ``balanced`` is asked for before `fit`.
        """
        if self.class_weights == "none":
            return np.ones((len(self.classes), 2), dtype=np.float32)
        outcomes = self._outcomes()
        weights: Array = self.records / (2 * np.maximum(outcomes, 1))  # a label that all have has no "no" to weigh
        return weights.astype(np.float32)

    def loss(self, decision: Tensor, target: Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        weights = self._weights
        if weights is None or weights.device != decision.device or weights.dtype != decision.dtype:
            weights = torch.as_tensor(self.weights()).to(decision)
            self._weights = weights  # moved once, not in every step
        known = ~torch.isnan(target).any(dim=1)
        outcome = torch.where(known[:, None], target, torch.zeros_like(target)).long()
        clean_decision = torch.where(known[:, None, None], decision, torch.zeros_like(decision))
        losses = self._loss(clean_decision[:, : len(self.classes)], outcome, weights)
        if self.quantity:
            losses = losses + ((self._number(clean_decision) - outcome.sum(1)) / self.deviation).square()
        nothing = torch.zeros_like(losses)
        counted = torch.where(outcome > 0, weights[:, 1], weights[:, 0]).mean(1)
        return torch.where(known, losses, nothing).sum(), torch.where(known, counted, nothing).sum()

    def prior(self) -> Float[np.ndarray, "answer 2"]:
        """Log of each label's shares of no and yes in training, with half a record added to each.

        The half keeps a label that every record has from a probability of 0: 3 of 3 give 1/8 and 7/8. The share of
        labels that a record has is the mean over labels.
        """
        shares = self._shares()
        if self.quantity:
            shares = np.concatenate([shares, shares.mean(axis=0, keepdims=True)])
        logs: Array = np.log(shares)
        return logs

    def prediction(self, decision: Float[Tensor, "batch answer 2"]) -> Float[Tensor, "batch label 2"]:
        if not self.quantity:
            return super().prediction(decision)
        least = 1 if self.none is None else 0
        count = self._number(decision).round().clamp(least, len(self.classes)).long()
        return take_top(decision[:, :-1], count).exp()

    def state(self) -> dict[str, Any]:
        own = {"records": self.records, "counts": list(self.counts)}
        return {**super().state(), **own, **({"deviation": self.deviation} if self.quantity else {})}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.records, self.counts = state["records"], tuple(state["counts"])
        self.deviation = state.get("deviation", 1.0)
        self._weights = None

    def _number(self, decision: Float[Tensor, "batch answer 2"]) -> Float[Tensor, " batch"]:
        """How many labels each record is guessed to have."""
        return len(self.classes) * decision[:, -1, 1].exp()

    def _shares(self) -> Float[np.ndarray, "label 2"]:
        """Each label's shares of no and yes in training, with half a record added to each."""
        shares: Array = (self._outcomes() + 0.5) / (self.records + 1)
        return shares

    def _outcomes(self) -> Float[np.ndarray, "label 2"]:
        if not self.records:
            raise ConfigError("a multi_label task must be fitted to training targets before its prior or weights")
        yes = np.asarray(self.counts, dtype=np.float64)
        return np.stack([self.records - yes, yes], axis=1)

    def _split(self, label: str | None, name: str, row: int) -> tuple[str, ...] | None:
        """The labels of a cell; None where it is missing."""
        text = clean(label)
        if not text:
            return None
        parts = tuple(part for part in map(str.strip, text.split(self.separator)) if part)
        if parts == (self.none,):
            return ()
        if not parts or self.none in parts:
            raise DataError(
                f"task {name!r} row {row + 1}: a cell must name labels, or only the marker for none of them "
                f"({self.none!r}), but got {text!r}"
            )
        return parts
