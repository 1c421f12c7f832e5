"""The EEG sensor."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities
from fusionkit.data.recordings import SUFFIXES, Channel, at_rate, pick, read_recording

from . import features
from .features import DftFeatures, mapped_bands
from .figures import draw_topographies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DFT = DftFeatures()


@modalities.register("eeg")
class EEG(Modality):
    """Brain waves of electrodes on the scalp, in volts.

    Reads whatever MNE reads (EDF, BDF, GDF, FIF, BrainVision, EEGLAB, Neuroscan ...) and refuses what is truncated.
    By default every channel of type EEG is taken; a channel whose label says ECG, EOG, EMG and so on is none, so that
    ECG in the same file can be a `signal` sensor. Arrays are ``(channel, time)`` in volts.

    Args:
        channels: which channels and in which order, by name or glob, without regard to case: ``[Fp1, "F*"]``,
            ``["EEG *"]``; default: all of type EEG.
        sample_rate: the rate every file must have, in hertz; default: whatever the files have.
        resample: bring files of another rate to ``sample_rate`` instead of refusing them.
        features: ``dft`` (differential entropy of bands) or ``raw`` (microvolts of every sample).

    Raises:
        ConfigError: ``resample`` without a ``sample_rate``.

    Example:
        ``eeg: {kind: eeg, channels: ["EEG *"], sample_rate: 125, features: {kind: dft, bands: classic}}``
    """

    suffixes = SUFFIXES
    encoder = "mlp"

    def __init__(
        self,
        *,
        channels: Annotated[list[str] | None, Field(min_length=1, description="names or globs, in order")] = None,
        sample_rate: Annotated[float | None, Field(gt=0, description="the rate files must have, hertz")] = None,
        resample: Annotated[bool, Field(description="bring other rates to sample_rate")] = False,
        features: features.EEGFeatures = _DFT,
    ) -> None:
        if resample and sample_rate is None:
            raise ConfigError("resample needs a sample_rate to resample to, but there is none")
        self.channels = channels
        self.sample_rate = sample_rate
        self.resample = resample
        self.features = features

    def read(self, path: Path) -> Recording:
        """Read the wanted channels of one file."""
        return read_recording(path, self.channels, types=("eeg",), sample_rate=self.sample_rate, resample=self.resample)

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        """Take ``(channel, time)`` volts; channels without names are called 1, 2, 3 ...

        Raises:
            DataError: the array has other axes, or there is no rate, not even in the recipe.
        """
        values = np.asarray(values)
        rate = self.sample_rate if sample_rate is None else sample_rate
        if values.ndim != 2 or values.shape[1] == 0:
            raise DataError(f"an eeg array must be (channel, time) with samples in it, but its shape is {values.shape}")
        if rate is None:
            raise DataError("an eeg array must come with a sampling rate, but it has none; set sample_rate")
        names = tuple(channels) or tuple(str(i + 1) for i in range(len(values)))
        if len(names) != len(values):
            raise DataError(f"an eeg array must have a name per channel, but got {len(names)} for {len(values)}")
        if self.channels is not None:
            picked = pick([Channel(name, name, "eeg") for name in names], self.channels, "array")
            values, names = values[picked], tuple(names[i] for i in picked)
        recording = Recording(np.ascontiguousarray(values.T, dtype=np.float32), float(rate), names, "V")
        return at_rate(recording, self.sample_rate, self.resample, "array")

    def window(self, stored: Array) -> Array:
        """``(time, channel)`` as stored to ``(channel, time)``."""
        return np.ascontiguousarray(stored.T)

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        """Channels and the samples of the longest record."""
        return (stored.item[0], stored.longest)

    def whole(self, stored: Stored) -> Callable[[Array], Array] | None:
        """Filters that must see the whole recording, where the features need some."""
        return features.whole(self.features, stored)

    def hertz(self) -> Mapping[str, tuple[float, float]]:
        """Bands that the features are made of."""
        return features.hertz(self.features)

    def front_end(self, stored: Stored) -> FrontEnd:
        """Differential entropy or microvolts, as the recipe says."""
        return features.make_front_end(self.features, stored)

    def figures(self, features: Array, labels: Array, classes: Sequence[str], stored: Stored) -> "Mapping[str, Figure]":
        """Topographies of the mean feature per class and band; nothing where there are no bands or no electrodes."""
        bands = mapped_bands(self.features)
        return draw_topographies(features, labels, classes, stored.channels, bands) if bands else {}
