"""Log-mel spectrogram as one convolution with a DFT, for any device and any exported graph."""

import math
import warnings
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.compatibility import load_torchaudio
from fusionkit.core.errors import ConfigError
from fusionkit.core.framing import Frames
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd


class LogMel(FrontEnd):
    r"""The logarithm of a mel spectrogram: frames as time, mel bands as channels, one subchannel.

    Frame :math:`k` is the samples :math:`[kh, kh + w)`, under a periodic Hann window, without centring or
    reflection; its time is :math:`(kh + w/2)` samples. With the DFT :math:`X_k` of a frame and the triangles
    :math:`M` of the HTK mel scale, a feature is

    .. math:: \log(10^{-6} + \sum_f M_{fm} |X_k(f)|^2)

    A signal of zeros gives :math:`\log 10^{-6} = -13.8155` everywhere. Windows are padded with zeros so that there are
    ``ceil(time / hop)`` frames; those that reach beyond ``length`` are masked. Equal to torchaudio's
    ``MelSpectrogram(power=2, center=False)`` and a log, but four to ten times faster than an STFT under onnxruntime.

    With ``level="equal"`` a window is first scaled so that its real samples have the power of -20 dB full scale
    (root mean square 0.1), which makes features free of gain and of the distance to a microphone; what is below
    -80 dB is silence and is scaled no further.

    Args:
        sample_rate: of the windows, hertz.
        level: ``equal`` brings every window to one power, ``keep`` leaves it, where loudness says something.
        frame: seconds of a frame.
        hop: seconds from one frame to the next.
        mel_bands: how many bands.
        f_min: lower edge of the lowest band, hertz.
        f_max: upper edge of the highest band, hertz; None is half the sampling rate.
        dft_points: points of the DFT, at least a frame; None is the least power of two that holds a frame.

    Raises:
        ConfigError: frame, edges or points do not fit the sampling rate, or a band is too narrow to hold any point.
    """

    dft: Tensor
    mel: Tensor

    def __init__(
        self,
        sample_rate: float,
        *,
        level: Literal["equal", "keep"] = "equal",
        frame: float = 0.025,
        hop: float = 0.016,
        mel_bands: int = 40,
        f_min: float = 20.0,
        f_max: float | None = None,
        dft_points: int | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.level = level
        self.frame = round(frame * sample_rate)
        self.hop = round(hop * sample_rate)
        if self.frame < 2 or self.hop < 1:
            raise ConfigError(
                f"a frame must hold 2 samples and a hop 1, but at {sample_rate:g} Hz they hold {self.frame} and {self.hop}"
            )
        points = 2 ** math.ceil(math.log2(self.frame)) if dft_points is None else dft_points
        if points < self.frame:
            raise ConfigError(f"dft_points must be at least a frame, but {points} is less than {self.frame} samples")
        top = sample_rate / 2 if f_max is None else f_max
        if not f_min < top <= sample_rate / 2:
            raise ConfigError(
                f"f_min < f_max <= half the sampling rate must hold, but they are {f_min:g}, {top:g} and "
                f"{sample_rate / 2:g} Hz"
            )
        mel = mel_filters(points, mel_bands, f_min, top, sample_rate)
        used = mel.any(1)  # frequencies outside every band cost nothing
        self.register_buffer("dft", dft_kernel(self.frame, points)[:, used].flatten(0, 1)[:, None].float(), False)
        self.register_buffer("mel", mel[used].float(), False)
        self.shape = FeatureShape(channel=mel_bands, subchannel=1)

    def forward(
        self, values: Shaped[Tensor, "batch time"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frame mel 1"], Bool[Tensor, "batch frame"]]:
        """Log-mel of every frame; what lies behind ``length`` is not looked at."""
        real = torch.arange(values.shape[1], device=values.device) < length[:, None]
        clean = torch.where(real, values, torch.zeros_like(values))
        if self.level == "equal":
            power = clean.square().sum(1, keepdim=True) / length[:, None].clamp_min(1)
            clean = clean * (0.1 / power.sqrt().clamp_min(1e-4))
        spectrum = F.conv1d(F.pad(clean, (0, self.frame - 1))[:, None], self.dft, stride=self.hop)
        cosine, sine = spectrum.chunk(2, 1)
        power = cosine.square() + sine.square()  # (batch, frequency, frame)
        features = torch.log(power.transpose(1, 2) @ self.mel + 1e-6)[..., None]
        ends = torch.arange(features.shape[1], device=values.device) * self.hop + self.frame
        return features, ends <= length[:, None]

    def times(self, steps: int) -> Float[Tensor, " time"]:
        """Centres of the frames in seconds."""
        return (torch.arange(steps) * self.hop + self.frame / 2) / self.sample_rate

    def stepwise(self) -> Frames | str:
        """Every frame by itself, where the loudness of the window does not matter."""
        if self.level == "equal":
            return "level: equal scales by the loudness of the whole window, which keep does not"
        return Frames(self.frame, self.hop, self.sample_rate)


def dft_kernel(frame: int, points: int) -> Float[Tensor, "2 frequency frame"]:
    """Cosines and sines of a DFT of ``points`` under a periodic Hann window of ``frame`` samples, in float64."""
    sample = torch.arange(frame, dtype=torch.float64)
    frequency = torch.arange(points // 2 + 1, dtype=torch.float64)
    angle = (2 * math.pi / points) * frequency[:, None] * sample
    return torch.stack([angle.cos(), angle.sin()]) * torch.hann_window(frame, dtype=torch.float64)


def mel_filters(points: int, bands: int, f_min: float, f_max: float, rate: float) -> Float[Tensor, "frequency band"]:
    """Triangles of the HTK mel scale, evenly spaced between two edges, each with height 1.

    Raises:
        ConfigError: a band lies between two points of the DFT and would always be silent.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says what the error below says
        filters: Tensor = load_torchaudio().functional.melscale_fbanks(
            points // 2 + 1, f_min, f_max, bands, round(rate), norm=None, mel_scale="htk"
        )
    if not filters.any(0).all():
        raise ConfigError(
            f"every mel band must hold a point of the DFT, but at {rate:g} Hz {bands} bands are too narrow for "
            f"{points} points; take fewer mel_bands, more dft_points or a higher f_min"
        )
    return filters
