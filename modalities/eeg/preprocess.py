"""Cleaning of a whole recording: by MNE, or by the causal twin of the same steps that a stream can do as well."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Array
from fusionkit.data.recordings import Channel, pick
from fusionkit.runtime.filters import LARGEST_RATIO, Chain

from .montage import interpolation
from .places import site

ORDER = 4  # of each edge of the causal band-pass
QUALITY = 30.0  # of the causal notch: its frequency by its width at half the power
NEIGHBOURS = 20  # that MNE's search for bad channels compares a channel with
THRESHOLD = 1.5  # from which local outlier factor on it calls one bad

Hertz = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BadChannels(BaseModel):
    """Which channels are bad."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    given: Annotated[list[str], Field(description="bad in every recording, by name or glob")] = []
    lof: Annotated[
        bool | Annotated[float, Field(gt=0)],
        Field(description="find them by their local outlier factor; a number is the threshold, true is 1.5"),
    ] = False


class Preprocess(BaseModel):
    """Steps on a whole recording, in the order notch, band-pass, bad channels, reference, resampling."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Annotated[
        Literal["mne", "causal"], Field(description="MNE's zero-phase filters, or causal ones that can be streamed")
    ] = "mne"
    notch: Annotated[Hertz | list[Hertz], Field(description="hertz of the mains, and of its harmonics: [50, 100]")] = []
    low: Annotated[Hertz | None, Field(description="lower edge of the band-pass, hertz; none: no high-pass")] = None
    high: Annotated[Hertz | None, Field(description="upper edge of the band-pass, hertz; none: no low-pass")] = None
    bad: BadChannels = BadChannels()
    interpolate_bad: Annotated[bool, Field(description="spherical splines for bad channels, else zeros")] = True
    reference: Annotated[
        Literal["average"] | Annotated[list[str], Field(min_length=1)] | None,
        Field(description="average of all channels, or of those named; none: as recorded"),
    ] = None
    resample: Annotated[Hertz | None, Field(description="the rate to bring recordings to, hertz, last of all")] = None

    @model_validator(mode="after")
    def _agree(self) -> "Preprocess":
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high, but {self.low:g} Hz is not below {self.high:g} Hz")
        if self.method == "causal" and self.bad.lof is not False:
            raise ValueError(
                "method: causal cannot find bad channels by lof, which needs the whole recording; list them in bad.given"
            )
        return self

    @property
    def notches(self) -> list[float]:
        """Frequencies to take out, a list in any case."""
        return [self.notch] if isinstance(self.notch, float | int) else list(self.notch)

    @property
    def threshold(self) -> float | None:
        """Local outlier factor from which on a channel is bad; None: they are not looked for."""
        return (THRESHOLD if self.bad.lof else None) if isinstance(self.bad.lof, bool) else float(self.bad.lof)

    @property
    def ahead(self) -> list[str]:
        """What of it looks at samples that a stream has not had yet, by key."""
        filters = [key for key in ("notch", "low", "high", "resample") if getattr(self, key) not in (None, [])]
        found = [f"preprocess.{key} by method: mne filters forwards and backwards" for key in filters]
        lof = ["preprocess.bad.lof needs the whole recording"] if self.bad.lof else []
        return [*found, *lof] if self.method == "mne" else []


@dataclass(frozen=True)
class Gaps:
    """Channels that a recording lacks or that are 0 throughout, by their places, and whether they are interpolated."""

    missing: tuple[int, ...] = ()
    interpolate: bool = False


def clean(
    options: Preprocess, values: Array, rate: float, channels: Sequence[str], gaps: Gaps, where: str
) -> tuple[Array, float]:
    """Preprocess a recording ``(time, channel)`` in volts.

    Args:
        options: what to do.
        values: the recording, zeros in channels that were not measured.
        rate: its rate in hertz.
        channels: its names.
        gaps: which channels were not measured.
        where: how errors call it.

    Returns:
        The samples, and their rate. A channel that is neither measured nor interpolated is exactly 0.

    Raises:
        DataError: a channel that is named does not exist, or cannot be interpolated; an edge lies above half the rate;
            for MNE, also a sample that is not finite, or a recording shorter than a filter.
    """
    if options.method == "causal":
        return Chain(causal_steps(options, rate, channels, gaps, where)).push(values), options.resample or rate
    return _by_mne(options, values, rate, channels, gaps, where)


def mixing(
    channels: Sequence[str],
    gaps: Gaps,
    where: str,
    *,
    bad: Sequence[int] = (),
    interpolate_bad: bool = False,
    reference: Literal["average"] | Sequence[str] | None = None,
) -> Array | None:
    """Interpolation and reference as one matrix ``(channel, channel)``; None where it would change nothing.

    Missing and bad channels are interpolated from the good ones, or become zeros; a bad one is bad in every recording,
    measured or not. The reference is the mean of the channels it names, or of all, where they were measured or
    interpolated; what was not stays 0.

    Raises:
        DataError: a reference does not exist or is not good, or a channel cannot be interpolated.
    """
    count = len(channels)
    missing = gaps.missing if gaps.interpolate else ()
    targets = sorted({*missing, *(bad if interpolate_bad else ())})
    sources = [i for i in range(count) if i not in gaps.missing and i not in bad]
    if not sources:
        raise DataError(f"{where}: a recording must have a good channel, but all {count} are bad or missing")
    good = sorted([*sources, *targets])
    if len(sources) == count and reference is None:
        return None
    matrix = np.zeros((count, count))
    matrix[sources, sources] = 1.0
    if targets:
        matrix[targets] = interpolation(channels, sources, targets, where)
    if reference is not None:
        own = good if reference == "average" else _named(channels, reference, "preprocess.reference", where)
        lost = [channels[i] for i in own if i not in good]
        if lost:
            raise DataError(f"{where}: preprocess.reference must be a good channel, but {lost[0]!r} is bad or missing")
        matrix[good] -= matrix[own].mean(0)
    return matrix


def causal_steps(
    options: Preprocess, rate: float, channels: Sequence[str], gaps: Gaps, where: str
) -> list[dict[str, Any]]:
    """The steps as `fusionkit.runtime.filters.Chain` takes them: notches of second order, a Butterworth band-pass.

    Raises:
        DataError: as `clean`.
    """
    from scipy import signal

    _check_edges(options, rate, where)
    steps: list[dict[str, Any]] = []
    for hertz in options.notches:
        section = np.concatenate(signal.iirnotch(hertz, QUALITY, fs=rate))
        steps.append({"step": "sos", "sos": [section.tolist()]})
    band = _band(options)
    if band is not None:
        kind, edges = band
        steps.append({"step": "sos", "sos": signal.butter(ORDER, edges, kind, fs=rate, output="sos").tolist()})
    bad = _named(channels, options.bad.given, "preprocess.bad.given", where)
    matrix = _mixing(options, channels, gaps, bad, where)
    if matrix is not None:
        steps.append({"step": "mix", "matrix": matrix.tolist()})
    if options.resample is not None:
        ratio = Fraction(options.resample).limit_denominator(1000) / Fraction(rate).limit_denominator(1000)
        if max(ratio.numerator, ratio.denominator) > LARGEST_RATIO:
            raise DataError(
                f"{where}: preprocess.resample must be in a ratio of whole numbers up to {LARGEST_RATIO} to the rate, but "
                f"{options.resample:g} Hz to {rate:g} Hz is {ratio}"
            )
        steps.append({"step": "resample", "up": ratio.numerator, "down": ratio.denominator})
    return steps


def check_causal(options: Preprocess, sample_rate: float | None) -> None:
    """Refuse what a stream could not do.

    Raises:
        ConfigError: the rate changes, but nobody says from which.
    """
    if options.method == "causal" and options.resample is not None and sample_rate is None:
        raise ConfigError(
            "preprocess.resample by method: causal needs a sample_rate, at which files and streams come, but there is none"
        )


def _by_mne(
    options: Preprocess, values: Array, rate: float, channels: Sequence[str], gaps: Gaps, where: str
) -> tuple[Array, float]:
    """The same steps by MNE; the mix is the one that a stream has."""
    import mne

    _check_edges(options, rate, where)
    if not np.isfinite(values).all():
        raise DataError(
            f"{where}: samples must be finite for preprocess.method: mne, but some are not; causal holds them"
        )
    bad = _named(channels, options.bad.given, "preprocess.bad.given", where)
    info = mne.create_info([str(i) for i in range(len(channels))], rate, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(values.T.astype(np.float64), info, verbose="ERROR")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        if options.notches:
            raw.notch_filter(options.notches, verbose="WARNING")
        if options.low is not None or options.high is not None:
            raw.filter(options.low, options.high, verbose="WARNING")
    for warning in heard:
        if re.search("filter_length", str(warning.message)):
            raise DataError(
                f"{where}: a recording must be longer than its filter, but it lasts {len(values) / rate:g} s and MNE "
                f"says: {' '.join(str(warning.message).split())}"
            )
    if options.threshold is not None:
        bad = sorted(
            {*bad, *_outliers(raw, [i for i in range(len(channels)) if i not in bad], gaps, options.threshold)}
        )
    matrix = _mixing(options, channels, gaps, bad, where)
    if matrix is not None:
        raw.apply_function(lambda data: matrix @ data, channel_wise=False, verbose="ERROR")
    if options.resample is not None and options.resample != rate:
        raw.resample(options.resample, verbose="ERROR")
    return raw.get_data().T.astype(np.float32), float(raw.info["sfreq"])


def _outliers(raw: Any, picks: Sequence[int], gaps: Gaps, threshold: float) -> list[int]:
    """Channels that MNE finds unlike their neighbours in the space of samples."""
    import mne

    picks = [i for i in picks if i not in gaps.missing]
    if len(picks) < 3:
        return []
    found = mne.preprocessing.find_bad_channels_lof(
        raw, n_neighbors=min(NEIGHBOURS, len(picks) - 1), picks=picks, threshold=threshold, verbose="ERROR"
    )
    return [int(name) for name in found]


def _mixing(options: Preprocess, channels: Sequence[str], gaps: Gaps, bad: Sequence[int], where: str) -> Array | None:
    return mixing(channels, gaps, where, bad=bad, interpolate_bad=options.interpolate_bad, reference=options.reference)


def _named(channels: Sequence[str], wanted: Sequence[str], key: str, where: str) -> list[int]:
    return pick([Channel(name, name, "eeg") for name in channels], wanted, f"{where}: {key}", site)


def _band(options: Preprocess) -> tuple[str, float | list[float]] | None:
    """Kind of a Butterworth filter, and its edge or edges; None where there is no filter."""
    if options.low is None:
        return None if options.high is None else ("low", options.high)
    return ("high", options.low) if options.high is None else ("band", [options.low, options.high])


def _check_edges(options: Preprocess, rate: float, where: str) -> None:
    given = [("notch", hertz) for hertz in options.notches] + [("low", options.low), ("high", options.high)]
    for key, edge in given:
        if edge is not None and edge >= rate / 2:
            raise DataError(
                f"{where}: preprocess.{key} must lie below half the rate, {rate / 2:g} Hz, but got {edge:g} Hz"
            )
