"""Heterogeneity of sensors by transfer: does beginning with another sensor's weights cost anything?"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from fusionkit.compare.probe import Body, Material, Probed, mean_loss, probe


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


def heterogeneity(transfer: Estimate) -> Float[Tensor, "sensor sensor"]:
    r""":math:`d(1, 2) = \max(0, T_{1 \to 2}) + \max(0, T_{2 \to 1})`, where a T within two standard errors counts as 0.

    Transfers of 0.3 and -0.1, both certain, give 0.3 in both directions.

    Reference:
        Liang et al., "High-Modality Multimodal Transformer", TMLR 2022; the rule about errors is ours.
    """
    cost = torch.where(transfer.certain, transfer.mean, torch.zeros_like(transfer.mean)).clamp_min(0)
    return cost + cost.T


def measure_transfer(material: Material, alone: Probed) -> Estimate:
    r""":math:`T_{1 \to 2} = L_{1 \to 2} - L_2` in ``[1, 2]``: the loss on sensor 2 from the weights of 1, less that from scratch.

    What moves is all but the first layer, which brings each sensor to the common width and is learned anew in both
    cases (ours: the paper's sensors enter one encoder padded to one shape). The diagonal is 0.
    """
    sensors = len(material.values)
    pairs = [(i, j) for i in range(sensors) for j in range(sensors) if i != j]
    sources = torch.tensor([i for i, _ in pairs])
    body = alone.body
    moved = Body(body.layer[:, sources], body.shift[:, sources], body.head[:, sources], body.bias[:, sources])
    tuned = probe(material, [[j] for _, j in pairs], body=moved)
    loss, scratch = mean_loss(material, tuned.answer, tuned.counted), mean_loss(material, alone.answer, alone.counted)
    found = torch.zeros(len(loss), sensors, sensors)
    for place, (i, j) in enumerate(pairs):
        found[:, i, j] = loss[:, place] - scratch[:, j]
    return estimate(found)
