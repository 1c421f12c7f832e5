"""Granger causality between channels: F-tests over windows, the false discovery rate, and groups of linked channels."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Series = Float[np.ndarray, "record step channel"]
Real = Bool[np.ndarray, "record step"]


class Moments:
    """Sums of products of all channels now and up to ``lag`` steps ago, over every step whose past is real.

    Regressions on any of these columns need nothing else. Column 0 is one, column ``1 + channel + ago * channels``
    is a channel some steps ago; ``rows`` says how many steps there are: 398 of one series of 400 with lag 2.
    """

    def __init__(self, series: Series, real: Real, lag: int) -> None:
        self.channels, self.lag, self.rows = series.shape[2], lag, 0
        width = 1 + (lag + 1) * self.channels
        self.products = np.zeros((width, width))
        for some, there in zip(_parts(series), _parts(real), strict=True):
            if some.shape[1] <= lag:
                continue
            runs = np.lib.stride_tricks.sliding_window_view(some, lag + 1, axis=1)  # record, step, channel, time
            whole = np.lib.stride_tricks.sliding_window_view(there, lag + 1, axis=1).all(-1)
            rows = runs[whole][:, :, ::-1].transpose(0, 2, 1).reshape(-1, width - 1)
            rows = np.concatenate([np.ones((len(rows), 1)), rows], 1)
            self.products += rows.T @ rows
            self.rows += len(rows)

    def columns(self, channel: int, lag: int | None = None) -> list[int]:
        """A channel 1 to ``lag`` steps ago."""
        return [1 + channel + ago * self.channels for ago in range(1, (self.lag if lag is None else lag) + 1)]

    def residual(self, target: int, columns: Int[np.ndarray, "*sets predictor"]) -> Float[np.ndarray, " *sets"]:
        """Sum of squares that least squares on a set of columns leaves of a column."""
        inner = self.products[columns[..., :, None], columns[..., None, :]]
        inner = inner + 1e-12 * self.rows * np.eye(columns.shape[-1])  # a channel may be there twice
        outer = self.products[columns, target]
        left = self.products[target, target] - (np.linalg.solve(inner, outer[..., None])[..., 0] * outer).sum(-1)
        return np.asarray(np.maximum(left, 1e-12 * self.products[target, target] + 1e-200))


def varies(seen: Float[np.ndarray, "step channel"]) -> Bool[np.ndarray, " channel"]:
    """Which channels are more than one number and its rounding."""
    if not len(seen):
        return np.zeros(seen.shape[1], dtype=bool)
    return np.asarray(seen.std(0) > 1e-9 * (np.abs(seen.mean(0)) + 1e-9))


def standardise(series: Series, real: Real) -> Series:
    """Every channel to mean 0 and spread 1 over its real steps; zero where nothing is real."""
    seen = series[real]
    mean, spread = seen.mean(0), np.where(varies(seen), seen.std(0), 1.0)
    return np.where(real[..., None], (series - mean) / spread, 0.0)


def unit_root(series: Series, real: Real, lag: int) -> Float[np.ndarray, " channel"]:
    r"""The augmented Dickey-Fuller statistic of each channel, with a constant.

    It is the t-value of :math:`\gamma` in :math:`\Delta y_t = c + \gamma y_{t-1} + \sum_{i=1}^{p} \delta_i \Delta y_{t-i}`;
    under -2.86 a unit root is rejected at 5 % (many steps). The steps of all windows are one regression. NaN where
    there are too few.

    Reference:
        Dickey and Fuller, JASA 74(366), 1979; MacKinnon, "Critical Values for Cointegration Tests", 2010.
    """
    found = np.full(series.shape[2], np.nan)
    for channel in range(series.shape[2]):
        level = series[..., channel]
        change = np.diff(level, axis=1, prepend=np.nan)
        both = np.stack([np.nan_to_num(change), level], -1)
        moments = Moments(both, real & _before(real), lag)  # a change is of two real steps
        columns = np.array([0, 1 + 1 + 2, *moments.columns(0)])  # one, the level a step ago, changes before
        freedom = moments.rows - len(columns)
        if freedom < 1:
            continue
        inner = np.linalg.pinv(moments.products[np.ix_(columns, columns)])
        slope = inner[1] @ moments.products[columns, 1]
        variance = float(moments.residual(1, columns)) / freedom
        found[channel] = slope / np.sqrt(max(variance * inner[1, 1], 1e-300))
    return found


def make_stationary(series: Series, real: Real, lag: int) -> tuple[Series, Real]:
    """Difference the channels whose unit root is not rejected, twice at most; a step is real if all channels' are.

    One that never changes has none, and costs the others no step.
    """
    series, trending = series.copy(), varies(series[real])
    for _ in range(2):
        trending = trending & (unit_root(series, real, lag) > -2.86)
        if not trending.any():
            break
        series[:, 1:, trending] = np.diff(series[..., trending], axis=1)
        real = real & _before(real)
    return np.where(real[..., None], series, 0.0), real


def choose_lag(series: Series, real: Real, most: int) -> int:
    """The number of lags with the smallest Bayesian information criterion, averaged over ordered pairs.

    ``n log(RSS / n) + (2 p + 1) log n`` of the unrestricted regressions, on the steps that have ``most`` before them;
    ``most`` is less where too few steps have.
    """
    moments = Moments(series, real, most)
    while most > 1 and moments.rows <= 2 * most + 1:  # too few steps to tell: ask for a shorter past
        most -= 1
        moments = Moments(series, real, most)
    if moments.rows == 0:
        return most
    scores = []
    for lag in range(1, most + 1):
        left = [moments.residual(1 + target, sets) for target, sets in _pairs(moments, lag)]
        penalty = (2 * lag + 1) * np.log(moments.rows)
        scores.append(np.mean(moments.rows * np.log(np.concatenate(left) / moments.rows)) + penalty)
    return int(np.argmin(scores)) + 1


def granger(series: Series, real: Real, lag: int) -> tuple[Float[np.ndarray, "source target"], int]:
    r"""F-statistics of every channel's past helping to predict every other, and the degrees of freedom.

    .. math:: F = \frac{(RSS_r - RSS_u) / p}{RSS_u / (n - 2 p - 1)}

    where the restricted regression has the target's own p lags, the unrestricted one the source's too, both a
    constant; n counts the steps of all windows that have p real ones before them. The diagonal is 0. It is linear
    predictability, not cause: a common driver gives links, too.

    Reference:
        Granger, "Investigating Causal Relations by Econometric Models and Cross-spectral Methods", Econometrica 37(3), 1969.
    """
    moments = Moments(series, real, lag)
    freedom = moments.rows - 2 * lag - 1
    found = np.zeros((moments.channels, moments.channels))
    if freedom < 1:
        return found, freedom
    for target, sets in _pairs(moments, lag):
        restricted = moments.residual(1 + target, np.array([0, *moments.columns(target)]))
        unrestricted = moments.residual(1 + target, sets)
        gain = np.maximum(restricted - unrestricted, 0.0) / lag / (unrestricted / freedom)
        found[[source for source in range(moments.channels) if source != target], target] = gain
    return found, freedom


def significant(p: Float[np.ndarray, "*tests"], rate: float) -> Bool[np.ndarray, "*tests"]:
    """Which tests to believe so that ``rate`` of them are expected to be false (Benjamini and Hochberg).

    Of p = (0.01, 0.04, 0.03, 0.5) at 0.05 only the first: sorted, the others are above 0.025, 0.0375 and 0.05.

    Reference:
        Benjamini and Hochberg, JRSS B 57(1), 1995.
    """
    flat = np.sort(p, axis=None)
    below = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / max(flat.size, 1))
    if not below.size:
        return np.zeros(p.shape, dtype=bool)
    kept: Bool[np.ndarray, "*tests"] = p <= flat[below[-1]]
    return kept


def links(
    statistic: Float[np.ndarray, "source target"], lag: int, freedom: int, rate: float
) -> Float[np.ndarray, "source target"]:
    """``-log10 p`` of the links that are significant among all ordered pairs, at most 300; else 0."""
    from scipy.stats import f as f_distribution

    channels = len(statistic)
    if freedom < 1 or channels < 2:
        return np.zeros_like(statistic)
    p = f_distribution.sf(statistic, lag, freedom)
    apart = ~np.eye(channels, dtype=bool)
    kept = np.zeros_like(apart)
    kept[apart] = significant(p[apart], rate)
    return np.where(kept, -np.log10(np.maximum(p, 1e-300)), 0.0)


def linked_groups(strength: Float[np.ndarray, "source target"], most: int) -> list[list[int]]:
    """Channels joined by links in either direction, the largest groups first, then by their first channel.

    If there are more than ``most``, the smallest go together into the last.
    """
    channels = len(strength)
    left, groups = set(range(channels)), []
    linked = (strength > 0) | (strength.T > 0)
    while left:
        group, edge = set[int](), {min(left)}
        while edge:
            group |= edge
            edge = {int(other) for one in edge for other in np.flatnonzero(linked[one])} - group
        groups.append(sorted(group))
        left -= group
    groups.sort(key=lambda group: (-len(group), group[0]))
    if len(groups) > most:
        groups[most - 1 :] = [sorted(channel for group in groups[most - 1 :] for channel in group)]
    return groups


def _before(real: Real) -> Real:
    """Where the step before is real."""
    return np.concatenate([np.zeros_like(real[:, :1]), real[:, :-1]], 1)


def _pairs(moments: Moments, lag: int) -> list[tuple[int, Int[np.ndarray, "source predictor"]]]:
    """For every target the columns of the unrestricted regressions, a row for every other channel."""
    pairs = []
    for target in range(moments.channels):
        own = [0, *moments.columns(target, lag)]
        sets = [own + moments.columns(source, lag) for source in range(moments.channels) if source != target]
        if sets:
            pairs.append((target, np.array(sets)))
    return pairs


def _parts(array: np.ndarray) -> Sequence[np.ndarray]:
    """Records in parts, so that the runs of a few million steps need not be in memory together."""
    return [array[start : start + 256] for start in range(0, len(array), 256)]
