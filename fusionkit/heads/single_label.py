"""Tasks whose label is one of some classes: what classification and ordinal tasks share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from fusionkit.core.errors import ConfigError, DataError, did_you_mean
from fusionkit.core.modality import Array
from fusionkit.heads.task import Task
from fusionkit.losses.loss import make_loss

ClassName = Annotated[str, Field(coerce_numbers_to_str=True, min_length=1)]


def check_weight_values(weights: Any) -> Any:
    """Refuse what is no choice of class weights, in one message for all of its forms.

    Raises:
        ConfigError: it is no word we know, or a weight is no positive number.
    """
    if isinstance(weights, Mapping):
        wrong = {text: value for text, value in weights.items() if not _positive(value)}
        if wrong:
            raise ConfigError(f"a class weight must be a number above 0, but got {wrong}")
    elif weights not in ("none", "balanced"):
        raise ConfigError(
            f"class weights must be none, balanced or a mapping from class to weight, but got {weights!r}"
        )
    return weights


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


ClassWeights = Annotated[Literal["none", "balanced"] | dict[ClassName, float], BeforeValidator(check_weight_values)]


class SingleLabelTask(Task):
    """One class per record.

    Args:
        classes: as the recipe lists them; None takes those of the study, sorted (by value where all are numbers).
        class_weights: what each class's loss counts. ``none`` counts records alike and leaves the probabilities
            honest; ``balanced`` counts classes alike (records / (classes * records of the class)), which helps
            rare classes and shifts every probability towards them; a mapping names weights, 1 where it is silent.
        loss: kind and options of the loss.
        loss_defaults: options that the task gives to the loss.

    Raises:
        ConfigError: a class is listed twice, fewer than two are, or a weight names no class.
    """

    def __init__(
        self,
        classes: Sequence[str] | None,
        class_weights: str | Mapping[str, float],
        loss: str | Mapping[str, Any],
        **loss_defaults: Any,
    ) -> None:
        self.listed = classes is not None
        self.class_weights = class_weights
        self.classes = tuple(text.strip() for text in classes or ())
        self.counts: tuple[int, ...] = ()
        self._loss = make_loss(loss, "class", **loss_defaults)
        self._weights: Tensor | None = None
        if self.listed:
            check_classes(self.classes)
            check_weights(class_weights, self.classes)

    def learn(self, labels: Sequence[str | None], name: str) -> None:
        if self.listed:
            self.encode(labels, name)
            return
        self.classes = sort_classes({text for text in map(clean, labels) if text})
        if len(self.classes) < 2:
            raise DataError(f"task {name!r}: the labels must be of two classes or more, but got {list(self.classes)}")
        check_weights(self.class_weights, self.classes)

    def encode(self, labels: Sequence[str | None], name: str) -> Float[np.ndarray, " record"]:
        index = {text: number for number, text in enumerate(self.classes)}
        targets = np.full(len(labels), np.nan, dtype=np.float32)
        for row, label in enumerate(labels):
            text = clean(label)
            if not text:
                continue
            if text not in index:
                raise outside(name, row, text, self.classes)
            targets[row] = index[text]
        return targets

    def fit(self, targets: Array, name: str) -> None:
        known = targets[~np.isnan(targets)].astype(np.int64)
        if not len(known):
            raise DataError(f"task {name!r}: training must have a labelled record, but all {len(targets)} are missing")
        counts = np.bincount(known, minlength=len(self.classes))
        absent = [text for text, count in zip(self.classes, counts, strict=True) if not count]
        if absent:
            raise DataError(f"task {name!r}: every class must occur in training, but {absent} do not")
        self.counts = tuple(int(count) for count in counts)
        self._weights = None

    def weights(self) -> Float[np.ndarray, " class_"]:
        """What each class's loss counts: all 1 under ``none``; with counts 1 and 3, ``balanced`` gives 2 and 2/3.

        Raises:
            ConfigError: ``balanced`` is asked for before `fit`.
        """
        if isinstance(self.class_weights, Mapping):
            return np.array([self.class_weights.get(text, 1.0) for text in self.classes], dtype=np.float32)
        if self.class_weights == "none":
            return np.ones(len(self.classes), dtype=np.float32)
        counts = np.asarray(self._fitted(), dtype=np.float64)
        weights: Array = counts.sum() / (len(counts) * counts)
        return weights.astype(np.float32)

    def loss(self, decision: Tensor, target: Tensor) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        weights = self._weights
        if weights is None or weights.device != decision.device or weights.dtype != decision.dtype:
            weights = torch.as_tensor(self.weights()).to(decision)
            self._weights = weights  # moved once, not in every step
        known = ~torch.isnan(target)
        index = torch.where(known, target, torch.zeros_like(target)).long()
        clean_decision = torch.where(known[:, None], decision, torch.zeros_like(decision))
        losses = self._loss(clean_decision, index, weights)
        nothing = torch.zeros_like(losses)
        return torch.where(known, losses, nothing).sum(), torch.where(known, weights[index], nothing).sum()

    def prior(self) -> Float[np.ndarray, " class_"]:
        """Log of each class's share in training: counts 1 and 3 give log 1/4 and log 3/4."""
        counts = np.asarray(self._fitted(), dtype=np.float64)
        prior: Array = np.log(counts / counts.sum())
        return prior

    def state(self) -> dict[str, Any]:
        return {**super().state(), "counts": list(self.counts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.counts = tuple(state["counts"])
        self._weights = None

    def _fitted(self) -> tuple[int, ...]:
        if not self.counts:
            raise ConfigError(f"a {self.kind} task must be fitted to training targets before its prior or weights")
        return self.counts


def clean(label: str | None) -> str:
    """A cell without surrounding blanks; empty where the label is missing."""
    return "" if label is None else label.strip()


def sort_classes(names: set[str]) -> tuple[str, ...]:
    """Classes in order: by value where all are numbers (2 before 10), else by text."""
    try:
        return tuple(sorted(names, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(names))


def outside(name: str, row: int, text: str, classes: Sequence[str]) -> DataError:
    """The error of a label outside the classes; rows count from 1."""
    hint = did_you_mean(text, classes)
    return DataError(f"task {name!r} row {row + 1}: a label must be one of {list(classes)}, but got {text!r}{hint}")


def check_classes(classes: Sequence[str], fewest: int = 2) -> None:
    """Refuse too few classes, and one listed twice.

    Raises:
        ConfigError: either is so.
    """
    twice = [text for text, count in Counter(classes).items() if count > 1]
    if twice:
        raise ConfigError(f"a class may be listed once, but {twice} are listed again")
    if len(classes) < fewest:
        raise ConfigError(f"a task must have {fewest} classes or more, but got {list(classes)}")


def check_weights(weights: str | Mapping[str, float], classes: Sequence[str]) -> None:
    """Refuse a weight for something that is no class.

    Raises:
        ConfigError: so it is.
    """
    for text in weights if isinstance(weights, Mapping) else ():
        if text not in classes:
            known = list(classes)
            raise ConfigError(
                f"class_weights must name classes of {known}, but got {text!r}{did_you_mean(text, known)}"
            )
