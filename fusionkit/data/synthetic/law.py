r"""How a made record gets its label, and what each sensor sees of the label's causes.

Every record has a shared cause :math:`g`, one own cause :math:`p_m` per sensor (all standard normal) and two hidden
symbols :math:`a, b`, uniform in :math:`0 \dots K-1`, of which only `PAIR` sees one each. With :math:`M` sensors,

.. math:: s = r\,g + \frac{u}{\sqrt M} \sum_m p_m + y\,c_{(a+b) \bmod K}, \qquad
          c_k = \frac{k - (K-1)/2}{\sqrt{(K^2-1)/12}}

and the class is the bin of :math:`s` between its exact :math:`K`-quantiles, so classes are balanced. The dials
are ``redundant`` :math:`r`, ``unique`` :math:`u` and ``synergy`` :math:`y`. Sensor :math:`m` sees :math:`g`,
:math:`p_m` and its symbol's :math:`c`, each with its own normal error of deviation ``noise``. The dials change the
label's law and never the signals.

What it means for fusion. ``redundant``: each sensor can answer alone; merging decisions averages errors away.
``unique``: each sensor holds a part of the sum the others lack; joining before the decision is best. ``synergy``:
for two classes :math:`(a+b) \bmod 2` is XOR; each of the two sensors alone says nothing, and no merging of decisions
can find it, only operations that see both streams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr

from fusionkit.core.recording import Array

SENSORS = ("eeg", "audio", "image", "text")
PAIR = ("eeg", "audio")


@dataclass(frozen=True)
class Cues:
    """What one sensor sees of one record, errors included: near standard normal, to be drawn into its signal."""

    shared: float
    own: float
    symbol: float


@dataclass(frozen=True)
class Truth:
    """One record: its score in deviations, its class, the hidden symbols, and what each sensor sees."""

    score: float
    target: int
    symbols: tuple[int, int]
    cues: Mapping[str, Cues]


class Law:
    """The law of one study.

    Args:
        classes: number of classes.
        redundant: weight of the cause that every sensor sees.
        unique: weight of the causes that one sensor sees each.
        synergy: weight of the symbol that only `PAIR` together sees.
        noise: deviation of every sensor's error on all it sees.
    """

    def __init__(self, classes: int, *, redundant: float, unique: float, synergy: float, noise: float) -> None:
        self.classes = classes
        self.redundant, self.unique, self.synergy, self.noise = redundant, unique, synergy, noise
        self.unseen = 0.0 if redundant or unique or synergy else 1.0  # all dials at 0: no sensor sees the cause
        self.symbol_values = (np.arange(classes) - (classes - 1) / 2) / np.sqrt((classes**2 - 1) / 12)
        self.normal = float(np.sqrt(redundant**2 + unique**2 + self.unseen))
        self.deviation = float(np.hypot(self.normal, synergy))
        self.edges = np.array([self._quantile(k / classes) for k in range(1, classes)])

    def _quantile(self, share: float) -> float:
        """The score below which ``share`` of all records lie: a mixture of one normal per symbol."""
        spread = max(self.normal, 1e-3 * self.deviation)
        reach = 20 * self.deviation

        def excess(score: float) -> float:
            return float(ndtr((score - self.synergy * self.symbol_values) / spread).mean()) - share

        return float(brentq(excess, -reach, reach))

    def draw(self, generator: np.random.Generator) -> Truth:
        """Make one record."""
        shared, unseen = generator.standard_normal(2)
        own = generator.standard_normal(len(SENSORS))
        first, second = (int(x) for x in generator.integers(self.classes, size=2))
        errors = self.noise * generator.standard_normal((len(SENSORS), 3))
        joint = self.symbol_values[(first + second) % self.classes]
        score = self.redundant * shared + self.unique * own.sum() / np.sqrt(len(SENSORS))
        score += self.synergy * joint + self.unseen * unseen
        symbols = dict(zip(PAIR, self.symbol_values[[first, second]], strict=True))
        cues = {
            sensor: Cues(
                shared=float(shared + errors[i, 0]),
                own=float(own[i] + errors[i, 1]),
                symbol=float(symbols.get(sensor, 0.0) + errors[i, 2]),
            )
            for i, sensor in enumerate(SENSORS)
        }
        target = int(np.searchsorted(self.edges, score))
        return Truth(float(score) / self.deviation, target, (first, second), cues)

    def explained(self, sensors: Sequence[str]) -> float:
        r"""Variance of the score's normal part that ``sensors`` together explain.

        With :math:`q` sensors of :math:`M` and noise :math:`n`, :math:`r^2 \frac{q}{q + n^2} + u^2 \frac{q}{M (1 + n^2)}`;
        all four without noise explain :math:`r^2 + u^2`.
        """
        count, error = len(set(sensors)), self.noise**2
        if not count:
            return 0.0
        return self.redundant**2 * count / (count + error) + self.unique**2 * count / len(SENSORS) / (1 + error)

    def best_accuracy(self, sensors: Sequence[str], draws: int = 20_000) -> float:
        r"""Accuracy of the best possible classifier that sees ``sensors`` (their cues, not their signals).

        The posterior of the class is exact, its mean over records is taken over ``draws`` drawn ones. Two classes
        without synergy have the closed form :math:`\frac12 + \frac1\pi \arcsin\sqrt{\rho}`, where :math:`\rho` is the
        explained share of the variance: ``unique`` alone gives one sensor of four (:math:`\rho = 1/4`) 2/3 without noise.
        Two classes with ``synergy`` alone give the pair :math:`(1-e)^2 + e^2` with :math:`e = \Phi(-1/n)`.

        Args:
            sensors: names out of `SENSORS`.
            draws: records to average over; the standard error is below ``0.5 / sqrt(draws)``.
        """
        generator = np.random.default_rng(0)
        explained = self.explained(sensors)
        seen = np.sqrt(explained) * generator.standard_normal(draws)
        left = np.sqrt(max(self.normal**2 - explained, (1e-6 * self.deviation) ** 2))
        joint = np.full((draws, self.classes), 1 / self.classes)
        if set(PAIR) <= set(sensors):
            joint = self._joint_posterior(generator, draws)
        centre = seen[:, None] + self.synergy * self.symbol_values  # (draw, joint symbol)
        below = ndtr((self.edges[:, None, None] - centre) / left)  # (edge, draw, joint symbol)
        ends = np.zeros((1, *centre.shape)), np.ones((1, *centre.shape))
        classes = np.diff(np.concatenate([ends[0], below, ends[1]]), axis=0)
        return float((classes * joint).sum(-1).max(0).mean())

    def _joint_posterior(self, generator: np.random.Generator, draws: int) -> Float[np.ndarray, "draw class_"]:
        """Posterior of ``(a + b) mod K`` given both noisy symbols."""
        each: list[Array] = []
        for _ in PAIR:
            truth = self.symbol_values[generator.integers(self.classes, size=draws)]
            seen = truth + self.noise * generator.standard_normal(draws)
            distance = (seen[:, None] - self.symbol_values) ** 2 / 2 / max(self.noise, 1e-6) ** 2
            weight = np.exp(distance.min(1, keepdims=True) - distance)
            each.append(weight / weight.sum(1, keepdims=True))
        joint = np.zeros_like(each[0])
        for first in range(self.classes):
            for second in range(self.classes):
                joint[:, (first + second) % self.classes] += each[0][:, first] * each[1][:, second]
        return joint
