"""Granger cluster: channels that predict one another share an encoder."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, FeatureShape, any_present
from fusionkit.core.registry import fusion
from fusionkit.fusion.align import align_features, aligned_width, bin_times
from fusionkit.fusion.granger import (
    Real,
    Series,
    choose_lag,
    granger,
    linked_groups,
    links,
    make_stationary,
    standardise,
)
from fusionkit.fusion.operation import EarlyFusion, TrainingBatch


@fusion.register("granger_cluster")
class GrangerCluster(EarlyFusion):
    r"""Group channels, within and across sensors, by Granger causality; one small encoder a group, side by side.

    It is early, since it needs channels: it takes features and makes features, a channel a group, for the node's
    encoder. Streams are brought onto ``steps`` bins of the window. Before gradient training, on training records
    that have every sensor with time: a channel's series (the mean of its subchannels) is standardised and, while the
    augmented Dickey-Fuller test keeps a unit root, differenced; the number of lags has the smallest Bayesian
    information criterion; every ordered pair gets an F-test; links are those within a false discovery rate of
    ``rate``, and groups are what links join in either direction. Beyond ``clusters`` groups the smallest are one.
    A sensor without time (an image) is a group of its own, and so is one with time that has no past, since no record
    has it in two bins in a row (a number once a window): it keeps nobody else from being tested. Records that have
    too few bins in a row are passed over. Then each group's numbers g of a bin become

    .. math:: z_g = \mathrm{gelu}(W_g x_g + b_g)

    The F-test is over all windows together, which overlapping windows make too sure. Links are linear
    predictability: a driver that two channels share links them, too. The sentence "Granger cluster data in each
    modality and combine" stands in lecture notes under names that we could not trace to a paper; all of this is our
    reconstruction.

    Attributes:
        strength: ``-log10 p`` of the links from a channel to a channel, 0 where not significant or not tested;
            channels of the sensors with time, in the order of the inputs.
        member: which of the aligned numbers belong to which group.

    Args:
        inputs: what is known of each feature stream.
        duration: length of the window in seconds; None where no stream has time: then sensors are the groups.

    Raises:
        ConfigError: there are too few steps for the lags, or features with time come from a front end that trains.

    Reference:
        Granger, Econometrica 37(3), 1969; Benjamini and Hochberg, JRSS B 57(1), 1995.
    """

    strength: Float[Tensor, "channel channel"]
    member: Bool[Tensor, "group total"]

    def __init__(
        self,
        inputs: Mapping[str, FeatureShape],
        duration: float | None,
        *,
        steps: Annotated[int, Field(ge=1, description="equal bins of the window, the common clock")] = 4,
        lags: Annotated[int, Field(ge=1, description="most steps of the past that tests take in")] = 2,
        rate: Annotated[float, Field(gt=0, lt=1, description="share of false links to expect")] = 0.05,
        clusters: Annotated[int, Field(ge=1, description="most groups of channels with time")] = 8,
        hidden: Annotated[int, Field(ge=1, description="numbers that each group's encoder makes per bin")] = 16,
    ) -> None:
        super().__init__(inputs, duration)
        self.steps = 1 if duration is None else steps
        self.lags, self.rate, self.hidden = lags, rate, hidden
        self.timed = [name for name, shape in self.inputs.items() if shape.timed and duration is not None]
        if self.timed and steps < lags + 2:
            raise ConfigError(f"steps must be at least lags + 2, but {steps} is less than {lags + 2}")
        for name in self.timed:
            if self.inputs[name].trains:
                raise ConfigError(f"Granger tests need features that do not train, but those of {name!r} do")
        self.widths = {name: aligned_width(shape) for name, shape in self.inputs.items()}
        channels = sum(self.inputs[name].channel for name in self.timed)
        self.clusters = min(clusters, channels)
        groups = self.clusters + len(self.inputs) - len(self.timed)
        total = sum(self.widths.values())
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(total, hidden).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.zeros(groups, hidden))
        self.register_buffer("strength", torch.zeros(channels, channels))
        self.register_buffer("member", self._members([[channel] for channel in range(channels)][: self.clusters]))
        with torch.no_grad():
            self.weight.mul_(self._bound())

    @property
    def shape(self) -> FeatureShape:
        """A channel for every group that there may be."""
        return FeatureShape(
            len(self.member), self.hidden, steps=self.steps, timed=self.duration is not None, trains=True
        )

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Encode the groups of one batch; a step is real where any sensor has something in it."""
        blocks, mask = align_features(inputs, self.inputs, self.steps, self.duration)
        joint = torch.cat(blocks, -1)
        own = self.weight[:, None].expand(-1, self.groups, -1)  # a number belongs to one group
        weight = torch.where(self.member.T[..., None], own, torch.zeros_like(own))
        hidden = joint @ weight.flatten(1)
        values = F.gelu(hidden.reshape(*hidden.shape[:2], *self.bias.shape) + self.bias)
        used = self.member.any(1)[:, None] & mask.any(2)[..., None, None]
        values = torch.where(used, values, torch.zeros_like(values))
        present = any_present(inputs[name] for name in self.inputs)
        return Features(values, mask.any(2), present, bin_times(self.steps, self.duration, values))

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Test every ordered pair of channels with a past, and group them; nothing is drawn.

        Raises:
            DataError: no sensor has a past, or too few training records have all that do for as many steps as the
                tests need.
        """
        if not self.timed:
            return
        parts, there = [], []
        for batch in training_batches():
            blocks, mask = align_features(batch, self.inputs, self.steps, self.duration)
            named = dict(zip(self.inputs, blocks, strict=True))
            series = [
                named[name].reshape(*mask.shape[:2], self.inputs[name].channel, -1).mean(-1) for name in self.timed
            ]
            places = [place for place, name in enumerate(self.inputs) if name in self.timed]
            parts.append(torch.cat(series, -1).cpu().double())
            there.append(mask[..., places].cpu())
        values, each = torch.cat(parts).numpy(), torch.cat(there).numpy()
        past = (each[:, 1:] & each[:, :-1]).any((0, 1))
        if not past.any():
            raise DataError(
                f"Granger tests need records with a past, but none has any of {self.timed} in two of {self.steps} bins in a "
                "row; fewer bins (steps) have fewer gaps"
            )
        tested = [name for name, kept in zip(self.timed, past, strict=True) if kept]
        channels = np.flatnonzero(np.repeat(past, [self.inputs[name].channel for name in self.timed]))
        strength = self._test(values[..., channels], np.all(each[..., past], axis=-1), tested)
        self.strength.zero_()
        self.strength[np.ix_(channels, channels)] = torch.from_numpy(strength).to(self.strength)
        before = self._bound()
        self.member.copy_(self._members(self._groups(strength, channels, set(tested))))
        self.weight.mul_(self._bound() / before)

    def _test(self, values: Series, real: Real, tested: list[str]) -> Float[np.ndarray, "source target"]:
        """Strength of the links between channels of the sensors that have a past; one by itself has none."""
        if values.shape[2] == 1:
            return np.zeros((1, 1))
        if not real.any():
            raise DataError(f"Granger tests need training records that have all of {tested}, but none has")
        values, real = make_stationary(standardise(values, real), real, self.lags)
        lag = choose_lag(values, real, self.lags)
        statistic, freedom = granger(values, real, lag)
        if freedom < 1:
            raise DataError(
                f"Granger tests need more than {2 * lag + 1} steps with {lag} before them where all of {tested} "
                f"are there, but training records have {freedom + 2 * lag + 1}; fewer bins (steps) have fewer gaps, "
                "and features may come in shorter steps"
            )
        return links(statistic, lag, freedom, self.rate)

    def _groups(
        self, strength: Float[np.ndarray, "source target"], channels: Int[np.ndarray, " source"], tested: set[str]
    ) -> list[list[int]]:
        """What links join, then every sensor with time and without a past; what is beyond ``clusters`` in the last."""
        numbers = iter(range(len(self.strength)))
        alone = [
            own
            for name in self.timed
            if (own := [next(numbers) for _ in range(self.inputs[name].channel)]) and name not in tested
        ]
        most = max(1, self.clusters - len(alone))
        groups = [channels[group].tolist() for group in linked_groups(strength, most)] + alone
        if len(groups) > self.clusters:
            groups[self.clusters - 1 :] = [
                sorted(channel for group in groups[self.clusters - 1 :] for channel in group)
            ]
        return groups

    def _bound(self) -> Float[Tensor, "total 1"]:
        """Largest weight to begin with of each aligned number, by the size of its group (Xavier-uniform)."""
        size = (self.member.sum(1, keepdim=True) * self.member).sum(0)
        return (6 / (size + self.hidden)).sqrt()[:, None]

    def _members(self, groups: list[list[int]]) -> Bool[Tensor, "group total"]:
        """Which aligned numbers each group has: channels with time by number, then a group a sensor without."""
        member = torch.zeros(self.groups, sum(self.widths.values()), dtype=torch.bool)
        group_of = {channel: group for group, channels in enumerate(groups) for channel in channels}
        start, channel, alone = 0, 0, self.clusters
        for name, width in self.widths.items():
            if name not in self.timed:
                member[alone, start : start + width] = True
                alone += 1
            else:
                each = width // self.inputs[name].channel
                for first in range(start, start + width, each):
                    member[group_of.get(channel, self.clusters - 1), first : first + each] = True
                    channel += 1
            start += width
        return member
