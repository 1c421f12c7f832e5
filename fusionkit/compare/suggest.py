"""What sensors bring, alone and in pairs, and the graph that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from fusionkit.compare.probe import Material, Probed, mean_loss, probe
from fusionkit.compare.transfer import Estimate, estimate, heterogeneity, measure_transfer
from fusionkit.core.recording import Array
from fusionkit.fusion.cka import debiased_cka

ALIKE = 0.05
"""CKA of activations from which on two sensors are redundant."""
WORTH = 0.03
"""Least gain that counts, as a share of the loss without any sensor."""
ROWS = 1000
"""Records that CKA compares: its kernels are square in them."""


@dataclass(frozen=True)
class Findings:
    """What was measured, in units of the loss (nats, or the target's variance).

    Attributes:
        names: the sensors.
        prior: loss without any sensor.
        alone: loss less by each sensor alone.
        addition: loss less by adding each sensor to all others.
        synergy: loss less by a joint network of two than by the best late combination of the two.
        alike: debiased CKA of activations of networks that were trained alone.
        transfer: cost of beginning with another sensor's weights, ``[from, to]``.
    """

    names: tuple[str, ...]
    prior: float
    alone: Estimate
    addition: Estimate
    synergy: Estimate
    alike: Estimate
    transfer: Estimate

    @property
    def distance(self) -> Array:
        """Heterogeneity of every two sensors."""
        return heterogeneity(self.transfer).double().numpy()

    @property
    def synergies(self) -> list[tuple[int, int]]:
        """Pairs that only together say something, which no merging of decisions finds."""
        return self._pairs(self._worth(self.synergy))

    @property
    def redundant(self) -> list[tuple[int, int]]:
        """Pairs whose activations agree, of sensors that say something alone."""
        says = self._worth(self.alone)
        alike = self.alike.certain & (self.alike.mean >= ALIKE) & says[:, None] & says
        return self._pairs(alike)

    @property
    def idle(self) -> list[int]:
        """Sensors that say nothing alone, add nothing to all others and have no partner."""
        useful = self._worth(self.alone) | self._worth(self.addition)
        partners = {one for pair in self.synergies for one in pair}
        return [one for one in range(len(self.names)) if not useful[one] and one not in partners]

    def _worth(self, gain: Estimate) -> Tensor:
        return (gain.low > 0) & (gain.mean >= WORTH * self.prior)

    def _pairs(self, which: Tensor) -> list[tuple[int, int]]:
        return [(i, j) for i, j in combinations(range(len(self.names)), 2) if which[i, j]]


def measure(material: Material, names: Sequence[str]) -> Findings:
    """Train every sensor alone, every pair, all, and all but one; compare them on records of groups that train none.

    Errors are over seeds, each with groups and weights of its own; the groups of two seeds overlap, so they are
    somewhat too small, which is why a gain must also reach `WORTH`.

    Args:
        material: sensors as vectors, and a task.
        names: of the sensors.
    """
    sensors = range(len(names))
    alone = probe(material, [[one] for one in sensors])
    nothing = material.prior()[:, None, None].expand(-1, len(names), material.target.shape[0], -1)
    gain = mean_loss(material, nothing, alone.counted) - mean_loss(material, alone.answer, alone.counted)
    synergy = torch.zeros(len(material.parts), len(names), len(names))
    alike = torch.eye(len(names)).repeat(len(material.parts), 1, 1)
    pairs = list(combinations(sensors, 2))
    if pairs:
        joint = probe(material, pairs)
        late = best_late(material, alone, pairs)
        together = mean_loss(material, joint.answer, joint.counted)
        for place, (i, j) in enumerate(pairs):
            synergy[:, i, j] = synergy[:, j, i] = late[:, place] - together[:, place]
            alike[:, i, j] = alike[:, j, i] = _similarity(material, alone, i, j)
    return Findings(
        tuple(names),
        float(mean_loss(material, nothing[:, :1], material.here.any(0)[None]).mean()),
        estimate(gain),
        estimate(_additions(material, gain)),
        estimate(synergy),
        estimate(alike),
        measure_transfer(material, alone),
    )


def _additions(material: Material, alone: Float[Tensor, "seed sensor"]) -> Float[Tensor, "seed sensor"]:
    """Loss less by each sensor beside all others, on records that have it."""
    sensors = len(material.values)
    if sensors < 2:
        return alone
    others = [[one for one in range(sensors) if one != left] for left in range(sensors)]
    whole = probe(material, [list(range(sensors))], partial=True).answer.expand(-1, sensors, -1, -1)
    without = probe(material, others, partial=True)
    counted = without.counted & material.here
    return mean_loss(material, without.answer, counted) - mean_loss(material, whole, counted)


def best_late(material: Material, alone: Probed, pairs: Sequence[tuple[int, int]]) -> Float[Tensor, "seed pair"]:
    """Loss of the best of four late combinations of two sensors: mean, product, product over prior, learned weights.

    The best is chosen on the very records that score, in favour of late fusion. Weights are learned on those that
    choose; of values there are mean and weights.
    """
    first, second = (alone.answer[:, [pair[side] for pair in pairs]] for side in (0, 1))
    index = torch.tensor(pairs)
    counted = material.here[index].all(1)
    prior = material.prior()[:, None, None]
    merged = [(first + second) / 2, _weighted(material, first, second, counted)]
    if material.classes:
        merged = [torch.logaddexp(first, second), first + second, first + second - prior, merged[1]]
    return torch.stack([mean_loss(material, answer, counted) for answer in merged]).amin(0)


def _weighted(material: Material, first: Tensor, second: Tensor, counted: Bool[Tensor, "pair record"]) -> Tensor:
    """``a first + b second + c`` with numbers learned on records that choose, from an average on."""
    chooses = (material.parts == 1)[:, None] & counted
    shares = chooses / chooses.sum(-1, keepdim=True).clamp_min(1)
    weights = torch.full((2, *first.shape[:2], 1, 1), 0.5, requires_grad=True)
    shift = torch.zeros(*first.shape[:2], 1, first.shape[-1], requires_grad=True)
    optimiser = torch.optim.Adam([weights, shift], lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        loss = (material.loss(weights[0] * first + weights[1] * second + shift) * shares).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (weights[0] * first + weights[1] * second + shift).detach()


def _similarity(material: Material, alone: Probed, i: int, j: int) -> Float[Tensor, " seed"]:
    """CKA of two sensors' activations on records that score, by seed."""
    found = []
    for seed, parts in enumerate(material.parts):
        rows = torch.nonzero((parts == 2) & material.here[i] & material.here[j])[:ROWS, 0]
        found.append(debiased_cka(alone.state[seed, i, rows], alone.state[seed, j, rows]))
    return torch.tensor(found)


def cluster(distance: Float[np.ndarray, "sensor sensor"]) -> Float[np.ndarray, "merge 4"]:
    """Average-linkage merges in the form of scipy, for a dendrogram."""
    return np.asarray(linkage(squareform(distance, checks=False), "average"))


def propose(found: Findings) -> dict[str, Any]:
    """The ``fusion.graph`` that follows from what was found; empty where one sensor is left.

    Sensors that only together say something meet in a `tensor` node (`low_rank` from three on). Of the others, those
    with activations alike (average linkage of ``1 - CKA``) share layers in a `similarity_merge` node. What stands apart
    after that is merged late, by the mean. Idle sensors are left out, unless all are: then nothing is known, and
    a late mean of all is proposed.
    """
    kept = [one for one in range(len(found.names)) if one not in found.idle] or list(range(len(found.names)))
    groups = [("joint", group) for group in _linked(found.synergies)]
    taken = {one for _, group in groups for one in group}
    rest = [one for one in kept if one not in taken]
    groups += [("shared", group) for group in _alike(found, rest) if len(group) > 1]
    taken = {one for _, group in groups for one in group}
    kinds = {"joint": "tensor", "shared": "similarity_merge"}
    graph: dict[str, Any] = {}
    for kind, group in groups:
        name = kind + "_" + "_".join(found.names[one] for one in group)
        operation = "low_rank" if kind == "joint" and len(group) > 2 else kinds[kind]
        graph[name] = {"kind": operation, "inputs": [found.names[one] for one in group]}
    tops = [*graph, *(found.names[one] for one in kept if one not in taken)]
    if len(tops) > 1:
        graph["merged"] = {"kind": "vote", "inputs": tops}
    return graph


def _linked(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    groups: list[set[int]] = []
    for pair in pairs:
        met = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in met] + [set(pair).union(*met)]
    return sorted(sorted(group) for group in groups)


def _alike(found: Findings, sensors: Sequence[int]) -> list[list[int]]:
    """Clusters of sensors, whose mean distance ``1 - CKA`` is at most ``1 - ALIKE``; pairs not redundant are at 1."""
    if len(sensors) < 2:
        return [[one] for one in sensors]
    near = np.ones((len(found.names),) * 2)
    for i, j in found.redundant:
        near[i, j] = near[j, i] = 1 - float(found.alike.mean[i, j])
    np.fill_diagonal(near, 0)
    labels = fcluster(cluster(near[np.ix_(sensors, sensors)]), 1 - ALIKE, "distance")
    return [
        [one for one, label in zip(sensors, labels, strict=True) if label == wanted] for wanted in sorted(set(labels))
    ]
