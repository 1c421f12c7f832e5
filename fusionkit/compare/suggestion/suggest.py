"""What sensors bring, alone and in pairs, what they share, and what of it counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.compare.suggestion.links import Links, Stream, measure_links
from fusionkit.compare.suggestion.probe import Count, Material, Probed, mean_loss, probe
from fusionkit.compare.suggestion.transfer import Estimate, estimate, heterogeneity, measure_transfer
from fusionkit.core.recording import Array
from fusionkit.fusion.cka import debiased_cka

ALIKE = 0.05
"""CKA of activations from which on two sensors are redundant."""
WORTH = 0.03
"""Least gain that counts, as a share of the loss without any sensor."""
SHARE = 0.15
"""Of what two sensors, or two pairs, say together: what shared layers may cost them."""
PAIRS = 8
"""Most pairs whose crossings are compared: that takes the square of them."""
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
        benefit: loss less by two together, jointly or late, than by the better of the two.
        synergy: loss less by a joint network of two than by the best late combination of the two.
        alike: debiased CKA of activations of networks that were trained alone.
        transfer: cost of another sensor's layers, ``[from, to]``.
        pairs: pairs whose crossings were compared: those with synergy first, then by loss.
        crossing: cost of another pair's layers, ``[from, to]``.
        links: what Granger tests say.
    """

    names: tuple[str, ...]
    prior: float
    alone: Estimate
    addition: Estimate
    benefit: Estimate
    synergy: Estimate
    alike: Estimate
    transfer: Estimate
    pairs: tuple[tuple[int, int], ...]
    crossing: Estimate
    links: Links

    @property
    def distance(self) -> Array:
        """Heterogeneity of every two sensors."""
        return heterogeneity(self.transfer).double().numpy()

    @property
    def crossing_distance(self) -> Array:
        """Heterogeneity of every two of ``pairs``."""
        return heterogeneity(self.crossing).double().numpy()

    @property
    def excess(self) -> Array:
        """Heterogeneity of sensors over what it may be; up to 1 two may share layers."""
        return self.distance / self._limit(self.alone.mean)

    @property
    def crossing_excess(self) -> Array:
        """Heterogeneity of ``pairs`` over what it may be; up to 1 two may share a crossing."""
        alone = self.alone.mean
        gains = [torch.maximum(alone[i], alone[j]) + self.benefit.mean[i, j] for i, j in self.pairs]
        return self.crossing_distance / self._limit(torch.tensor(gains))

    @property
    def helpful(self) -> list[tuple[int, int]]:
        """Pairs that together say more than the better of the two."""
        return self._pairs(self._worth(self.benefit))

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
    def sharing(self) -> list[tuple[int, int]]:
        """Redundant pairs whose layers cost each other nothing that counts."""
        return [pair for pair in self.redundant if self.excess[pair] <= 1]

    @property
    def linked(self) -> list[tuple[int, int]]:
        """Sensors, source first, whose past foretells another."""
        return [(int(source), int(target)) for source, target in zip(*self.links.certain.nonzero(), strict=True)]

    @property
    def idle(self) -> list[int]:
        """Sensors that say nothing alone, add nothing to all others and have no partner."""
        useful = self._worth(self.alone) | self._worth(self.addition)
        partners = {one for pair in self.synergies for one in pair}
        return [one for one in range(len(self.names)) if not useful[one] and one not in partners]

    def _limit(self, gains: Float[Tensor, " one"]) -> Array:
        """What shared layers may cost: less than what counts in both directions, or `SHARE` of what both say."""
        says = gains.clamp_min(0).double().numpy()
        return np.asarray(np.maximum(2 * WORTH * self.prior, SHARE * (says[:, None] + says)))

    def _worth(self, gain: Estimate) -> Tensor:
        return (gain.low > 0) & (gain.mean >= WORTH * self.prior)

    def _pairs(self, which: Tensor) -> list[tuple[int, int]]:
        return [(i, j) for i, j in combinations(range(len(self.names)), 2) if which[i, j]]


def measure(
    material: Material,
    names: Sequence[str],
    streams: Sequence[Stream | None] = (),
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Findings:
    """Train every sensor alone, every pair, all, and all but one, and each through the layers of the others.

    They are compared on records of groups that train none. Errors are over seeds, each with groups and weights of its
    own; the groups of two seeds overlap, so they are somewhat too small, which is why a gain must also reach `WORTH`.
    The cost grows with the square of the sensors, and of at most `PAIRS` pairs.

    Args:
        material: sensors as vectors, and a task.
        names: of two sensors or more.
        streams: the sensors through time, for Granger tests; None where one has no past, empty without tests.
        report: hears how many networks of how many are trained.
    """
    seeds, sensors = len(material.parts), len(names)
    pairs = list(combinations(range(sensors), 2))
    kept, done = min(PAIRS, len(pairs)), 0
    total = sensors + len(pairs) + sensors + 1 + sensors**2 + kept**2

    def count(number: int) -> None:
        nonlocal done
        done += number
        report(done, total)

    alone = probe(material, [[one] for one in range(sensors)], count=count)
    joint = probe(material, pairs, count=count)
    nothing = material.prior()[:, None, None].expand(-1, sensors, material.target.shape[0], -1)
    prior = float(mean_loss(material, nothing[:, :1], material.here.any(0)[None]).mean())
    gain = mean_loss(material, nothing, alone.counted) - mean_loss(material, alone.answer, alone.counted)
    late = best_late(material, alone, pairs)
    together = mean_loss(material, joint.answer, joint.counted)
    better = torch.minimum(
        *(mean_loss(material, alone.answer[:, [pair[side] for pair in pairs]], joint.counted) for side in (0, 1))
    )
    square = torch.zeros(3, seeds, sensors, sensors)
    for place, (i, j) in enumerate(pairs):
        each = (
            better[:, place] - torch.minimum(late, together)[:, place],
            late[:, place] - together[:, place],
            _similarity(material, alone, i, j),
        )
        square[:, :, i, j] = square[:, :, j, i] = torch.stack(each)
    benefit, synergy, alike = (estimate(one) for one in square)
    addition = estimate(_additions(material, count))
    transfer = measure_transfer(material, [[one] for one in range(sensors)], alone, count)
    says = (late - together).mean(0) >= WORTH * prior
    order = sorted(range(len(pairs)), key=lambda place: (not says[place], float(together[:, place].mean())))[:kept]
    crossing = measure_transfer(material, [pairs[place] for place in order], joint.of(order), count)
    return Findings(
        names=tuple(names),
        prior=prior,
        alone=estimate(gain),
        addition=addition,
        benefit=benefit,
        synergy=synergy,
        alike=alike,
        transfer=transfer,
        pairs=tuple(pairs[place] for place in order),
        crossing=crossing,
        links=measure_links(streams or [None] * sensors),
    )


def _additions(material: Material, count: Count) -> Float[Tensor, "seed sensor"]:
    """Loss less by each sensor beside all others, on records that have it."""
    sensors = len(material.values)
    others = [[one for one in range(sensors) if one != left] for left in range(sensors)]
    whole = probe(material, [list(range(sensors))], partial=True, count=count).answer.expand(-1, sensors, -1, -1)
    without = probe(material, others, partial=True, count=count)
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
