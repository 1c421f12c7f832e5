"""Everything causal that is done to a signal before windows are cut of it: the same code offline and in a stream."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd
from typing import Any

import numpy as np
from scipy import signal

from fusionkit.runtime.errors import BundleError

Array = np.ndarray[Any, Any]
KEYS = {"sos": {"sos"}, "mix": {"matrix"}, "resample": {"up", "down"}, "bank": {"sos"}}
LARGEST_RATIO = 10_000
MOST_SAMPLES = 100
"""Samples that a chain makes of one at most, in all of its steps together."""
MOST_CHANNELS = 10_000
LARGEST = 1e30
"""What a sample may be: a larger one would stay in the filters for ever."""
HALF = 10  # samples of the lower rate on either side of the middle of a resampling filter
PIECE = 2**11


class Chain:
    """Causal steps from the channels of a stream to what windows are cut of; it remembers where it stands.

    Pushing a recording whole or in chunks of any size gives the same samples. Every filter starts in the steady state
    of the first sample, so that an offset rings nowhere. A sample that is not finite, or beyond 1e30, is lost: filters see the
    last good value of its channel instead (and start with its first good one), and NaN comes out in its place, so
    that a lost sample costs no other. Steps, as the manifest of a bundle keeps them:

    - ``{"step": "sos", "sos": [[b0, b1, b2, 1, a1, a2], ...]}``: second-order sections on every channel.
    - ``{"step": "mix", "matrix": [[...], ...]}``: output by input; a reference, an interpolation, an alignment. An
      output is lost where an input is that has at least half of its largest weight.
    - ``{"step": "resample", "up": 128, "down": 125}``: a polyphase filter. ``n`` samples in, in whatever chunks,
      have given ``ceil(n * up / down)`` samples out. Its delay is ten samples of the lower of both rates.
    - ``{"step": "bank", "sos": [[[...], ...], ...]}``: second-order sections of every band, which makes
      ``(time, channel)`` into ``(time, channel, band)``; only as the last step.

    Args:
        steps: in the order of their use; none passes samples through.

    Attributes:
        ratio: samples out per sample in.

    Raises:
        BundleError: a step is unknown, has other keys, its filter is unstable, or its numbers have another shape.

    Example:
        >>> double = Chain([{"step": "mix", "matrix": [[2.0]]}])
        >>> double.push(np.ones((3, 1))).ravel().tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(steps, str | bytes | Mapping) or not isinstance(steps, Sequence):
            raise BundleError(f"a chain must be a list of steps, but got {type(steps).__name__}")
        self._steps = [_make(f"chain step {number}", step) for number, step in enumerate(steps, start=1)]
        for number, step in enumerate(self._steps[:-1], start=1):
            if isinstance(step, _Bank):
                raise BundleError(f"chain step {number}: a bank must be the last step, but others follow")
        self.ratio = Fraction(1)
        for step in self._steps:
            self.ratio *= Fraction(step.up, step.down) if isinstance(step, _Resample) else 1
            if self.ratio > MOST_SAMPLES:
                raise BundleError(
                    f"a chain must make at most {MOST_SAMPLES} samples of one, but makes {float(self.ratio):g}"
                )
        self.reset()

    def reset(self) -> None:
        """Forget all samples, as before the first chunk."""
        self._held: Array | None = None
        for step in self._steps:
            step.reset()

    def push(self, chunk: Array) -> Array:
        """Take the next samples ``(time, channel)``; give what they complete: ``(time', channel'[, band])`` float32.

        Raises:
            BundleError: the chunk has other axes or another number of channels than fit.
        """
        chunk = np.asarray(chunk)
        if chunk.ndim != 2 or chunk.dtype.kind not in "biuf":
            raise BundleError(f"a chunk must be numbers (time, channel), but got {chunk.dtype} {list(chunk.shape)}")
        if self._held is None:
            self._held = np.full(chunk.shape[1], np.nan)
        if chunk.shape[1] != len(self._held):
            raise BundleError(f"a chunk must have {len(self._held)} channels, as before, but has {chunk.shape[1]}")
        starts = range(0, max(1, len(chunk)), PIECE)  # so that a long recording is never held in double precision
        return np.concatenate([self._push(chunk[start : start + PIECE]) for start in starts])

    def _push(self, chunk: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # NaN that signal; what float32 cannot hold is infinite
            values, lost = self._hold(chunk.astype(np.float64))
            for step in self._steps:
                values, lost = step.push(values, lost)
            out = values.astype(np.float32)
        out[lost] = np.nan  # of a channel in all bands
        return out

    def _hold(self, values: Array) -> tuple[Array, Array]:
        """Put the last good value of its channel for what is lost; 0 before the first good one."""
        assert self._held is not None
        lost = ~(np.abs(values) <= LARGEST)
        if lost.any() or np.isnan(self._held).any():
            rows = np.concatenate([self._held[None], np.where(lost, np.nan, values)])
            good = np.where(np.isfinite(rows), np.arange(len(rows))[:, None], 0)
            rows = np.take_along_axis(rows, np.maximum.accumulate(good, axis=0), axis=0)
            values, self._held = np.nan_to_num(rows[1:], nan=0.0), rows[-1]
        elif len(values):
            self._held = values[-1]
        return values, lost


class _Step(ABC):
    """One step; ``values`` are always finite, ``lost`` says which of them nobody measured."""

    def __init__(self, where: str) -> None:
        self.where = where

    @abstractmethod
    def push(self, values: Array, lost: Array) -> tuple[Array, Array]: ...

    @abstractmethod
    def reset(self) -> None:
        """Forget all samples."""


class _Mix(_Step):
    """A linear mix of channels; it remembers nothing."""

    def __init__(self, where: str, matrix: Array) -> None:
        super().__init__(where)
        self.matrix = matrix
        largest = np.abs(matrix).max(1, keepdims=True)
        self.needs = (np.abs(matrix) >= largest / 2) & (largest > 0)

    def push(self, values: Array, lost: Array) -> tuple[Array, Array]:
        if values.shape[1] != self.matrix.shape[1]:
            raise BundleError(
                f"{self.where}: a mix of {self.matrix.shape[1]} channels must get as many, but got {values.shape[1]}"
            )
        if lost.any():
            lost = (lost.astype(np.float64) @ self.needs.T.astype(np.float64)) > 0
        else:
            lost = np.zeros((len(values), len(self.matrix)), bool)
        return values @ self.matrix.T, lost

    def reset(self) -> None:
        """There are none that it remembers."""


class _Memory(_Step):
    """A step that starts, for every channel, in the steady state of the first sample that is not lost."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.started: Array | None = None

    def reset(self) -> None:
        """Forget all samples."""
        self.started = None

    def begin(self, values: Array, lost: Array) -> tuple[Array, Array, Array]:
        """Which channels start within these samples, their first good values, and the samples with those before them."""
        if self.started is None:
            self.started = np.zeros(values.shape[1], bool)
        fresh = ~self.started & ~lost.all(0)
        if fresh.any():
            first = np.argmin(lost, axis=0)
            level = np.where(fresh, values[first, np.arange(values.shape[1])], 0.0)
            before = fresh & (np.arange(len(values))[:, None] < first)
            self.started = self.started | fresh
            return fresh, level, np.where(before, level, values)
        return fresh, np.zeros(values.shape[1]), values


class _Sections(_Memory):
    """Second-order sections on every channel."""

    def __init__(self, where: str, sos: Array) -> None:
        super().__init__(where)
        self.sos = sos
        try:
            self.steady = signal.sosfilt_zi(sos)[..., None]
        except np.linalg.LinAlgError:
            raise BundleError(f"{where}: a filter must have a steady state, but a pole lies at 1") from None
        self.state: Array | None = None

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.state = None

    def push(self, values: Array, lost: Array) -> tuple[Array, Array]:
        if not len(values):
            return values, lost
        fresh, level, values = self.begin(values, lost)
        if self.state is None:
            self.state = np.zeros((len(self.sos), 2, values.shape[1]))
        if fresh.any():
            self.state = np.where(fresh, self.steady * level, self.state)
        values, self.state = signal.sosfilt(self.sos, values, axis=0, zi=self.state)
        return values, lost


class _Bank(_Step):
    """Second-order sections of every band, side by side on the last axis."""

    def __init__(self, where: str, bands: Sequence[Array]) -> None:
        super().__init__(where)
        self.bands = [_Sections(where, sos) for sos in bands]

    def reset(self) -> None:
        """Forget all samples."""
        for band in self.bands:
            band.reset()

    def push(self, values: Array, lost: Array) -> tuple[Array, Array]:
        return np.stack([band.push(values, lost)[0] for band in self.bands], axis=-1), lost


class _Resample(_Memory):
    """A windowed-sinc filter at ``up`` times the rate, of which only the samples that are wanted are computed.

    The taps of each of its ``up`` phases add up to exactly 1, so that an offset passes without a ripple.
    """

    def __init__(self, where: str, up: int, down: int) -> None:
        super().__init__(where)
        divisor = gcd(up, down)
        self.up, self.down = up // divisor, down // divisor
        most = max(self.up, self.down, 2)  # 2: of equal rates, which need no filter
        self.half = HALF * most
        taps = signal.firwin(2 * self.half + 1, 1 / most, window=("kaiser", 5.0))
        for phase in range(self.up):
            taps[phase :: self.up] /= taps[phase :: self.up].sum()
        self.taps = taps
        self.keep = -(-len(taps) // self.up)  # samples that one output needs
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.seen = 0
        self.start = -(-(self.keep - 1) // self.down) * -self.down  # of the samples kept; always a multiple of `down`
        self.kept: tuple[Array, Array] | None = None

    def push(self, values: Array, lost: Array) -> tuple[Array, Array]:
        if self.up == self.down or not len(values):
            return values, lost
        fresh, level, values = self.begin(values, lost)
        if self.kept is None:
            past = np.zeros((-self.start, values.shape[1])), np.repeat(lost[:1], -self.start, axis=0)
        else:
            past = self.kept
        rows = np.concatenate([np.where(fresh, level, past[0]), values])
        gone = np.concatenate([past[1], lost])
        first, stop = -(-self.seen * self.up // self.down), -(-(self.seen + len(values)) * self.up // self.down)
        offset = self.start // self.down * self.up  # the sample that `upfirdn` gives first
        out = signal.upfirdn(self.taps, rows, self.up, self.down, axis=0)[first - offset : stop - offset]
        lacking = self._lost(gone, np.arange(first, stop))
        self.seen += len(values)
        start = (self.seen - self.keep + 1) // self.down * self.down
        self.kept = rows[start - self.start :], gone[start - self.start :]
        self.start = start
        return out, lacking

    def _lost(self, gone: Array, number: Array) -> Array:
        """An output is lost where a sample is that lies between the middle of its filter and that of the last one."""
        count = np.concatenate([np.zeros((1, gone.shape[1])), np.cumsum(gone, axis=0)])
        low = ((number - 1) * self.down - self.half) // self.up
        high = -(-(number * self.down - self.half) // self.up)
        found: Array = count[high - self.start + 1] > count[low - self.start + 1]
        return found


def _make(where: str, step: Mapping[str, Any]) -> _Step:
    """One step of what a manifest says."""
    kind = step.get("step") if isinstance(step, Mapping) else None
    if not isinstance(kind, str) or kind not in KEYS:
        raise BundleError(f"{where}: step must be one of {sorted(KEYS)}, but got {str(kind)[:40]!r}")
    keys = KEYS[kind] | {"step"}
    if set(step) != keys:
        raise BundleError(f"{where}: a {kind} must have the keys {sorted(keys)}, but has {sorted(map(str, step))}")
    if kind == "resample":
        up, down = (_count(where, name, step[name]) for name in ("up", "down"))
        return _Resample(where, up, down)
    if kind == "mix":
        matrix = _numbers(where, "matrix", step["matrix"], 2)
        if len(matrix) > MOST_CHANNELS:
            raise BundleError(f"{where}: a mix must give at most {MOST_CHANNELS} channels, but gives {len(matrix)}")
        return _Mix(where, matrix)
    if kind == "sos":
        return _Sections(where, _sections(where, step["sos"]))
    bands = step["sos"]
    if not isinstance(bands, Sequence) or not bands:
        raise BundleError(f"{where}: a bank must have the sections of at least one band, but got {str(bands)[:40]!r}")
    return _Bank(where, [_sections(where, band) for band in bands])


def _sections(where: str, given: Any) -> Array:
    sos = _numbers(where, "sos", given, 2)
    if sos.shape[1] != 6 or (sos[:, 3] != 1).any():
        raise BundleError(f"{where}: sections must be [b0, b1, b2, 1, a1, a2], but got {sos[0].tolist()}")
    poles = np.concatenate([np.roots(section) for section in sos[:, 3:]])
    if (np.abs(poles) >= 1).any():
        raise BundleError(
            f"{where}: a filter must be stable, its poles inside the unit circle, but one lies at {np.abs(poles).max():g}"
        )
    return sos


def _numbers(where: str, key: str, given: Any, axes: int) -> Array:
    try:
        values = np.asarray(given)
    except ValueError:  # rows of unequal length
        values = np.empty(0, object)
    if values.ndim != axes or values.size == 0 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise BundleError(f"{where}: {key} must be rows of equal length of finite numbers, but got {str(given)[:60]}")
    return values.astype(np.float64)


def _count(where: str, key: str, given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= LARGEST_RATIO:
        raise BundleError(f"{where}: {key} must be a whole number from 1 to {LARGEST_RATIO}, but got {str(given)[:40]}")
    return given
