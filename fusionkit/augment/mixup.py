"""Mixtures of two records of a batch, for all of their sensors at once."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusionkit.core.levels import Features, Window

from .augmentation import uniform

Level = Window | Features


class Mixture(NamedTuple):
    r"""A mixed batch: ``share`` of every record itself and ``1 - share`` of its ``partner``.

    A record that stays as it is, is its own partner. The loss of a mixture is
    ``share * L(own label) + (1 - share) * L(partner's label)``.
    """

    inputs: dict[str, Level]
    partner: Int[Tensor, " batch"]
    share: Float[Tensor, ""]


def mix(inputs: Mapping[str, Level], alpha: float, generator: torch.Generator, *, closer: bool = False) -> Mixture:
    r"""Mix every record of a batch with another one, the same for all sensors.

    One share :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` is drawn a batch, and one partner a record:
    :math:`\tilde x_i = \lambda x_i + (1 - \lambda) x_j`. A record stays as it is where its partner has other
    sensors, or another number of real samples or steps. Sentences are no numbers: their sensors keep the ids, and
    the length, of whichever has the larger share. A feature that either record lacks (NaN) is lacking in the mixture.

    Args:
        inputs: windows or features by sensor.
        alpha: above 0; 0.2 mixes little, 1 draws all shares alike.
        generator: draws share and partners.
        closer: the larger share is always that of the record itself, :math:`\max(\lambda, 1 - \lambda)`, as in MixMatch.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    like = next(iter(inputs.values())).values
    own = torch.arange(len(like), device=like.device)
    partner = torch.randperm(len(like), generator=generator, device=generator.device).to(like.device)
    share = symmetric_beta(alpha, like, generator)
    share = torch.maximum(share, 1 - share) if closer else share
    alike = torch.ones_like(own, dtype=torch.bool)
    for level in inputs.values():
        alike = alike & _alike(level, partner)
    partner = torch.where(alike, partner, own)
    larger = torch.where(share < 0.5, partner, own)
    return Mixture({name: _mix(level, partner, share, larger) for name, level in inputs.items()}, partner, share)


def symmetric_beta(
    alpha: float, like: Tensor, generator: torch.Generator, shape: tuple[int, ...] = ()
) -> Float[Tensor, "*shape"]:
    r"""Numbers from Beta(alpha, alpha), of any alpha above 0, each from two uniform ones; one where no shape is wanted.

    Reference:
        Devroye, Random variate generation in one line of code, Winter Simulation Conference 1996.
    """
    draw = uniform((2, *shape), like, generator)
    side = torch.cos(2 * math.pi * draw[1])
    odds = draw[0] ** (-1 / alpha) - 1
    return 0.5 + 0.5 * side.sign() / torch.sqrt(1 + 1 / (odds * side.square()))


def _alike(level: Level, partner: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Whether a record and its partner both have this sensor or both lack it, at the same length."""
    same = level.present == level.present[partner]
    if isinstance(level, Features):
        return same & (level.mask == level.mask[partner]).all(1)
    return same & (level.length == level.length[partner]) if level.values.is_floating_point() else same


def _mix(level: Level, partner: Int[Tensor, " batch"], share: Tensor, larger: Int[Tensor, " batch"]) -> Level:
    if not level.values.is_floating_point():
        assert isinstance(level, Window)
        return level._replace(values=level.values[larger], length=level.length[larger])
    values = _between(level.values, partner, share)
    if isinstance(level, Features):
        return level._replace(values=values)
    shift, scale = (None if part is None else _between(part, partner, share) for part in (level.shift, level.scale))
    return level._replace(values=values, shift=shift, scale=scale)


def _between(values: Tensor, partner: Int[Tensor, " batch"], share: Tensor) -> Tensor:
    """Exactly the value itself where a record is its own partner."""
    return torch.lerp(values[partner], values, share.to(values.dtype))
