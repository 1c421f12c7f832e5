"""What the features of EEG are: options of every kind, and the front end that each one makes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusionkit.core.framing import Frames
from fusionkit.core.modality import FrontEnd
from fusionkit.core.recording import Array, Stored

from .front_end import BANDS, DifferentialEntropy, Microvolts


class DftFeatures(BaseModel):
    """Differential entropy of frequency bands, by a discrete Fourier transform of short windows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["dft"] = "dft"
    window: Annotated[float, Field(gt=0, description="seconds of one step")] = 1.0
    step: Annotated[float | None, Field(gt=0, description="seconds from step to step; default: window")] = None
    bands: Annotated[
        Literal["seed", "classic"] | dict[str, tuple[float, float]],
        Field(description="a named set, or name: [low, high] in hertz, low inside and high outside"),
    ] = "seed"
    log: Annotated[Literal["e", 2], Field(description="base of the logarithm: nats (e) or bits (2)")] = "e"
    floor: Annotated[float, Field(gt=0, description="least variance of a band, in square microvolts")] = 1e-6


class RawFeatures(BaseModel):
    """Every sample a step, in microvolts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["raw"] = "raw"


EEGFeatures = Annotated[DftFeatures | RawFeatures, Field(discriminator="kind")]


def make_front_end(options: EEGFeatures, stored: Stored) -> FrontEnd:
    """The front end for recordings of one kind."""
    assert stored.sample_rate is not None
    if isinstance(options, RawFeatures):
        return Microvolts(stored.item[0], stored.sample_rate)
    frames = Frames.of_seconds(options.window, options.step, stored.sample_rate, stored.longest)
    return DifferentialEntropy(stored.item[0], frames, hertz(options), log=options.log, floor=options.floor)


def whole(options: EEGFeatures, stored: Stored) -> Callable[[Array], Array] | None:
    """What must see a whole recording before windows are cut; see `Modality.whole`."""
    del options, stored
    return None


def hertz(options: EEGFeatures) -> Mapping[str, tuple[float, float]]:
    """Bands by name, in rising order; none where samples are the features."""
    if isinstance(options, RawFeatures):
        return {}
    return BANDS[options.bands] if isinstance(options.bands, str) else options.bands


def mapped_bands(options: EEGFeatures) -> tuple[str, ...]:
    """Names of the bands that can be drawn as maps of the scalp; none where samples are the features."""
    return tuple(hertz(options))
