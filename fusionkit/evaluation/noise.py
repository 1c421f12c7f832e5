"""Noise on sensors at test: what is left of a model when one of them lies?"""

from collections.abc import Mapping

import torch

from fusionkit.augment.white_noise import add_noise, per_row
from fusionkit.core.errors import ConfigError, UnknownNameError, located
from fusionkit.core.levels import Batch, Window
from fusionkit.core.modality import Modality


def read_noise(words: list[str]) -> dict[str, float]:
    """Standard deviations by sensor, of words like ``image=0.8``.

    Raises:
        ConfigError: a word is none of that form, or a deviation is no finite number above 0.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            found[name] = float(text)
        except ValueError:
            raise ConfigError(f"--noise must be SENSOR=DEVIATION, but got {word!r}") from None
        if not 0 < found[name] < float("inf"):
            raise ConfigError(f"--noise must have a finite deviation above 0, but got {word!r}")
    return found


class NoiseAtTest:
    """Add Gaussian noise to some sensors of every batch, in the order of the records: one seed, the same noise.

    Args:
        deviations: standard deviation by sensor, in the units of its windows: of an image white is 1.
        modalities: every sensor; noisy windows are clipped to their limits.
        seed: of the noise.

    Raises:
        UnknownNameError: there is no such sensor.
    """

    def __init__(self, deviations: Mapping[str, float], modalities: Mapping[str, Modality], seed: int = 0) -> None:
        for name in deviations:
            if name not in modalities:
                raise UnknownNameError("sensor", name, modalities)
        self.deviations = dict(deviations)
        self.limits = {name: modalities[name].limits for name in deviations}
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with noise.

        Raises:
            ConfigError: a sensor has ids, or features that were made before.
        """
        inputs = dict(batch.inputs)
        for name, deviation in self.deviations.items():
            window = inputs[name]
            with located(f"--noise {name}"):
                if not isinstance(window, Window):
                    raise ConfigError("noise must be of windows, but features smoothed across records come without")
                if not window.values.is_floating_point():
                    raise ConfigError("noise must be of a sensor of numbers, but this one gives ids")
            spread = per_row(torch.full_like(window.present, deviation, dtype=torch.float32), window.values)
            inputs[name] = add_noise(window, spread, self.generator, self.limits[name])
        return Batch(inputs, batch.targets, batch.index)
