"""What every augmentation is: a change of one batch of windows or features that leaves its labels true."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.levels import Features, Window
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Stored


class Augmentation(nn.Module, ABC):
    """Change one sensor's batch while training. Its keyword-only arguments are its recipe options.

    It works on the whole batch on the batch's device, draws everything from the generator it is given (the same
    seed gives the same batch, on one device), and never touches shapes, masks or presence in a way that makes a
    padded step real. A subclass extends `WindowAugmentation` or `FeatureAugmentation` and implements ``forward``.

    Attributes:
        kind: its registered name, in the registry ``augment``.
        level: what it takes: ``window`` or ``features``.
    """

    kind: ClassVar[str]
    level: ClassVar[Literal["features", "window"]]

    def bind(self, stored: Stored) -> None:
        """Learn of the sensor that it changes (its rate, its channels): called once, before any batch.

        Raises:
            ConfigError: it cannot change such a sensor.
        """
        del stored

    def meet(self, modality: Modality) -> None:
        """Learn of the sensor itself, fitted to the training records (a vocabulary): called once, after `bind`.

        Raises:
            ConfigError: it cannot change such a sensor.
        """
        del modality


class WindowAugmentation(Augmentation):
    """An augmentation of raw windows.

    Attributes:
        axes: axes of one window that it takes: 1 for sound, 2 for channel by time, 3 for pictures; None takes any.
        ids: it takes windows of ids (text) and no others.
    """

    level: ClassVar[Literal["features", "window"]] = "window"
    axes: ClassVar[int | None] = None
    ids: ClassVar[bool] = False

    def misfit(self, stream: Window) -> str | None:
        """Why it cannot change such windows, in words; None where it can."""
        got = stream.values.shape[1:]
        if self.ids == stream.values.is_floating_point():
            return f"takes windows of {'ids' if self.ids else 'numbers'}, but got {stream.values.dtype}"
        if self.axes is not None and self.axes != len(got):
            return f"takes windows of {self.axes} ax{'is' if self.axes == 1 else 'es'}, but got {tuple(got)}"
        return None

    @abstractmethod
    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch; ``generator`` is the source of every random number (None: torch's own)."""


class FeatureAugmentation(Augmentation):
    """An augmentation of features."""

    level: ClassVar[Literal["features", "window"]] = "features"

    @abstractmethod
    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Change one batch; ``generator`` is the source of every random number (None: torch's own)."""


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    """Draw float32 from [0, 1) on the generator's device and put it on the device of ``like``."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).to(like.device, non_blocking=True)


def normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    """Draw standard normal numbers; otherwise as `uniform`, but in the type of ``like``."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like.device, like.dtype, non_blocking=True)


def choose(
    batch: int, probability: float, like: Tensor, generator: torch.Generator | None = None
) -> Bool[Tensor, " batch"]:
    """Which samples are changed: each one by itself with ``probability``; 1 is always, 0 never."""
    return uniform((batch,), like, generator) < probability
