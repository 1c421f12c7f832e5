"""What a report shows of sound: the mean spectrogram of every class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusionkit.core.recording import Array

from .front_end import LogMel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_spectrograms(
    features: Array, labels: Array, classes: Sequence[str], front_end: LogMel
) -> "Mapping[str, Figure]":
    """Mean spectrogram of each class minus the mean of all, which shows where classes differ.

    Args:
        features: ``(record, frame, mel, 1)``; NaN where a frame is padding.
        labels: class index of each record, NaN where missing.
        classes: their names; those without a record are left out.
        front_end: whose frames and bands they are.
    """
    from matplotlib.figure import Figure

    groups = {name: features[labels == index, :, :, 0] for index, name in enumerate(classes)}
    groups = {name: group for name, group in groups.items() if len(group)}
    if not groups:
        return {}
    means = {name: _mean(group) for name, group in groups.items()}
    overall = np.mean(list(means.values()), axis=0)
    largest = max(1e-6, *(float(np.abs(mean - overall).max()) for mean in means.values()))
    columns = min(4, len(means))
    rows = -(-len(means) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.8, 2.2 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    seconds = front_end.times(features.shape[1]).numpy()
    extent = (float(seconds[0]), float(seconds[-1]) + 1e-6, -0.5, features.shape[2] - 0.5)
    for axis in axes.flat[len(means) :]:
        axis.set_axis_off()
    for axis, (name, mean) in zip(axes.flat, means.items(), strict=False):
        image = axis.imshow(
            (mean - overall).T, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest
        )
        axis.set_title(f"{name} (n = {len(groups[name])})", fontsize=9)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("mel band", fontsize=9)
    figure.colorbar(image, ax=axes, label="log power minus mean of classes")
    return {"spectrograms": figure}


def _mean(group: Array) -> Array:
    """Mean over records that have the frame; 0 where none has."""
    real = np.isfinite(group)
    total = np.where(real, group, 0).sum(0)
    return np.asarray(total / np.maximum(real.sum(0), 1))
