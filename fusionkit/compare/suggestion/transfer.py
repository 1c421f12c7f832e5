"""Heterogeneity of sensors, and of pairs of them, by transfer: what does it cost to go through another's layers?"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from fusionkit.compare.suggestion.probe import Count, Material, Probed, mean_loss, probe


class Estimate(NamedTuple):
    """A mean over seeds and its standard error."""

    mean: Float[Tensor, "*some"]
    error: Float[Tensor, "*some"]
    seeds: int

    @property
    def certain(self) -> Tensor:
        """Where it is at least two standard errors away from 0."""
        return (self.mean.abs() >= 2 * self.error) & (self.mean != 0)

    @property
    def low(self) -> Float[Tensor, "*some"]:
        """Lower end of the 95 % interval by Student's t: 2 - 4.30 * 0.577 = -0.48 for seeds that say 1, 2 and 3."""
        return self.mean - float(student.ppf(0.975, self.seeds - 1)) * self.error


def estimate(values: Float[Tensor, "seed *some"]) -> Estimate:
    """Mean and standard error over seeds: of 1, 2 and 3 they are 2 and 0.577."""
    return Estimate(values.mean(0), values.std(0) / len(values) ** 0.5, len(values))


def heterogeneity(transfer: Estimate) -> Float[Tensor, "source target"]:
    r""":math:`d(1, 2) = \max(0, T_{1 \to 2}) + \max(0, T_{2 \to 1})`, where a T within two standard errors counts as 0.

    Transfers of 0.3 and -0.1, both certain, give 0.3 in both directions.

    Reference:
        Liang et al., "High-Modality Multimodal Transformer", TMLR 2022; the rule about errors is ours.
    """
    cost = torch.where(transfer.certain, transfer.mean, torch.zeros_like(transfer.mean)).clamp_min(0)
    return cost + cost.T


def measure_transfer(
    material: Material, choices: Sequence[Sequence[int]], trained: Probed, count: Count = lambda number: None
) -> Estimate:
    r""":math:`T_{1 \to 2} = L_{1 \to 2} - L_{2 \to 2}` in ``[1, 2]``: what the layers of 1 cost 2, above its own layers.

    :math:`L_{1 \to 2}` is the loss on 2 through the layers that 1 trained, held as they are, behind first layers that 2
    learns anew: what two would share if they shared parameters. The diagonal is 0. Where 1 says nothing its layers
    let nothing through, and T is all that 2 says. What is transferred is a sensor, or the crossing of a pair of them.

    Of ours: the paper's sensors enter one encoder padded to one shape, which adapts as a whole; there, layers that
    forget what they knew cost nothing.

    Args:
        material: sensors and task.
        choices: what is compared: sensors by number, all choices of one length.
        trained: their networks.
        count: see `Count`.

    Reference:
        Liang et al., "High-Modality Multimodal Transformer", TMLR 2022.
    """
    losses = []
    for choice in choices:
        tuned = probe(material, [choice] * len(choices), body=trained.body, count=count)
        losses.append(mean_loss(material, tuned.answer, tuned.counted))
    found = torch.stack(losses, 2)  # seed, source, target
    return estimate(found - found.diagonal(dim1=1, dim2=2)[:, None])
