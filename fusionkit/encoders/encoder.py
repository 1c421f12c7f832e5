"""What every encoder is: features, or the window itself, to tokens of the recipe's width."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

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
    """An encoder of features.

    Attributes:
        stepwise: whether there is a token for every step, made of that step alone.
    """

    level: ClassVar[Literal["features", "window"]] = "features"
    stepwise: bool = False

    def __init__(self, shape: FeatureShape, dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.dim = dim

    @abstractmethod
    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""


class PastEncoder(FeatureEncoder):
    """An encoder whose tokens, one a step, are made of their step and a state that earlier steps left."""

    @abstractmethod
    def empty_state(self, batch: int) -> Float[Tensor, "{batch} *state"]:
        """The state before the first step, on the device and in the type of the weights."""

    @abstractmethod
    def step(
        self, features: Features, state: Float[Tensor, "batch *state"], entered: Bool[Tensor, " time"]
    ) -> tuple[Tokens, Float[Tensor, "batch *state"]]:
        """Encode some more steps: the very tokens that `forward` gives for them, and the state behind them.

        Args:
            features: these steps alone.
            state: what the steps before left.
            entered: False at steps that the whole stream does not have; they leave the state as it is.
        """


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
