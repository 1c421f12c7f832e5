"""The sensor for whatever has channels and no folder of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.framing import Frames
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities
from fusionkit.data.recordings import Channel, at_rate, pick, read_recording

from .front_end import RawFeatures, Samples, Statistics, StatisticsFeatures
from .table import SUFFIXES, read_table

_STATISTICS = StatisticsFeatures()


@modalities.register("signal")
class Signal(Modality):
    """Time series of any kind (ECG, EDA, eye tracking, IMU), or one vector of features per record.

    Reads CSV, TSV and ``.npy`` of shape (time, channel), with or without a row of names, and whatever MNE reads, from
    which ``channels`` picks: ``[ECG]`` of an EDF is a sensor of its own beside its EEG. A table needs a
    ``sample_rate``; one without, of a single row, is a vector: a record without time. Arrays are
    ``(channel, time)``, or ``(channel,)`` for a vector.

    Args:
        channels: which channels and in which order, by name or glob, without regard to case; default: all (of a
            recording, all but triggers).
        sample_rate: hertz: the rate of tables and arrays, and the one that recordings must have.
        resample: bring recordings of another rate to ``sample_rate`` instead of refusing them.
        features: ``statistics`` of short windows, or ``raw`` samples; a vector is taken as it is.

    Raises:
        ConfigError: ``resample`` without a ``sample_rate``.

    Example:
        ``ecg: {kind: signal, column: eeg, channels: [ECG], features: {kind: statistics, window: 0.5}}``
    """

    holds = "signal"
    suffixes = SUFFIXES
    encoder = "transformer"

    def __init__(
        self,
        *,
        channels: Annotated[list[str] | None, Field(min_length=1, description="names or globs, in order")] = None,
        sample_rate: Annotated[float | None, Field(gt=0, description="hertz; none for vectors")] = None,
        resample: Annotated[bool, Field(description="bring other rates to sample_rate")] = False,
        features: Annotated[StatisticsFeatures | RawFeatures, Field(discriminator="kind")] = _STATISTICS,
    ) -> None:
        if resample and sample_rate is None:
            raise ConfigError("resample needs a sample_rate to resample to, but there is none")
        self.channels = channels
        self.sample_rate = sample_rate
        self.resample = resample
        self.features = features

    def read(self, path: Path) -> Recording:
        """Read the wanted channels of one file."""
        if path.suffix.lower() not in SUFFIXES:
            return read_recording(path, self.channels, sample_rate=self.sample_rate, resample=self.resample)
        values, names = read_table(path)
        if self.sample_rate is None and len(values) > 1:
            raise DataError(f"{path}: a table of several rows must have a sample_rate, but the recipe gives none")
        return self._recording(values, self.sample_rate, names, str(path))

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        """Take ``(channel, time)`` with a rate, or ``(channel,)``, a vector without time.

        Raises:
            DataError: the array has other axes, is empty, or has time but no rate, not even in the recipe.
        """
        values = np.asarray(values)
        rate = self.sample_rate if sample_rate is None else sample_rate
        if values.ndim not in (1, 2) or values.size == 0:
            raise DataError(f"a signal array must be (channel, time) or (channel,), but its shape is {values.shape}")
        if values.ndim == 1:
            return self._recording(values[None], None, tuple(channels), "array")
        if rate is None:
            raise DataError("a signal array with time must come with a sampling rate, but it has none; set sample_rate")
        recording = self._recording(values.T, rate, tuple(channels), "array")
        return at_rate(recording, self.sample_rate, self.resample, "array")

    def ahead(self) -> list[str]:
        """What looks at samples to come, by key."""
        return ["resample filters forwards and backwards"] if self.resample else []

    def chain(self, stored: Stored) -> list[dict[str, Any]] | None:
        """Nothing is done to a stream but what resampling does, which it cannot have."""
        return None if self.resample else []

    def window(self, stored: Array) -> Array:
        """``(time, channel)`` as stored to ``(channel, time)``; a vector becomes ``(channel, 1)``."""
        return np.ascontiguousarray(stored.T)

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        """Channels and the samples of the longest record."""
        return (stored.item[0], stored.longest)

    def front_end(self, stored: Stored) -> FrontEnd:
        """Statistics or samples, as the recipe says; volts become microvolts."""
        channels, rate = stored.item[0], stored.sample_rate
        factor = 1e6 if stored.unit == "V" else 1.0
        if rate is None or isinstance(self.features, RawFeatures):
            return Samples(channels, rate, factor=factor)
        frames = Frames.of_seconds(self.features.window, self.features.step, rate, stored.longest)
        return Statistics(channels, frames, factor=factor)

    def _recording(self, values: Array, rate: float | None, names: tuple[str, ...], where: str) -> Recording:
        """Name and pick the channels of ``(time, channel)``; those without names are called 1, 2, 3 ..."""
        names = names or tuple(str(i + 1) for i in range(values.shape[1]))
        if len(names) != values.shape[1]:
            raise DataError(f"{where}: there must be a name per channel, but got {len(names)} for {values.shape[1]}")
        if self.channels is not None:
            picked = pick([Channel(name, name, "") for name in names], self.channels, where)
            values, names = values[:, picked], tuple(names[i] for i in picked)
        return Recording(np.ascontiguousarray(values, dtype=np.float32), None if rate is None else float(rate), names)
