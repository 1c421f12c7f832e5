"""What every encoder is: features, or the window itself, to tokens of the recipe's width."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import nn

from fusionkit.core.levels import Features, FeatureShape, Tokens, Window


class Encoder(nn.Module, ABC):
    """Make tokens of one stream. Its keyword-only arguments are its recipe options.

    A subclass says with ``level`` what it takes. One that takes features is built with their `FeatureShape`,
    one that takes windows with the window's shape without batch (a `WindowShape` from a recipe's builder); both with
    ``dim``, the width of a token.
    Every output must be free of what the mask hides and of an absent sensor's values.
    """

    kind: ClassVar[str]
    level: ClassVar[Literal["features", "window"]] = "features"
    dim: int


class FeatureEncoder(Encoder):
    """An encoder of features."""

    level: ClassVar[Literal["features", "window"]] = "features"

    def __init__(self, shape: FeatureShape, dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.dim = dim

    @abstractmethod
    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""


class WindowEncoder(Encoder):
    """An encoder of windows, a CNN on an image or on raw EEG."""

    level: ClassVar[Literal["features", "window"]] = "window"

    def __init__(self, shape: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.dim = dim

    @abstractmethod
    def forward(self, window: Window) -> Tokens:
        """Encode one batch."""
