"""One sensor of a record under noise in training, so that a fusion learns to tell which sensor to believe."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.core.errors import ShapeError
from fusionkit.core.levels import Features, Window

from .augmentation import choose, uniform
from .white_noise import add_noise, per_row, real_values


class SensorCorruption:
    r"""Cover one sensor with noise in a ``share`` of the records that have two sensors or more.

    Which one is drawn evenly from those that are present, and every other one stays as it is. Its window becomes
    :math:`x + s \sigma n`, clipped to the sensor's limits where it has some, with white noise :math:`n`, a strength
    :math:`s \sim U[0, S]` of each record, and :math:`\sigma` each channel's standard deviation over the batch: of
    values with deviation 2 and ``strength`` 3, noise of deviation 0 to 6. Of a sentence each id becomes, with
    probability :math:`\min(s, 1)`, one of the batch's. Padding and absent sensors stay as they are.

    Beside `fusionkit.fusion.modality_dropout`, which teaches a model to do without a sensor, this teaches it to notice
    that one lies. The form is ours.

    Args:
        share: of records with one noisy sensor.
        strength: :math:`S`, above 0.
        limits: least and greatest number, by sensor, of those that have them.
    """

    def __init__(self, share: float, strength: float, limits: Mapping[str, tuple[float, float]]) -> None:
        self.share, self.strength, self.limits = share, strength, dict(limits)

    def __call__(self, levels: Mapping[str, Window | Features], generator: torch.Generator) -> dict[str, Window]:
        """Corrupt one batch; ``generator`` draws everything.

        Raises:
            ShapeError: a sensor comes as features, of which nobody knows what noise would make.
        """
        windows = {name: level for name, level in levels.items() if isinstance(level, Window)}
        if len(windows) < len(levels):
            raise ShapeError(f"corruption takes windows, but {sorted(set(levels) - set(windows))} come as features")
        there = torch.stack([window.present for window in windows.values()])
        draw = torch.where(there, uniform(tuple(there.shape), there, generator), -1.0)
        chosen = choose(there.shape[1], self.share, there, generator) & (there.sum(0) > 1)
        spread = self.strength * uniform((there.shape[1],), there, generator)
        victim = draw.argmax(0)
        return {
            name: _cover(window, chosen & (victim == place), spread, generator, self.limits.get(name))
            for place, (name, window) in enumerate(windows.items())
        }


def _cover(
    window: Window,
    hit: Bool[Tensor, " batch"],
    spread: Float[Tensor, " batch"],
    generator: torch.Generator,
    limits: tuple[float, float] | None,
) -> Window:
    if not window.values.is_floating_point():
        return _replace_ids(window, hit, spread, generator)
    spread = torch.where(hit, spread, torch.zeros_like(spread))
    return add_noise(window, per_row(spread, window.values) * _deviation(window), generator, limits)


def _deviation(window: Window) -> Float[Tensor, "1 *channel_ones"]:
    """Standard deviation of every channel over the batch's real values; of sound, which has none, over all."""
    values, real = window.values, real_values(window) & window.values.isfinite()
    axes = [axis for axis in range(values.ndim) if axis != 1 or values.ndim == 2]
    inside = torch.where(real, values, torch.zeros_like(values))
    count = real.expand(values.shape).sum(axes, keepdim=True).clamp_min(1)
    centred = torch.where(real, inside - inside.sum(axes, keepdim=True) / count, torch.zeros_like(values))
    return (centred.square().sum(axes, keepdim=True) / count).sqrt()


def _replace_ids(
    window: Window, hit: Bool[Tensor, " batch"], spread: Float[Tensor, " batch"], generator: torch.Generator
) -> Window:
    """Put ids from anywhere in the batch, all that are real alike, in place of a share of a sentence's own."""
    ids, real = window.values, real_values(window)
    found = torch.argsort(real.flatten().int(), descending=True, stable=True)  # where real ids are, before all others
    draw = uniform((2, *ids.shape), ids, generator)
    others = ids.flatten()[found[(draw[0] * real.sum()).long()]]
    changed = real & per_row(hit, ids) & (draw[1] < per_row(spread, ids))
    return window._replace(values=torch.where(changed, others, ids))
