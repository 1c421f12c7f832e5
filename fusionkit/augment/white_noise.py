"""White noise on a window, whatever its sensor."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.core.levels import Window

from .augmentation import normal
from .series import across, real_samples


def add_noise(
    window: Window,
    deviation: Float[Tensor, "batch *ones"],
    generator: torch.Generator,
    limits: tuple[float, float] | None = None,
) -> Window:
    """Add Gaussian noise to what is real of windows of numbers, then clip it to ``limits``.

    ``deviation`` is the noise's standard deviation in the window's own units; where it is 0, every bit stays. A grey
    picture, three equal colours, stays grey.
    """
    values = window.values
    noise = normal(tuple(values.shape), values, generator)
    if values.ndim == 4:
        grey = (values == values[:, :1]).flatten(1).all(1)
        noise = torch.where(per_row(grey, values), noise[:, :1], noise)
    noisy = values + deviation.to(values.dtype) * noise
    if limits is not None:
        noisy = noisy.clamp(*limits)
    return window._replace(values=torch.where(real_values(window) & (deviation > 0), noisy, values))


def real_values(window: Window) -> Bool[Tensor, "batch *ones time"]:
    """Which values are of a sensor that is present, and no padding; with axes of width 1 for those between."""
    return across(real_samples(window) & window.present[:, None], window.values)


def per_row(rows: Tensor, values: Tensor) -> Tensor:
    """``(batch,)`` with axes of width 1 behind, so that it meets ``values``."""
    return rows.reshape(len(rows), *(1,) * (values.ndim - 1))
