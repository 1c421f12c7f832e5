"""What may be said of a comparison in words: never more than its intervals and corrected p-values carry."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from fusionkit.core.errors import ConfigError


class Verdict(Enum):
    """What is shown of the first of two strategies."""

    BETTER = "better"
    WORSE = "worse"
    OPEN = "no difference shown"
    UNKNOWN = "nothing known"


@dataclass(frozen=True)
class Comparison:
    """Two strategies on the same subjects.

    Attributes:
        first, second: their names.
        difference: how much better the first is; of a metric of which less is better, second less first.
        low, high: its interval at 95 %; nan where there is none.
        p: of no difference, adjusted for all comparisons that are concluded together.
        units: what was compared, ``24 subjects``.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    units: str

    @property
    def turned(self) -> "Comparison":
        """The same seen from the second."""
        return Comparison(self.second, self.first, -self.difference, -self.high, -self.low, self.p, self.units)

    @property
    def verdict(self) -> Verdict:
        """Better or worse only if the interval lies on one side of 0 and the adjusted p-value is below 0.05."""
        defined = np.isfinite([self.difference, self.low, self.high, self.p]).all()
        if not defined or not self.low <= self.difference <= self.high:
            return Verdict.UNKNOWN
        if self.p >= 0.05 or self.low <= 0 <= self.high:
            return Verdict.OPEN
        return Verdict.BETTER if self.low > 0 else Verdict.WORSE

    def equivalent(self, margin: float) -> bool:
        """Whether the whole interval lies within the margin; with one at 95 %, two one-sided tests at 2.5 %."""
        return bool(-margin < self.low and self.high < margin)


def conclude(comparison: Comparison, *, margin: float) -> str:
    """One sentence on two strategies, the one with the better mean first.

    ``rcft beats concat by 0.031 [0.010, 0.052] in 24 subjects.`` Where the interval covers 0 no difference is
    said to be shown, and whether they are shown to be equivalent.

    Args:
        comparison: of the two.
        margin: the largest difference that does not matter in practice, in units of the metric.

    Raises:
        ConfigError: the margin is not above 0.
    """
    if not margin > 0:
        raise ConfigError(f"the margin of practical equivalence must be above 0, got {margin:g}")
    seen = comparison.turned if comparison.difference < 0 else comparison
    first, second, verdict = seen.first, seen.second, seen.verdict
    if verdict is Verdict.UNKNOWN:
        return f"Nothing can be said of {first} and {second}: there is no interval that holds their difference."
    size = f"{signed(seen.difference)} [{signed(seen.low)}, {signed(seen.high)}] in {seen.units}"
    if verdict is Verdict.BETTER:
        small = f"; the whole interval lies within ±{margin:g}, which is too little to matter"
        return f"{first} beats {second} by {size}{small if seen.equivalent(margin) else ''}."
    if seen.low <= 0 <= seen.high:
        why = f"the interval covers 0 ({size})"
    else:
        why = f"p = {_chance(seen.p)} after Holm's correction ({size} for this pair alone)"
    same = "is shown" if seen.equivalent(margin) else "is not shown either"
    return f"No difference between {first} and {second} is shown: {why}; equivalence within ±{margin:g} {same}."


def headline(comparisons: Sequence[Comparison], means: dict[str, float], *, better: str = "higher") -> str:
    """The answer to "which one?": the strategy with the best mean, and which of the others it is shown to beat.

    Args:
        comparisons: of that strategy and each other at least; those of other pairs are not looked at.
        means: mean score by strategy.
        better: which direction of the metric is better.

    Raises:
        ConfigError: there is no strategy.
    """
    defined = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    if not defined:
        raise ConfigError("a headline must be of one strategy or more with a score, but got none")
    best = (max if better == "higher" else min)(defined, key=lambda name: defined[name])
    others = [name for name in means if name != best]
    if not others:
        return f"{best} is the only strategy: it was compared with nothing."
    seen = {c.second: c for c in [*comparisons, *(c.turned for c in comparisons)] if c.first == best}
    beaten = [name for name in others if name in seen and seen[name].verdict is Verdict.BETTER]
    rest = [name for name in others if name not in beaten]
    if not rest:
        return f"{best} is the best of {len(means)}: it beats {_list(beaten)}."
    start = f"{best} has the best mean of {len(means)}"
    if not beaten:
        return f"{start}, but is not shown to differ from any of the others: {_list(rest)}."
    return f"{start}: it beats {_list(beaten)}, but is not shown to differ from {_list(rest)}."


def signed(value: float) -> str:
    """Three decimals, more where they would hide which side of 0 a number lies on; 0 where rounding alone put it there."""
    value = 0.0 if abs(value) < 1e-12 else value
    for digits in (3, 4, 5, 6):
        if value == 0 or abs(round(value, digits)) > 0:
            return f"{value + 0:.{digits}f}"
    return f"{value:.1e}"


def _chance(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "under 0.001"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
