"""Zero mean and unit spread per channel and subchannel, from training records alone."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.levels import Features, FeatureShape, scrub


class Standardise(nn.Module):
    """Map every feature to zero mean and unit standard deviation over the real steps of training records.

    NaN, which was not measured, is not counted and stays.

    Values 1, 3 and 5 have mean 3 and (population) standard deviation 1.633, so 5 becomes 1.2247.
    What does not vary keeps its scale. The statistics are buffers: they travel with the weights.

    Args:
        shape: what is known of the features.
    """

    mean: Float[Tensor, "channel subchannel"]
    std: Float[Tensor, "channel subchannel"]

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape.channel, shape.subchannel))
        self.register_buffer("std", torch.ones(shape.channel, shape.subchannel))

    @torch.no_grad()
    def fit(self, batches: Iterable[Features]) -> None:
        """See one pass over the features of training records; sums are kept in float64."""
        count = torch.zeros(self.mean.shape, dtype=torch.float64)
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        square = torch.zeros(self.mean.shape, dtype=torch.float64)
        centre: Tensor | None = None
        for features in batches:
            clean = scrub(features)
            values = clean.values.cpu().double()
            measured = ~values.isnan()
            weight = clean.mask.cpu()[..., None, None] & measured
            values = torch.where(measured, values, torch.zeros_like(values))
            if centre is None:  # a shift near the mean keeps the sum of squares accurate
                centre = (values * weight).sum((0, 1)) / weight.sum((0, 1)).clamp_min(1)
            deviation = (values - centre) * weight
            count += weight.sum((0, 1))
            total += deviation.sum((0, 1))
            square += deviation.square().sum((0, 1))
        if centre is None:
            return
        mean = total / count.clamp_min(1)
        std = (square / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(centre + mean)
        self.std.copy_(torch.where(std > 1e-6 * (centre + mean).abs() + 1e-12, std, torch.ones_like(std)))

    def forward(self, features: Features) -> Features:
        """Standardise one batch; what is not real becomes zero."""
        values = (features.values - self.mean) / self.std
        return scrub(features._replace(values=values))._replace(mask=features.mask)
