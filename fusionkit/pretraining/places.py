"""A stream cut into places, of which some are hidden from its encoder and predicted: patches, steps, channels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from fusionkit.augment.augmentation import uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window, scrub, scrub_window
from fusionkit.pretraining.metric import mean_where
from fusionkit.pretraining.objective import Given
from fusionkit.pretraining.picture import Picture, picture_of


@dataclass(frozen=True)
class Places:
    """How one sensor is cut: steps in time, or patches of an image, by channels.

    What an encoder takes as features is cut already. Of a window a place holds some samples of one channel, or the
    pixels of one colour in a patch.

    Attributes:
        name: of the sensor.
        picture: where it is an image.
        side: of a patch in pixels, or samples of a step; 1 for features.
        channel: channels of a step.
        width: numbers of a channel of a step.
        features: whether its encoder takes features.
        steps: where their number is fixed.
    """

    name: str
    picture: Picture | None
    side: int
    channel: int
    width: int
    features: bool
    steps: int | None = None

    def cut(self, level: Window | Features) -> Features:
        """Values of every place, and which steps are real; what was not measured is 0."""
        if isinstance(level, Features):
            return scrub(level)
        if self.picture is not None:
            rows, columns = self.grid(0)
            patched = Picture(self.name, self.picture.height, self.picture.width, self.side)
            every = torch.ones(len(level.present), rows * columns, dtype=torch.bool, device=level.present.device)
            empty = Features(level.values.new_zeros(len(every), rows * columns, 3, self.side**2), every, level.present)
            cut = patched.level(empty, scrub_window(level).values)
            assert isinstance(cut, Features)
            return scrub(cut)
        clean = scrub_window(level)
        samples = clean.values if clean.values.ndim == 3 else clean.values[:, None]
        samples = F.pad(samples, (0, -samples.shape[2] % self.side))
        values = samples.reshape(*samples.shape[:2], -1, self.side).transpose(1, 2)
        ends = (torch.arange(values.shape[1], device=values.device) + 1) * self.side
        values = torch.where(values.isnan(), torch.zeros_like(values), values)
        return scrub(Features(values, ends <= clean.length[:, None], clean.present))

    def show(self, level: Window | Features, hidden: Bool[Tensor, "batch step channel"]) -> Window | Features:
        """A batch without what is hidden.

        Steps of features of which nothing is left are masked, so that an encoder that attends does not see them at all;
        other hidden features are 0, their mean. Hidden samples and pixels become the mean of what is seen of their
        channel, for an encoder of windows must see something there.
        """
        if isinstance(level, Features):
            values = torch.where(hidden[..., None], torch.zeros_like(level.values), level.values)
            return level._replace(values=values, mask=level.mask & ~hidden.all(2))
        cut = self.cut(level)
        seen = (~hidden & cut.mask[..., None])[..., None].to(cut.values.dtype)
        mean = (cut.values * seen).sum((1, 3), keepdim=True) / (seen.sum((1, 3), keepdim=True) * self.width).clamp_min(
            1
        )
        covered = self._spread(hidden[..., None].to(mean.dtype).expand(cut.values.shape), level) > 0
        filled = self._spread(mean.expand(cut.values.shape), level)
        return level._replace(values=torch.where(covered, filled, level.values))

    def target(self, level: Window | Features) -> Features:
        """What is to be predicted: features as they are, samples and pixels in units of their record and channel.

        Those have mean 0 and standard deviation 1 over a record's real steps, whether they were volts or colours.
        """
        cut = self.cut(level)
        if self.features:
            return cut
        values, real = cut.values.float(), cut.mask[:, :, None, None].float()
        count = (real.sum((1, 3), keepdim=True) * self.width).clamp_min(1)
        deviation = (values - (values * real).sum((1, 3), keepdim=True) / count) * real
        spread = (deviation.square().sum((1, 3), keepdim=True) / count).sqrt()
        return cut._replace(values=deviation / torch.where(spread > 0, spread, torch.ones_like(spread)))

    def grid(self, steps: int) -> tuple[int, int]:
        """Rows and columns of the places of a batch with so many steps."""
        if self.picture is None:
            return 1, steps
        side = self.side if self.picture.patch is None else self.picture.patch
        return -(-self.picture.height // side), -(-self.picture.width // side)

    def _spread(self, cut: Tensor, level: Window) -> Tensor:
        """Places back where they were: in pixels, or along time."""
        if self.picture is not None:
            patched = Picture(self.name, self.picture.height, self.picture.width, self.side)
            every = torch.ones_like(cut[:, :, 0, 0], dtype=torch.bool)
            return patched.pixels(Features(cut, every, torch.ones_like(every[:, 0])))
        samples = cut.transpose(1, 2).flatten(2)[:, :, : level.values.shape[-1]]
        return samples if level.values.ndim == 3 else samples[:, 0]


def find_places(given: Given, kind: str, side: int | None) -> Mapping[str, Places]:
    """The sensors of a stage that can be cut; text cannot, for its features train.

    Args:
        given: what the builder knows.
        kind: of the objective, for the message.
        side: of the patches of images, or samples of a step, where an encoder takes windows; None is 4 pixels (16 from
            128 on), or a 32nd of the window.

    Raises:
        ConfigError: there is none, or ``side`` is more than half of a window.
    """
    images = {name: picture for name in given.sensors if (picture := picture_of(given, name)) is not None}
    found = {}
    for name in given.sensors:
        if given.levels[name] == "features":
            shape = given.features[name]
            if not shape.trains:
                found[name] = Places(name, images.get(name), 1, shape.channel, shape.subchannel, True, shape.steps)
            continue
        window = given.windows.get(name)
        if window is None or name in given.vocabularies or (len(window) not in (1, 2) and name not in images):
            continue
        smallest = min(window[1:]) if name in images else window[-1]
        wanted = (16 if smallest >= 128 else 4) if name in images else max(1, smallest // 32)
        used = wanted if side is None else side
        if 2 * used > smallest:
            raise ConfigError(f"{kind} must cut {name} in two at least, but side {used} is over half of its {smallest}")
        width = used**2 if name in images else used
        found[name] = Places(name, images.get(name), used, 1 if len(window) == 1 else window[0], width, False)
    if not found:
        raise ConfigError(
            f"{kind} learns from images, signals and features that do not train, but none of {list(given.sensors)} is such"
        )
    return found


def choose_some(
    real: Bool[Tensor, "batch step"], share: float, generator: torch.Generator
) -> Bool[Tensor, "batch step"]:
    """Draw a share of what is real in every row, all subsets alike; one at least stays, if ``share`` is below 1.

    Of 196 patches 0.75 are 147, so that 49 stay; of 10 tokens 0.15 are 2; of one alone none.
    """
    noise = uniform(tuple(real.shape), real, generator).masked_fill(~real, 2.0)
    rank = noise.argsort(1).argsort(1)
    count = real.sum(1)
    chosen = torch.round(share * count).long().clamp_min(1 if share > 0 else 0)
    return (rank < torch.minimum(chosen, count - 1)[:, None]) & real


def hidden_error(
    predicted: Float[Tensor, "batch step channel width"],
    target: Float[Tensor, "batch step channel width"],
    hidden: Bool[Tensor, "batch step channel"],
) -> Float[Tensor, ""]:
    """Mean squared error over hidden places alone; 0 where none is hidden.

    Predicted 0 where a hidden place holds 2 costs 4, whatever is predicted elsewhere.
    """
    return mean_where((predicted.float() - target.float()).square().mean(3), hidden)
