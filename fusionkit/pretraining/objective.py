"""What every pretraining objective is: a loss of a batch that needs no labels, through the encoders of its sensors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch, Features, FeatureShape, Tokens, Window, WindowShape
from fusionkit.fusion.model import FusionModel, Pass


@dataclass(frozen=True)
class Given:
    """What an objective is built with.

    Attributes:
        sensors: those whose encoders the stage trains, in the recipe's order.
        dim: width of their tokens.
        features: what is known of each sensor's features.
        levels: what each sensor's encoder takes.
        windows: shape of each sensor's longest window; None where a window has no fixed axes (text).
        vocabularies: how many ids each text sensor has.
        classes: how many classes each task has, of those with classes.
        steps: steps of the stage.
    """

    sensors: tuple[str, ...]
    dim: int
    features: Mapping[str, FeatureShape]
    levels: Mapping[str, Literal["features", "window"]]
    windows: Mapping[str, WindowShape | None] = field(default_factory=dict)
    vocabularies: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    steps: int = 1


class Looks:
    """One batch as objectives see it: as it is, and changed by the sensors' own augmentations.

    What one objective has had computed the others share.

    Args:
        model: its encoders are trained.
        batch: inputs, and targets where records have labels (NaN where not).
        generator: draws augmentations.
    """

    def __init__(self, model: FusionModel, batch: Batch, generator: torch.Generator) -> None:
        self.model, self.batch, self.generator = model, batch, generator
        self._views: dict[int, Pass] = {}
        self._clean: Pass | None = None

    @property
    def clean(self) -> Pass:
        """The batch without augmentation."""
        if self._clean is None:
            self._clean = self.model.look(self.batch.inputs)
        return self._clean

    def view(self, number: int) -> Pass:
        """The batch with augmentations drawn for this number; the same number gives the same look."""
        if number not in self._views:
            self._views[number] = self.model.look(self.batch.inputs, self.generator)
        return self._views[number]

    def known(self) -> Pass:
        """A look that was computed already, where there is one: an augmented one, else the batch as it is."""
        return next(iter(self._views.values()), None) or self.clean

    def present(self, sensor: str) -> Bool[Tensor, " batch"]:
        """Which records have a sensor."""
        return self.batch.inputs[sensor].present

    def level(self, sensor: str) -> Window | Features:
        """What the sensor's encoder takes of the batch as it is: windows, or normalised features."""
        if self.model.encoders[sensor].level == "window":
            return self.clean.levels[sensor]
        return self.clean.feature(sensor)

    def encode(self, sensor: str, level: Window | Features) -> Tokens:
        """Tokens of what was made of `level`: masked, turned, cut."""
        tokens: Tokens = self.model.encoders[sensor](level)
        return tokens


class PretrainingObjective(nn.Module, ABC):
    """A loss without labels. Its keyword-only arguments are its recipe options.

    What it needs beside the encoders (projection heads, decoders, queues, teachers) are its own modules and buffers,
    trained and checkpointed with the stage and thrown away after it. A record that lacks a sensor counts nothing in
    that sensor's loss; a batch in which nothing counts has loss 0 without NaN in any gradient.

    Args:
        given: what the builder knows.

    Attributes:
        learns_from: which kinds of windows it learns from (see `Modality.holds`); empty for all.
        early: whether it can be made before data are read: features, windows and true sizes of vocabularies and classes
            are nothing that it is made by.
        compares_looks: whether it learns that two augmented looks at a record are alike, and they had better differ.

    Raises:
        ConfigError: the stage's sensors are none that it can learn from.
    """

    kind: ClassVar[str]
    learns_from: ClassVar[frozenset[str]] = frozenset()
    early: ClassVar[bool] = False
    compares_looks: ClassVar[bool] = False

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.given = given

    @classmethod
    def foresee(
        cls,
        options: Mapping[str, Any],
        sensors: Sequence[str],
        dim: int,
        levels: Mapping[str, Literal["features", "window"]],
        holds: Mapping[str, str | None],
        tasks: Sequence[str],
        encoders: Mapping[str, nn.Module],
    ) -> None:
        """Refuse what a recipe alone tells to be wrong; what only data tell is refused when it is made and bound.

        Args:
            options: its own.
            sensors: those whose encoders the stage trains.
            dim: width of their tokens.
            levels: what each sensor's encoder takes.
            holds: what each sensor's windows are.
            tasks: those with classes.
            encoders: of text sensors, made for words of some width.

        Raises:
            ConfigError: it can learn nothing so.
        """
        found = {holds[name] for name in sensors}
        if cls.learns_from and None not in found and not found & cls.learns_from:
            wanted = " and ".join(sorted(cls.learns_from))
            raise ConfigError(f"{cls.kind} learns from {wanted} sensors, but none of {list(sensors)} is such")
        if not cls.early or (cls.learns_from and None in found):
            return
        words = {name: 2 for name in levels if holds[name] == "text" and levels[name] == "features"}
        given = Given(tuple(sensors), dim, {}, levels, vocabularies=words, classes=dict.fromkeys(tasks, 2))
        with torch.random.fork_rng(devices=[]):
            made = cls(given, **options)
        for name in sensors:
            if name in encoders:
                made.check_encoder(name, encoders[name])

    def check_encoder(self, name: str, encoder: nn.Module) -> None:
        """Refuse an encoder from which it can learn nothing.

        Args:
            name: of a sensor of the stage.
            encoder: of it.

        Raises:
            ConfigError: it is such.
        """
        del name, encoder

    def bind(self, model: FusionModel) -> None:
        """Take a copy of what a teacher needs, once, before the first step (and before a checkpoint is restored)."""
        del model

    @abstractmethod
    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The mean loss of one batch."""

    def scales(self) -> dict[int, float]:
        """A factor on the learning rate of some of its own parameters, by their ids."""
        return {}

    def settle(self, model: FusionModel) -> None:
        """Hear that the optimiser made its step: a teacher moves here."""
        del model

    def close_epoch(self) -> dict[str, float]:
        """Hear that an epoch ended; what the history should say of it."""
        return {}
