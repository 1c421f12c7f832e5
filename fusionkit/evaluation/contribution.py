"""What each sensor is worth: Shapley values of the sensors, from the scores of every subset of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float

from fusionkit.core.errors import DataError, ShapeError, UnknownNameError
from fusionkit.core.recording import Array
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.statistics.conclude import signed
from fusionkit.evaluation.statistics.holm import holm
from fusionkit.evaluation.statistics.resampled import Resampled

MOST = 12  # sensors; each more doubles the subsets


@dataclass(frozen=True)
class Contribution:
    """The sensors of one task, each with an interval over subjects.

    The value of a set of sensors is the score of the one model, trained with whole sensors left out at random, when
    it is given only those; that of none is what the training prior scores.

    Attributes:
        sensors: their names.
        total: what all of them score above none.
        shapley: each sensor's share of the total.
        alone: what it scores above none, without the others.
        added: what it adds to all the others.
        shown: whether that is shown not to be 0, all sensors asked at once: by a t test over subjects, after Holm.
        pairs: by two sensors, what they are worth together beyond what each brings; below 0 where they say the same.
        check: largest distance of a share from its estimate by random orders, in standard errors.
    """

    sensors: tuple[str, ...]
    total: Interval
    shapley: dict[str, Interval]
    alone: dict[str, Interval]
    added: dict[str, Interval]
    shown: dict[str, bool]
    pairs: dict[tuple[str, str], Interval]
    check: float


def contribution(scores: Resampled, sensors: Sequence[str], *, seed: int = 0, orders: int = 2000) -> Contribution:
    """Every share of one task with its interval.

    Args:
        scores: of every subset, ``(subset,)``, in the order of `subsets`; more is better (turn the sign of an error).
        sensors: their names.
        seed: of the random orders that the exact shares are checked with.
        orders: how many.

    Raises:
        ShapeError: there is not one score for each subset.
    """
    if _sensors(scores.value) != len(sensors) or scores.value.ndim != 1:
        raise ShapeError(f"there must be a score for each of {2 ** len(sensors)} subsets, got {scores.value.shape}")

    def each(measure: Callable[[Array], Array]) -> dict[str, Interval]:
        return dict(zip(sensors, scores.then(measure).intervals(), strict=True))

    first, second = np.triu_indices(len(sensors), k=1)
    together = scores.then(lambda values: interaction(values)[..., first, second])
    exact = shapley(scores.value)
    sampled, error = sampled_shapley(scores.value, orders=orders, seed=seed)
    apart = np.where(np.abs(exact - sampled) < 1e-9, 0, np.abs(exact - sampled))
    away = np.divide(apart, error, out=np.where(apart > 0, np.inf, 0.0), where=error > 0)
    chances = holm(scores.then(added).chance())
    return Contribution(
        sensors=tuple(sensors),
        total=scores.then(lambda values: values[..., -1] - values[..., 0]).interval(),
        shapley=each(shapley),
        alone=each(alone),
        added=each(added),
        shown={name: bool(p < 0.05) for name, p in zip(sensors, chances, strict=True)},
        pairs=dict(zip(combinations(sensors, 2), together.intervals(), strict=True)),
        check=float(away.max(initial=0)),
    )


def adds(found: Contribution, sensor: str) -> str:
    """Whether a sensor adds anything to the others, in words that its interval carries, asked of all sensors at once.

    ``eeg adds 0.031 [0.010, 0.052] to audio and image.``

    Raises:
        UnknownNameError: there is no such sensor.
    """
    if sensor not in found.added:
        raise UnknownNameError("sensor", sensor, found.sensors)
    others = [name for name in found.sensors if name != sensor]
    to = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else "".join(others) or "nothing"
    gain = found.added[sensor]
    size = f"{signed(gain.value)} [{signed(gain.low)}, {signed(gain.high)}]"
    if not np.isfinite([gain.low, gain.high]).all():
        return f"Whether {sensor} adds anything to {to} cannot be said: {gain.note or 'there is no interval'}."
    if gain.low <= 0 <= gain.high:
        return f"{sensor} is not shown to add anything to {to}: the interval covers 0 ({size})."
    if not found.shown[sensor]:
        says = "add anything to" if gain.low > 0 else "take away from"
        many = len(found.sensors)
        return f"{sensor} is not shown to {says} {to}: asked of {many} sensors at once, it may be chance ({size} by itself)."
    return f"{sensor} adds {size} to {to}." if gain.low > 0 else f"{sensor} takes away from {to}: {size}."


def subsets(sensors: Sequence[str]) -> list[frozenset[str]]:
    """All subsets in the order of their scores: number b has the sensors whose bit is set in b, the last has all.

    Of a and b: none, a, b, both.
    """
    return [
        frozenset(name for bit, name in enumerate(sensors) if number >> bit & 1) for number in range(2 ** len(sensors))
    ]


def subset_scores(scores: Mapping[frozenset[str], Array], sensors: Sequence[str]) -> Float[np.ndarray, "*n subset"]:
    """Scores of all subsets on one axis, the last, in the order of `subsets`.

    Raises:
        DataError: a subset has no score, or a score is of sensors that are none.
    """
    every = subsets(sensors)
    missing = [_named(subset) for subset in every if subset not in scores]
    unknown = [_named(subset) for subset in scores if subset not in set(every)]
    if missing or unknown:
        wrong = f"{missing[0]} has none" if missing else f"{unknown[0]} is no subset of {_named(sensors)}"
        raise DataError(f"every subset of the sensors must have a score, but {wrong}")
    return np.stack([np.asarray(scores[subset], dtype=np.float64) for subset in every], axis=-1)


def shapley(values: Float[np.ndarray, "*n subset"]) -> Float[np.ndarray, "*n sensor"]:
    r"""What a sensor adds, on average over all orders in which sensors may be plugged in.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|! \, (m - |S| - 1)!}{m!} \, \bigl(v(S \cup i) - v(S)\bigr)

    The shares add up to v(all) - v(none); sensors that always bring the same have the same; one that never brings
    anything has 0. Values 0, 0.2, 0.4, 1 of none, a, b and both give 0.4 and 0.6.

    Raises:
        ShapeError: the number of values is no power of two.

    Reference:
        Shapley, A Value for n-Person Games, Contributions to the Theory of Games II, 1953.
    """
    return np.asarray(values @ _shares(_sensors(values)).T)


def alone(values: Float[np.ndarray, "*n subset"]) -> Float[np.ndarray, "*n sensor"]:
    """What each sensor scores above none, without the others: 0.2 and 0.4 of the values 0, 0.2, 0.4, 1."""
    return np.asarray(values[..., 1 << np.arange(_sensors(values))] - values[..., :1])


def added(values: Float[np.ndarray, "*n subset"]) -> Float[np.ndarray, "*n sensor"]:
    """What each sensor adds to all the others: 0.6 and 0.8 of the values 0, 0.2, 0.4, 1."""
    every = values.shape[-1] - 1
    return np.asarray(values[..., -1:] - values[..., every - (1 << np.arange(_sensors(values)))])


def interaction(values: Float[np.ndarray, "*n subset"]) -> Float[np.ndarray, "*n sensor sensor"]:
    r"""What two sensors are worth together beyond what each brings, averaged over what else is plugged in.

    .. math:: I_{ij} = \sum_{S \not\ni i, j} \frac{|S|! \, (m - |S| - 2)!}{(m - 1)!} \,
              \bigl(v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S)\bigr)

    0 on the diagonal. Where both are needed (values 0, 0, 0, 1) it is 1, where either will do (0, 1, 1, 1), -1.

    Raises:
        ShapeError: the number of values is no power of two.

    Reference:
        Grabisch and Roubens, An Axiomatic Approach to the Concept of Interaction, Int. J. Game Theory 1999.
    """
    sensors = _sensors(values)
    table = np.zeros((*values.shape[:-1], sensors, sensors))
    for i, j in combinations(range(sensors), 2):
        without = [s for s in range(2**sensors) if not s >> i & 1 and not s >> j & 1]
        for s in without:
            weight = 1 / ((sensors - 1) * comb(sensors - 2, s.bit_count()))
            both, first, second = s | 1 << i | 1 << j, s | 1 << i, s | 1 << j
            gain = values[..., both] - values[..., first] - values[..., second] + values[..., s]
            table[..., i, j] += weight * gain
        table[..., j, i] = table[..., i, j]
    return table


def sampled_shapley(
    values: Float[np.ndarray, " subset"], *, orders: int, seed: int
) -> tuple[Float[np.ndarray, " sensor"], Float[np.ndarray, " sensor"]]:
    """Shares from random orders of plugging in, and their standard errors: a check of the exact ones.

    Raises:
        ShapeError: the number of values is no power of two.

    Reference:
        Castro, Gomez, Tejada, Polynomial Calculation of the Shapley Value Based on Sampling, 2009.
    """
    sensors = _sensors(values)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(sensors), (orders, 1)), axis=1)
    after = np.cumsum(1 << order, axis=1)
    gain = np.empty((orders, sensors))
    np.put_along_axis(gain, order, values[after] - values[after - (1 << order)], axis=1)
    return gain.mean(0), gain.std(0, ddof=1) / np.sqrt(orders)


@lru_cache(maxsize=16)
def _shares(sensors: int) -> Float[np.ndarray, "sensor subset"]:
    """Weight of the value of every subset in the share of every sensor."""
    number = np.arange(2**sensors)
    size = np.array([subset.bit_count() for subset in number.tolist()])
    weight = np.array([1 / (sensors * comb(sensors - 1, others)) for others in range(sensors)])
    table = np.empty((sensors, len(number)))
    for sensor in range(sensors):
        here = (number >> sensor & 1).astype(bool)
        table[sensor, here] = weight[size[here] - 1]
        table[sensor, ~here] = -weight[size[~here]]
    return table


def _sensors(values: Array) -> int:
    count = values.shape[-1] if values.ndim else 0
    sensors = count.bit_length() - 1
    if count < 2 or count != 1 << sensors or sensors > MOST:
        raise ShapeError(f"there must be a value for each subset of 1 to {MOST} sensors, but got {count} values")
    return sensors


def _named(sensors: Iterable[str]) -> str:
    return " + ".join(sorted(sensors)) or "none"
