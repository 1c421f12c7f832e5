"""The head in a mirror: left and right electrodes change places."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from fusionkit.augment.augmentation import choose
from fusionkit.augment.series import Probability, SeriesAugmentation, across, real_samples
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored
from fusionkit.core.registry import augment

from .places import site

# rows of the 10-05 system from nose to inion, ears and mastoids, and the cerebellar ones of SEED's cap
_ROWS = "A|AF|AFF|AFP|C|CCP|CB|CP|CPP|F|FC|FCC|FFC|FFT|FP|FT|FTT|I|M|N|NF|NFP|O|OI|P|PO|POO|PPO|T|TP|TPP|TT|TTP"
_ELECTRODE = re.compile(rf"({_ROWS})(Z|\d+)(H?)")


@augment.register("eeg_symmetry")
class Symmetry(SeriesAugmentation):
    """Swap left and right electrodes: F3 becomes F4, and C6 C5; those on the midline stay.

    It needs a channel's mirror among the channels, by names of the 10-05 system (``Fp1``, ``EEG T3-Ref``, ``CB1``).

    Args:
        probability: share of samples that are changed.

    Raises:
        ConfigError: (`bind`) a channel is no electrode of the system, or its mirror is missing.

    Reference:
        Deiss et al., HAMLET: Interpretable Human And Machine co-LEarning Technique, 2018.
    """

    _mirror: Int[Tensor, " channel"] | None

    def __init__(self, *, probability: Probability = 0.5) -> None:
        super().__init__()
        self.probability = probability
        self.register_buffer("_mirror", None, persistent=False)

    def bind(self, stored: Stored) -> None:
        super().bind(stored)
        self._mirror = torch.tensor(mirrors(stored.channels))

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Mirror some samples of one batch."""
        if self._mirror is None:
            raise ConfigError(f"{self.kind} must be bound to a sensor first, for the names of its channels")
        values = stream.values
        chosen = choose(len(values), self.probability, values, generator)
        chosen = across(real_samples(stream) & chosen[:, None], values)
        return stream._replace(values=torch.where(chosen, values.index_select(1, self._mirror), values))


def mirrors(channels: Sequence[str]) -> list[int]:
    """Index of the electrode on the other side of the head, for each: (F3, Fz, F4) gives 2, 1, 0.

    Raises:
        ConfigError: a name is no electrode of the 10-05 system, or the electrode on the other side is missing.
    """
    names = [site(channel) for channel in channels]
    found: list[int] = []
    for channel, name in zip(channels, names, strict=True):
        parts = _ELECTRODE.fullmatch(name)
        if parts is None:
            raise ConfigError(f"eeg_symmetry needs names of the 10-05 system, but {channel!r} is none")
        row, place, half = parts.groups()
        other = place if place == "Z" else str(int(place) + (1 if int(place) % 2 else -1))
        if f"{row}{other}{half}" not in names:
            raise ConfigError(f"eeg_symmetry needs both sides of the head, but {channel!r} has no {row}{other}{half}")
        found.append(names.index(f"{row}{other}{half}"))
    return found
