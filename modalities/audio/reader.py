"""Sound: anything libsndfile reads, as one channel at one rate, and its log-mel spectrogram."""

from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from pydantic import Field

from fusionkit.core.compatibility import load_torchaudio
from fusionkit.core.errors import DataError
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities

from .figures import draw_spectrograms
from .front_end import LogMel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_KERNEL = 10_000_000  # taps of torchaudio's resampler; above it (coprime rates) scipy's is used


@modalities.register("audio")
class Audio(Modality):
    """Speech and other sound. Channels are averaged, other sampling rates resampled, integers scaled to [-1, 1].

    The default front end is a log-mel spectrogram (see `LogMel`).

    Args:
        sample_rate: hertz that every recording is brought to.
        level: ``equal`` scales every record to one loudness, ``keep`` leaves it.
        frame: seconds of a spectrum.
        hop: seconds from one spectrum to the next.
        mel_bands: bands of the mel scale.
        f_min: lower edge of the lowest band, hertz.
        f_max: upper edge of the highest band; None is half the sampling rate.
        dft_points: points of the DFT; None is the least power of two that holds a frame.

    Example:
        ``audio: {kind: audio, sample_rate: 8000, mel_bands: 32}``
    """

    kind: ClassVar[str] = "audio"
    holds = "signal"
    suffixes: ClassVar[frozenset[str]] = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus"})
    encoder: ClassVar[str] = "cnn"

    def __init__(
        self,
        *,
        sample_rate: Annotated[
            int, Field(ge=1000, description="every recording is brought to this rate, hertz")
        ] = 16000,
        level: Annotated[Literal["equal", "keep"], Field(description="loudness of a record")] = "equal",
        frame: Annotated[float, Field(gt=0, description="seconds of a spectrum")] = 0.025,
        hop: Annotated[float, Field(gt=0, description="seconds from one spectrum to the next")] = 0.016,
        mel_bands: Annotated[int, Field(ge=1, description="bands of the mel scale")] = 40,
        f_min: Annotated[float, Field(ge=0, description="lower edge of the lowest band, hertz")] = 20.0,
        f_max: Annotated[float | None, Field(gt=0, description="upper edge of the highest band, hertz")] = None,
        dft_points: Annotated[int | None, Field(ge=2, description="points of the DFT")] = None,
    ) -> None:
        self.sample_rate = sample_rate
        self._front_end: dict[str, Any] = {
            "level": level,
            "frame": frame,
            "hop": hop,
            "mel_bands": mel_bands,
            "f_min": f_min,
            "f_max": f_max,
            "dft_points": dft_points,
        }

    def read(self, path: Path) -> Recording:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            with soundfile.SoundFile(path) as file:
                rate, expected = file.samplerate, file.frames
                samples = file.read(dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            reason = str(error).rpartition(": ")[2].rstrip(".")
            raise DataError(f"{path}: must be a sound file that libsndfile reads, but: {reason}") from None
        if len(samples) < expected or is_cut(path):
            raise DataError(f"{path}: must be whole, but it ends after {len(samples)} samples, before its header says")
        return self._recording(samples.mean(1), float(rate), str(path))

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        values = np.asarray(values)
        if values.ndim != 1:
            raise DataError(f"sound must be an array (time,), but its shape is {values.shape}")
        samples: Array
        if values.dtype.kind == "f":
            samples = values.astype(np.float32)
        elif values.dtype in (np.int16, np.int32):
            samples = (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
        elif values.dtype == np.uint8:
            samples = ((values.astype(np.float32)) - 128) / 128
        else:
            raise DataError(f"sound must be int16, int32, uint8 or float, but it is {values.dtype}")
        return self._recording(samples, float(sample_rate or self.sample_rate), "array")

    def front_end(self, stored: Stored) -> LogMel:
        return LogMel(stored.sample_rate or float(self.sample_rate), **self._front_end)

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        return (stored.longest,)

    def figures(self, features: Array, labels: Array, classes: Sequence[str], stored: Stored) -> "Mapping[str, Figure]":
        return draw_spectrograms(features, labels, classes, self.front_end(stored))

    def _recording(self, samples: Float[np.ndarray, " time"], rate: float, where: str) -> Recording:
        if not len(samples):
            raise DataError(f"{where}: a recording must hold samples, but it holds none")
        if not np.isfinite(samples).all():
            raise DataError(
                f"{where}: samples must be finite, but sample {int(np.argmin(np.isfinite(samples)))} is not"
            )
        return Recording(resample(samples, rate, self.sample_rate), float(self.sample_rate))


def is_cut(path: Path) -> bool:
    """Whether a RIFF file (wav) is shorter than its header says; libsndfile reads such a file without a word."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    return head[:4] == b"RIFF" and 0 < size < 0xFFFFFFFF and size + 8 > path.stat().st_size


def resample(samples: Float[np.ndarray, " time"], rate: float, target: int) -> Float[np.ndarray, " new_time"]:
    """Bring samples from one rate to another; ``ceil(len(samples) * target / rate)`` come out.

    Raises:
        DataError: ``rate`` is no whole number of hertz.
    """
    if rate == target:
        return np.ascontiguousarray(samples)
    if rate != round(rate) or rate < 1:
        raise DataError(f"a sampling rate must be a whole number of hertz to be resampled, but it is {rate:g}")
    common = gcd(round(rate), target)
    up, down = target // common, round(rate) // common
    if up * (down + 14 * max(1, down / up)) > LARGEST_KERNEL:
        from scipy.signal import resample_poly  # slow to import, hardly ever needed

        return np.asarray(resample_poly(samples, up, down), dtype=np.float32)
    signal = torch.from_numpy(np.ascontiguousarray(samples))
    changed: torch.Tensor = load_torchaudio().functional.resample(signal, round(rate), target)
    return changed.numpy()
