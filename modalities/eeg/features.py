"""What the features of EEG are: options of every kind, and the front end that each one makes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.framing import Frames
from fusionkit.core.modality import FrontEnd
from fusionkit.core.recording import Array, Stored
from fusionkit.runtime.filters import Chain

from .asymmetry import Asymmetry, Kind, find_pairs
from .bands import BANDS, MICRO, dft_matrices, excess_gain, filter_bank, rising, seed_matrices
from .front_end import BandFeatures, FilteredVariance, FourierVariance, Samples
from .measure import Entropy, Power, RelativePower, SeedEntropy, Unit
from .places import positions

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, description="seconds of one step")]
Step = Annotated[
    float | None, Field(gt=0, allow_inf_nan=False, description="seconds from step to step; default: window")
]
Named = Literal["seed", "classic"] | Annotated[dict[str, tuple[float, float]], Field(min_length=1)]
BandSet = Annotated[Named, Field(description="a named set, or name: [low, high] in hertz, low inside and high outside")]
Measure = Annotated[
    Literal["entropy", "power", "relative_power"],
    Field(description="differential entropy, variance, or a band's share of the variance of all bands"),
]
Log = Annotated[Literal["e", 2], Field(description="base of the entropy's logarithm: nats (e) or bits (2)")]
InUnit = Annotated[Unit, Field(description="unit of the signal: the variance is in its square")]
Floor = Annotated[float, Field(gt=0, allow_inf_nan=False, description="least variance of a band, in square microvolts")]
Pairs = Annotated[
    Kind | None,
    Field(
        description="compare pairs of electrodes instead: dasm (left - right), rasm (left / right, within 100), "
        "asm (both), dcau (front - back)"
    ),
]
FROZEN = ConfigDict(extra="forbid", frozen=True)


class DftFeatures(BaseModel):
    """Variance of frequency bands by a discrete Fourier transform of every step, under a Hann window.

    Exact for white noise in every band, blind to offsets, and the fastest: two matrix products. A step's spectrum is
    smeared by one frequency (1 / window) to either side.
    """

    model_config = FROZEN
    kind: Literal["dft"] = "dft"
    window: Seconds = 1.0
    step: Step = None
    bands: BandSet = "seed"
    measure: Measure = "entropy"
    log: Log = "e"
    unit: InUnit = "uV"
    floor: Floor = 1e-6
    asymmetry: Pairs = None


class BandpassFeatures(BaseModel):
    """Variance of every step of signals that causal Butterworth filters make of the whole recording.

    The filters carry their state from sample to sample, so that a recording gives the same offline and in a stream;
    they start in the steady state of its first sample. Each variance is divided by the filter's gain for white noise
    over that of sharp edges (1.017 for order 5). Steadier than `dft` at low frequencies, and slower.
    """

    model_config = FROZEN
    kind: Literal["bandpass"] = "bandpass"
    order: Annotated[int, Field(ge=1, le=10, description="order of the Butterworth filters")] = 5
    window: Seconds = 1.0
    step: Step = None
    bands: BandSet = "seed"
    measure: Measure = "entropy"
    log: Log = "e"
    unit: InUnit = "uV"
    floor: Floor = 1e-6
    asymmetry: Pairs = None


class SeedFeatures(BaseModel):
    """The SEED laboratory's short-time Fourier transform, to compare with its ExtractedFeatures; not to be preferred.

    ``E`` of a band is its mean squared coefficient in microvolts and the entropy ``log2(100 E)``, twice as steep as
    an entropy in bits. Every band lies one frequency lower than its name says and shares its lowest frequency with
    the band below, and delta holds the offset: 50 microvolts more move it by 8.
    """

    model_config = FROZEN
    kind: Literal["seed"] = "seed"
    window: Seconds = 1.0
    step: Step = None
    points: Annotated[int | None, Field(ge=1, description="points of the FFT; default: samples of a window")] = None
    bands: BandSet = "seed"
    measure: Annotated[
        Literal["entropy", "power", "relative_power"],
        Field(description="log2(100 E), E, or a band's share of E of all bands"),
    ] = "entropy"
    floor: Annotated[float, Field(gt=0, allow_inf_nan=False, description="least E")] = 1e-6
    asymmetry: Pairs = None


class ReadyFeatures(BaseModel):
    """Features that were made before, passed on as they are: ``(channel, band, time)``, a step each.

    Such as SEED's ExtractedFeatures. Their rate is that of the steps: 0.25 Hz for windows of 4 s.
    """

    model_config = FROZEN
    kind: Literal["ready"] = "ready"
    bands: Annotated[
        Named, Field(description="of the features, in rising order: a named set, or name: [low, high] in hertz")
    ] = "seed"
    asymmetry: Pairs = None


class RawFeatures(BaseModel):
    """Every sample a step, in microvolts."""

    model_config = FROZEN
    kind: Literal["raw"] = "raw"


Banded = DftFeatures | BandpassFeatures | SeedFeatures
EEGFeatures = Annotated[
    DftFeatures | BandpassFeatures | SeedFeatures | ReadyFeatures | RawFeatures, Field(discriminator="kind")
]


def make_front_end(options: EEGFeatures, stored: Stored) -> FrontEnd:
    """The front end for recordings of one kind.

    Raises:
        ConfigError: bands, windows or pairs do not fit the recordings, or these hold features where the kind wants
            signals, or the other way round.
    """
    assert stored.sample_rate is not None
    bands = hertz(options)
    _check_item(options, stored, len(bands))
    if isinstance(options, RawFeatures | ReadyFeatures):
        frames = Frames(1, 1, stored.sample_rate)
        estimate: nn.Module = Samples(MICRO if isinstance(options, RawFeatures) else 1.0)
        measure: nn.Module = nn.Identity()
    else:
        frames = Frames.of_seconds(options.window, options.step, stored.sample_rate, stored.longest)
        estimate, measure = _estimate(options, frames), _measure(options)
    return BandFeatures(
        estimate,
        frames,
        measure,
        stored.item[0],
        max(1, len(bands)),
        asymmetry=_asymmetry(options, stored),
        places=positions(stored.channels),
    )


def whole(options: EEGFeatures, stored: Stored) -> Callable[[Array], Array] | None:
    """What must see a whole recording before windows are cut; see `Modality.whole`."""
    step = bank(options, stored)
    return None if step is None else lambda samples: Chain([step]).push(samples)


def bank(options: EEGFeatures, stored: Stored) -> Mapping[str, Any] | None:
    """The filters of every band, as a step of `fusionkit.runtime.filters.Chain`; None where there are none."""
    if not isinstance(options, BandpassFeatures):
        return None
    assert stored.sample_rate is not None
    return {"step": "bank", "sos": filter_bank(stored.sample_rate, hertz(options), options.order)}


def hertz(options: EEGFeatures) -> Mapping[str, tuple[float, float]]:
    """Bands by name, in rising order; none where samples are the features."""
    if isinstance(options, RawFeatures):
        return {}
    return rising(BANDS[options.bands] if isinstance(options.bands, str) else options.bands)


def mapped_bands(options: EEGFeatures) -> tuple[str, ...]:
    """Names of the bands that can be drawn as maps of the scalp; none where samples or pairs are the features."""
    if isinstance(options, RawFeatures) or options.asymmetry is not None:
        return ()
    return tuple(hertz(options))


def _check_item(options: EEGFeatures, stored: Stored, bands: int) -> None:
    ready = isinstance(options, ReadyFeatures)
    if ready != (len(stored.item) == 2):
        wants, has = ("features (channel, band, time)", "signals") if ready else ("signals (channel, time)", "features")
        raise ConfigError(f"features.kind: {options.kind} needs {wants}, but the recordings hold {has}")
    if ready and stored.item[1] != bands:
        raise ConfigError(f"features.bands must name the bands of the recordings, {stored.item[1]}, but names {bands}")


def _estimate(options: Banded, frames: Frames) -> nn.Module:
    bands, rate = hertz(options), frames.sample_rate
    if isinstance(options, BandpassFeatures):
        return FilteredVariance(frames, torch.tensor(excess_gain(rate, bands, options.order)))
    if isinstance(options, SeedFeatures):
        return FourierVariance(frames, *seed_matrices(frames.samples, rate, options.points or frames.samples, bands))
    return FourierVariance(frames, *dft_matrices(frames.samples, rate, bands))


def _measure(options: Banded) -> nn.Module:
    if options.measure == "relative_power":
        return RelativePower(options.floor)
    if isinstance(options, SeedFeatures):
        return SeedEntropy(options.floor) if options.measure == "entropy" else Power("uV", options.floor)
    if options.measure == "power":
        return Power(options.unit, options.floor)
    return Entropy(options.log, options.unit, options.floor)


def _asymmetry(options: EEGFeatures, stored: Stored) -> Asymmetry | None:
    if isinstance(options, RawFeatures) or options.asymmetry is None:
        return None
    return Asymmetry(options.asymmetry, find_pairs(options.asymmetry, stored.channels))
