"""Pairs of electrodes, left and right or front and back, whose features are compared."""

import re
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.data.sources.seed_family import FRONT_BACK

from .places import site

Kind = Literal["dasm", "rasm", "asm", "dcau"]

LIMIT = 100.0
"""Bound of a ratio either way."""


class Asymmetry(nn.Module):
    """Compare the features of pairs of channels.

    `dasm` is left - right and `dcau` front - back; `rasm` is left / right; `asm` is `dasm` and then `rasm`, twice as
    many channels as pairs. Features 3 and 2 give a difference of 1 and a ratio of 1.5.

    A ratio has no value where the right feature is 0, and little meaning near there: an entropy passes 0 at a
    variance of 0.0585 square units. It is therefore bounded to 100 either way, and 0 over 0 is 0. It also changes
    with the unit and with nothing else does: fix `unit` in the recipe, not `log`, whose base cancels.

    Args:
        kind: how they are compared.
        pairs: numbers of the two channels of every pair.
    """

    first: Int[Tensor, " pair"]
    second: Int[Tensor, " pair"]

    def __init__(self, kind: Kind, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.kind = kind
        self.channels = len(pairs) * (2 if kind == "asm" else 1)
        self.register_buffer("first", torch.tensor([pair[0] for pair in pairs]), persistent=False)
        self.register_buffer("second", torch.tensor([pair[1] for pair in pairs]), persistent=False)

    def forward(self, values: Float[Tensor, "batch channel step band"]) -> Float[Tensor, "batch pair step band"]:
        """Compare every pair."""
        left, right = values.index_select(1, self.first), values.index_select(1, self.second)
        if self.kind == "rasm":
            return _ratio(left, right)
        if self.kind == "asm":
            return torch.cat([left - right, _ratio(left, right)], 1)
        return left - right

    def both(self, measured: Bool[Tensor, "batch channel"]) -> Bool[Tensor, "batch pair"]:
        """Whether both channels of every pair were measured."""
        both = measured.index_select(1, self.first) & measured.index_select(1, self.second)
        return torch.cat([both, both], 1) if self.kind == "asm" else both


def find_pairs(kind: Kind, channels: Sequence[str]) -> list[tuple[int, int]]:
    """Numbers of the channels that make a pair, by their names in the 10-05 system.

    Left of the midline is odd, and its even counterpart, one more, lies at the same place on the right: C3 and C4,
    T3 (T7) and T8. Front and back are the 23 pairs of SEED's DCAU. Channels of no pair are left out; the 62 of SEED make
    27 and 23 pairs.

    Raises:
        ConfigError: there is no pair.
    """
    known: dict[str, int] = {}
    for index, channel in enumerate(channels):
        known.setdefault(site(channel), index)
    if kind == "dcau":
        pairs = list(FRONT_BACK)
        wanted = "in front and behind, such as Fz and Pz"
    else:
        pairs = [(name, other) for name in known if (other := _counterpart(name)) is not None]
        wanted = "left and right of the midline, such as C3 and C4"
    found = [(known[first], known[second]) for first, second in pairs if first in known and second in known]
    if not found:
        missing = sorted({second for first, second in pairs if first in known})
        lacks = f": {', '.join(missing)} missing" if missing else ""
        raise ConfigError(
            f"features.asymmetry: {kind} needs electrodes {wanted}, but there is no such pair among "
            f"{', '.join(channels)}{lacks}"
        )
    return found


def _counterpart(name: str) -> str | None:
    """The electrode opposite one on the left: C4 of C3, AFF6H of AFF5H; None of what is not on the left."""
    parts = re.fullmatch(r"([A-Z]+)(\d*[13579])(H?)", name)
    return None if parts is None else f"{parts[1]}{int(parts[2]) + 1}{parts[3]}"


def _ratio(left: Float[Tensor, "*rest"], right: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
    """``left / right`` within `LIMIT`."""
    least = torch.finfo(right.dtype).tiny
    solid = torch.where(right.abs() < least, torch.full_like(right, least), right)
    return (left / solid).clamp(-LIMIT, LIMIT)
