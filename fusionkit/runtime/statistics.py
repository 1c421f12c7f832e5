"""Mean and spread of a wearer's features, from a calibration segment on: the same offline and in a closed loop."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class RunningStatistics:
    """Mean and standard deviation of all steps seen so far, in float64; NaN, which was not measured, is not counted.

    Start it with the features of a calibration segment; then take ``shift`` and ``scale`` for a window *before*
    `update` sees that window's features, and nothing of a window reaches its own normalisation. Steps 1 and 3 give
    mean 2 and (population) standard deviation 1.

    Args:
        shape: ``(channel, subchannel)`` of the features.

    Reference:
        Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = np.zeros(shape)
        self.mean = np.zeros(shape)
        self.square = np.zeros(shape)

    def update(self, features: Array) -> None:
        """See the real steps ``(time, channel, subchannel)`` of one window."""
        values = np.asarray(features, np.float64)
        real = ~np.isnan(values)
        count = real.sum(0)
        mean = np.where(real, values, 0).sum(0) / np.maximum(count, 1)
        square = np.where(real, (values - mean) ** 2, 0).sum(0)
        total = self.count + count
        apart = mean - self.mean
        share = count / np.maximum(total, 1)
        self.square += square + apart**2 * self.count * share
        self.mean += apart * share
        self.count = total

    @property
    def shift(self) -> Array:
        """Mean ``(channel, subchannel)`` float32; 0 where nothing was measured."""
        return self.mean.astype(np.float32)

    @property
    def scale(self) -> Array:
        """Standard deviation ``(channel, subchannel)`` float32; 1 where a feature does not vary."""
        return spread(self.mean, np.sqrt(self.square / np.maximum(self.count, 1)))


def spread(mean: Array, deviation: Array) -> Array:
    """What to divide by: the deviation, or 1 where it is no more than rounding of the mean."""
    scale: Array = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0).astype(np.float32)
    return scale
