"""Changes of EEG batches that leave the state of the brain what it was; all on the batch's device."""

from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import FeatureAugmentation, choose, normal, uniform
from fusionkit.augment.series import Probability, SeriesAugmentation, across, take
from fusionkit.core.levels import Features, Window, valid
from fusionkit.core.registry import augment

Share = Annotated[float, Field(ge=0, lt=1, description="share of channels that are lost; one always stays")]


@augment.register("eeg_shift")
class TimeShift(SeriesAugmentation):
    """Roll a window in time, all channels together; what leaves at one end comes in at the other.

    Args:
        most: largest shift either way, as a share of the real samples.
        probability: share of samples that are changed.
    """

    def __init__(
        self,
        *,
        most: Annotated[float, Field(gt=0, le=0.5, description="largest shift, share of the window")] = 0.5,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Shift one batch; padding stays where it is."""
        values, length = stream.values, stream.length.clamp_min(1)
        batch, time = len(values), values.shape[-1]
        chosen = choose(batch, self.probability, values, generator)
        turn = uniform((batch,), values, generator) * 2 - 1
        shift = torch.where(chosen, (turn * self.most * length).round().long(), 0)
        step = torch.arange(time, device=values.device).expand(batch, time)
        source = torch.where(step < length[:, None], (step - shift[:, None]) % length[:, None], step)
        return stream._replace(values=take(values, source))


@augment.register("eeg_channel_dropout")
class ChannelDropout(SeriesAugmentation):
    """Silence some channels for the whole window, as an electrode that came off.

    Args:
        share: share of channels that are lost.
        probability: share of samples that are changed.
    """

    def __init__(self, *, share: Share = 0.1, probability: Probability = 0.5) -> None:
        super().__init__()
        self.share = share
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Drop channels of one batch."""
        lost = _lost(stream.values, stream.values.shape[1], self.share, self.probability, generator)
        lost = lost.reshape(*lost.shape, *(1,) * (stream.values.ndim - 2))
        values = torch.where(lost, torch.zeros_like(stream.values), stream.values)
        return stream._replace(values=values)


@augment.register("eeg_sign_flip")
class SignFlip(SeriesAugmentation):
    """Turn the polarity of all channels of a window together: spectra and correlations stay what they were.

    Args:
        probability: share of samples that are changed.
    """

    def __init__(self, *, probability: Probability = 0.5) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Flip some samples of one batch."""
        chosen = choose(len(stream.values), self.probability, stream.values, generator)
        return stream._replace(values=torch.where(across(chosen, stream.values), -stream.values, stream.values))


@augment.register("eeg_feature_noise")
class FeatureNoise(FeatureAugmentation):
    """Add white noise to features, which have unit spread over the training records.

    Args:
        spread: standard deviation of the noise.
        probability: share of samples that are changed.
    """

    def __init__(
        self,
        *,
        spread: Annotated[float, Field(gt=0, description="standard deviation of the noise")] = 0.1,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.spread = spread
        self.probability = probability

    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Add noise to the real steps of one batch."""
        values = stream.values
        chosen = choose(values.shape[0], self.probability, values, generator)
        noise = normal(tuple(values.shape), values, generator)
        real = (valid(stream) & chosen[:, None])[..., None, None]
        return stream._replace(values=torch.where(real, values + self.spread * noise, values))


@augment.register("eeg_feature_dropout")
class FeatureChannelDropout(FeatureAugmentation):
    """Set the features of some channels to 0, their mean over the training records, at every step.

    Args:
        share: share of channels that are lost.
        probability: share of samples that are changed.
    """

    def __init__(self, *, share: Share = 0.1, probability: Probability = 0.5) -> None:
        super().__init__()
        self.share = share
        self.probability = probability

    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Drop channels of one batch."""
        lost = _lost(stream.values, stream.values.shape[2], self.share, self.probability, generator)
        values = torch.where(lost[:, None, :, None], torch.zeros_like(stream.values), stream.values)
        return stream._replace(values=values)


def _lost(
    like: Tensor, channels: int, share: float, probability: float, generator: torch.Generator | None
) -> Bool[Tensor, "batch channel"]:
    """Which channels vanish; the one that drew the highest number never does."""
    chosen = choose(like.shape[0], probability, like, generator)
    draw = uniform((like.shape[0], channels), like, generator)
    return chosen[:, None] & (draw < share) & (draw < draw.amax(1, keepdim=True))
