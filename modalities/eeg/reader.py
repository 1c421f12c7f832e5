"""The EEG sensor."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities
from fusionkit.data.recordings import SUFFIXES, Channel, RecordingFile, at_rate, pick

from . import features
from .features import DftFeatures, mapped_bands
from .figures import draw_topographies
from .montage import MONTAGES, find_electrodes
from .places import site
from .preprocess import Gaps, Preprocess, causal_steps, check_causal, clean, mixing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DFT = DftFeatures()


@modalities.register("eeg")
class EEG(Modality):
    """Brain waves of electrodes on the scalp, in volts.

    Reads whatever MNE reads (EDF, BDF, GDF, FIF, BrainVision, EEGLAB, Neuroscan ...) and refuses what is truncated.
    By default every channel of type EEG is taken; a channel whose label says ECG, EOG, EMG and so on is none, so that
    ECG in the same file can be a `signal` sensor. Arrays are ``(channel, time)`` in volts, or ``(channel, band, time)``
    of features that are ready. Order of work: channels or montage, rate, preprocess; then features of windows.

    A channel that is exactly 0 (missing, or bad and not interpolated) was not measured: its features are 0 once they
    are normalised, and no statistics count it.

    Args:
        channels: which channels and in which order, by name or glob, without regard to case, old names of the 10-20
            system too: ``[Fp1, T7, "F*"]``, ``["EEG *"]``; default: all of type EEG.
        montage: exactly these electrodes in this order, found by name: ``seed_62``, ``deap_32``, ``dreamer_14``,
            ``ten_twenty`` or ``[C3, Cz, T7]``. T3, ``EEG T7-Ref`` and ``T7..`` are all T7.
        missing: what to do with up to half of the montage that a recording lacks: ``refuse``, ``mask`` (zeros) or
            ``interpolate`` (spherical splines).
        sample_rate: the rate every file must have, in hertz: ``500``; default: whatever the files have.
        resample: bring files of another rate to ``sample_rate`` instead of refusing them: ``true``.
        preprocess: clean whole recordings by MNE, or by causal filters that a stream has too: ``{method: causal,
            notch: 50, low: 1, high: 45, bad: {given: [T8]}, reference: average, resample: 128}``. Bad channels by
            local outlier factor: ``{bad: {lof: true}}``; zeros for them: ``{interpolate_bad: false}``.
        features: ``dft`` (differential entropy or power of bands), ``bandpass`` (by causal filters), ``seed`` (as the
            SEED laboratory's), ``ready`` (arrays of them) or ``raw`` (microvolts of every sample):
            ``{kind: dft, window: 2, bands: classic}``.

    Raises:
        ConfigError: options contradict each other, or a rate is wanted that no option gives.

    Example:
        ``eeg: {kind: eeg, montage: ten_twenty, missing: mask, sample_rate: 125, features: {kind: dft, bands: classic}}``
    """

    holds = "signal"
    suffixes = SUFFIXES
    encoder = "mlp"

    def __init__(
        self,
        *,
        channels: Annotated[list[str] | None, Field(min_length=1, description="names or globs, in order")] = None,
        montage: Annotated[
            Literal["seed_62", "deap_32", "dreamer_14", "ten_twenty"]
            | Annotated[list[str], Field(min_length=1)]
            | None,
            Field(description="a named montage, or names of electrodes: exactly these, in this order"),
        ] = None,
        missing: Annotated[
            Literal["refuse", "mask", "interpolate"], Field(description="electrodes of the montage that lack")
        ] = "refuse",
        sample_rate: Annotated[
            float | None, Field(gt=0, allow_inf_nan=False, description="the rate files must have, hertz")
        ] = None,
        resample: Annotated[bool, Field(description="bring other rates to sample_rate")] = False,
        preprocess: Annotated[Preprocess | None, Field(description="cleaning of whole recordings")] = None,
        features: features.EEGFeatures = _DFT,
    ) -> None:
        if resample and sample_rate is None:
            raise ConfigError("resample needs a sample_rate to resample to, but there is none")
        if channels is not None and montage is not None:
            raise ConfigError("channels and montage both say which channels there are, but only one of them may")
        if missing != "refuse" and montage is None:
            raise ConfigError(f"missing: {missing} needs a montage to tell what is missing, but there is none")
        sites = [site(name) for name in montage] if isinstance(montage, list) else []
        twice = [name for name in sites if sites.count(name) > 1]
        if twice:
            raise ConfigError(f"montage must name each electrode once, but {twice[0]} is named twice")
        if features.kind == "ready":
            wrong = {"resample": resample, "preprocess": preprocess, "missing: interpolate": missing == "interpolate"}
            for key, given in wrong.items():
                if given:
                    raise ConfigError(f"{key} is for signals, but features: {{kind: ready}} are no signals any more")
        if preprocess is not None:
            check_causal(preprocess, sample_rate)
        self.channels = channels
        self.montage = montage
        self.missing = missing
        self.sample_rate = sample_rate
        self.resample = resample
        self.preprocess = preprocess
        self.features = features

    def read(self, path: Path) -> Recording:
        """Read the wanted channels of one file."""
        if self.features.kind == "ready":
            raise DataError(f"{path}: features: {{kind: ready}} must come as arrays, but this is a file of signals")
        file = RecordingFile(path)
        found = self._find(file.channels, str(path)) or file.of_types(("eeg",))
        return self._store(file.read([i for i in found if i is not None]), found, str(path))

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        """Take ``(channel, time)`` volts, or ``(channel, band, time)`` features; channels without names are 1, 2, 3 ...

        Raises:
            DataError: the array has other axes, or there is no rate, not even in the recipe.
        """
        values = np.asarray(values)
        ready = self.features.kind == "ready"
        rate = self.sample_rate if sample_rate is None else sample_rate
        if values.ndim != 2 + ready or values.shape[-1] == 0:
            axes, what = ("(channel, band, time)", "steps") if ready else ("(channel, time)", "samples")
            raise DataError(f"an eeg array must be {axes} with {what} in it, but its shape is {values.shape}")
        if ready and values.shape[1] != len(self.hertz()):
            raise DataError(
                f"an eeg array of features must have the {len(self.hertz())} bands of features.bands, but its shape is "
                f"{values.shape}"
            )
        if rate is None:
            raise DataError("an eeg array must come with a sampling rate, but it has none; set sample_rate")
        names = tuple(channels) or tuple(str(i + 1) for i in range(len(values)))
        if len(names) != len(values):
            raise DataError(f"an eeg array must have a name per channel, but got {len(names)} for {len(values)}")
        found = self._find([Channel(name, name, "eeg") for name in names], "array") or list(range(len(names)))
        picked = [i for i in found if i is not None]
        samples = np.ascontiguousarray(np.moveaxis(values[picked], -1, 0), dtype=np.float32)
        recording = Recording(samples, float(rate), tuple(names[i] for i in picked), "" if ready else "V")
        return self._store(recording, found, "array")

    def _find(self, known: Sequence[Channel], where: str) -> list[int] | list[int | None]:
        """Where each wanted channel is, None for one that lacks; nothing where the recipe does not say which."""
        if self.montage is not None:
            return find_electrodes(known, self._electrodes(), where, lacking=self.missing != "refuse")
        return [] if self.channels is None else pick(known, self.channels, where, site)

    def _electrodes(self) -> Sequence[str]:
        return MONTAGES[self.montage] if isinstance(self.montage, str) else self.montage or ()

    def _store(self, recording: Recording, found: Sequence[int | None], where: str) -> Recording:
        """Hold what was found to its rate, put it at its places in the montage, and preprocess it."""
        recording = at_rate(recording, self.sample_rate, self.resample, where)
        values, rate, names = recording.values, recording.sample_rate, recording.channels
        assert rate is not None
        if self.montage is not None:
            names = tuple(self._electrodes())
            values = np.zeros((len(values), len(names), *values.shape[2:]), np.float32)
            values[:, [place for place, index in enumerate(found) if index is not None]] = recording.values
        if self.preprocess is None and self.missing != "interpolate":
            return Recording(values, rate, names, recording.unit)
        gaps = Gaps(tuple(np.flatnonzero(~values.any(0)).tolist()), self.missing == "interpolate")
        if self.preprocess is not None:
            values, rate = clean(self.preprocess, values, rate, names, gaps, where)
        elif (matrix := mixing(names, gaps, where)) is not None:
            values = (values @ matrix.T).astype(np.float32)
        return Recording(values, rate, names, recording.unit)

    def chain(self, stored: Stored) -> list[dict[str, Any]] | None:
        """Causal twin of the preprocessing, and the filter bank of the features, where nothing looks ahead.

        A stream brings the channels of ``stored``, none missing, at ``sample_rate`` (else at the stored rate).
        """
        if self.ahead():
            return None
        bank = features.bank(self.features, stored)
        last = [] if bank is None else [dict(bank)]
        if self.preprocess is None:
            return last
        rate = stored.sample_rate if self.preprocess.resample is None else self.sample_rate
        assert rate is not None
        return [*causal_steps(self.preprocess, rate, stored.channels, Gaps(), "stream"), *last]

    def ahead(self) -> list[str]:
        """What looks at samples to come, or may have done so, by key."""
        ready = self.features.kind == "ready"
        found = ["features: {kind: ready} were made elsewhere, where they may have seen the future"] if ready else []
        if self.resample:
            found.append("resample filters forwards and backwards; preprocess.resample by method: causal does not")
        return [*found, *(self.preprocess.ahead if self.preprocess is not None else [])]

    def window(self, stored: Array) -> Array:
        """``(time, channel[, band])`` as stored to ``(channel[, band], time)``."""
        return np.ascontiguousarray(np.moveaxis(stored, 0, -1))

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        """Channels, bands where the samples are per band, and the samples of the longest record."""
        bands = (len(self.hertz()),) if self.whole(stored) is not None else ()
        return (*stored.item, *bands, stored.longest)

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
