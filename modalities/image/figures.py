"""What a report shows of images: the mean picture of every class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusionkit.core.recording import Array

from .front_end import Patches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_mean_images(
    features: Array, labels: Array, classes: Sequence[str], front_end: Patches
) -> "Mapping[str, Figure]":
    """Mean picture of each class, put together from its patches.

    Args:
        features: ``(record, patch, 3, pixel)``, from 0 to 1.
        labels: class index of each record, NaN where missing.
        classes: their names; those without a record are left out.
        front_end: whose patches they are.
    """
    from matplotlib.figure import Figure

    groups = {name: features[labels == index] for index, name in enumerate(classes)}
    groups = {name: group for name, group in groups.items() if len(group)}
    if not groups:
        return {}
    columns = min(5, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, group) in zip(axes.flat, groups.items(), strict=False):
        axis.imshow(np.clip(_picture(group.mean(0), front_end), 0, 1), interpolation="nearest")
        axis.set_title(f"{name} (n = {len(group)})", fontsize=9)
    return {"mean images": figure}


def _picture(patches: Array, front_end: Patches) -> Array:
    """Patches ``(patch, 3, pixel)`` to ``(height, width, 3)``, without what filled them up."""
    side = front_end.patch
    grid = patches.reshape(front_end.rows, front_end.columns, 3, side, side).transpose(0, 3, 1, 4, 2)
    picture = grid.reshape(front_end.rows * side, front_end.columns * side, 3)
    return picture[: len(picture) - front_end.padding[3], : picture.shape[1] - front_end.padding[1]]
