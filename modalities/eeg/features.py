"""What the features of EEG are: options of every kind, and the front end that each one makes."""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from fusionkit.core.framing import Frames
from fusionkit.core.modality import FrontEnd
from fusionkit.core.recording import Array, Stored

from .front_end import BANDS, DftFeatures, DifferentialEntropy, Microvolts, RawFeatures

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
