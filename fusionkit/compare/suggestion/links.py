"""Granger links between sensors: does the past of one say something of what comes in another?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import f as f_distribution

from fusionkit.fusion.granger import choose_lag, granger, make_stationary, significant, standardise

LAGS = 2
"""Most bins of the past that a test takes in."""
RATE = 0.05
"""Share of false links to expect."""
LEAST = 0.01
"""Least share of the rest that a past must explain: with many bins a test believes in less."""


class Stream(NamedTuple):
    """A sensor through time, on equal bins of the window: some numbers a bin, and which bins are real."""

    values: Float[np.ndarray, "record bin number"]
    real: Bool[np.ndarray, "record bin"]


@dataclass(frozen=True)
class Links:
    """What F-tests say of every ordered pair of sensors, ``[source, target]``; NaN where a sensor has no past.

    Attributes:
        p: chance of the strongest link between numbers of the two, times how many were tried (Bonferroni).
        share: of what a number's own past leaves, the part that the source's past explains, at the strongest link.
    """

    p: Float[np.ndarray, "source target"]
    share: Float[np.ndarray, "source target"]

    @property
    def certain(self) -> Bool[np.ndarray, "source target"]:
        """Links within the false discovery rate `RATE` over all pairs that explain `LEAST` or more."""
        tested = ~np.isnan(self.p)
        found = np.zeros(self.p.shape, dtype=bool)
        found[tested] = significant(self.p[tested], RATE) & (self.share[tested] >= LEAST)
        return found

    @property
    def distance(self) -> Float[np.ndarray, "sensor sensor"]:
        """``1 - A / max A`` with ``A`` the larger ``-log10 p`` of both directions, 0 where not certain."""
        strength = np.where(self.certain, -np.log10(np.maximum(np.nan_to_num(self.p, nan=1.0), 1e-300)), 0.0)
        strength = np.maximum(strength, strength.T)
        apart = 1 - strength / max(float(strength.max()), 1e-12)
        np.fill_diagonal(apart, 0)
        return apart


def measure_links(streams: Sequence[Stream | None]) -> Links:
    """Test every two sensors that have a past, on records that have both; on the coarser of their two clocks.

    Every record is centred, or two sensors that both know a record's label would foretell each other by its mean.
    Windows that overlap count a step twice, and make tests too sure: `LEAST` is the guard.
    It is linear predictability and no cause: a common driver that comes later in one sensor links them, too.
    """
    p, share = np.full((2, len(streams), len(streams)), np.nan)
    for i, first in enumerate(streams):
        for j, second in enumerate(streams[:i]):
            if first is None or second is None:
                continue
            found = _test(first, second)
            if found is not None:
                for source, target, (chance, part) in ((i, j, found[0]), (j, i, found[1])):
                    p[source, target], share[source, target] = chance, part
    return Links(p, share)


def coarsen(stream: Stream, bins: int) -> Stream:
    """Neighbouring bins averaged over those that are real: four bins of 1, 3, 5 and none are two of 2 and 5."""
    records, had, numbers = stream.values.shape
    weight = stream.real.reshape(records, bins, had // bins, 1)
    count = weight.sum(2)
    total = (stream.values.reshape(records, bins, had // bins, numbers) * weight).sum(2)
    return Stream(total / np.maximum(count, 1), count[..., 0] > 0)


def _test(first: Stream, second: Stream) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Chance and share from the first to the second, and back; None where too few bins have both, or one never changes."""
    bins = min(first.values.shape[1], second.values.shape[1])
    first, second = coarsen(first, bins), coarsen(second, bins)
    real = first.real & second.real
    if not real.any():
        return None
    series = np.concatenate([first.values, second.values], -1).astype(np.float64)
    count = np.maximum(real.sum(1, keepdims=True), 1)[..., None]
    size = np.sqrt(np.square(series[real]).mean(0))
    series = np.where(real[..., None], series - (series * real[..., None]).sum(1, keepdims=True) / count, 0.0)
    changes = series[real].std(0) > 1e-6 * size  # a stream of few numbers is filled up with zeros
    cut = int(changes[: first.values.shape[2]].sum())
    if not 0 < cut < changes.sum():
        return None
    series = series[..., changes]
    series, real = make_stationary(standardise(series, real), real, LAGS)
    lag = choose_lag(series, real, LAGS)
    statistic, freedom = granger(series, real, lag)
    if freedom < 1:
        return None

    def strongest(block: Float[np.ndarray, "source target"]) -> tuple[float, float]:
        largest = float(block.max())
        part = largest * lag / freedom
        return min(1.0, block.size * float(f_distribution.sf(largest, lag, freedom))), part / (1 + part)

    return strongest(statistic[:cut, cut:]), strongest(statistic[cut:, :cut])
