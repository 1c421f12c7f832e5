"""Maps of the scalp: mean feature of every band, and how each class departs from it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionkit.core.recording import Array

from .places import electrode_places, montage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_topographies(
    features: Array, labels: Array, classes: Sequence[str], channels: Sequence[str], bands: Sequence[str]
) -> "Mapping[str, Figure]":
    """Draw a row of maps for the mean over classes, and one per class for its difference from that mean.

    Channels without a place in the 10-05 system are left out, and the figure says which. With fewer than four
    places, or no record of any class, nothing can be mapped and nothing is drawn.

    Args:
        features: ``(record, time, channel, band)``; what is not finite is left out of the means.
        labels: class number of every record; any other number, NaN too, where it is missing.
        classes: their names.
        channels: names of the electrodes, as ``Fp1``, ``EEG Fp1`` or ``EEG Fp1-Ref``.
        bands: their names.
    """
    places = electrode_places(channels)
    means = class_means(features, labels, len(classes))[:, list(places)]
    shown = [i for i in range(len(classes)) if np.isfinite(means[i]).all()]
    if len(places) < 4 or not shown:
        return {}
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    info = _placed(list(places.values()))
    centre = means[shown].mean(0)
    rows = [("all classes", centre)] + [(classes[i], means[i] - centre) for i in shown]
    figure = Figure(figsize=(1.6 * len(bands) + 1.2, 1.45 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(bands), squeeze=False)
    for column, band in enumerate(bands):
        axes[0, column].set_title(band, fontsize=10)
        limit = max(float(np.abs(values[:, column]).max()) for _, values in rows[1:]) or 1.0
        mean = centre[:, column]
        _map(figure, axes[:1, column], info, [mean], "viridis", (mean.min(), mean.max()))
        _map(figure, axes[1:, column], info, [x[:, column] for _, x in rows[1:]], "RdBu_r", (-limit, limit))
    for row, (name, _) in enumerate(rows):
        axes[row, 0].set_ylabel(name if row == 0 else f"{name}\nminus all", fontsize=9)
    missing = [name for i, name in enumerate(channels) if i not in places]
    if missing:
        figure.supxlabel(f"no place known for {', '.join(missing)}", fontsize=7)
    return {"band topographies": figure}


def class_means(features: Array, labels: Array, classes: int) -> Array:
    """Mean over steps, then over the records of a class: ``(class, channel, band)``, NaN for a class not there.

    Two records of one class with means 1 and 3 give 2, however many steps each has.
    """
    records = _finite_mean(np.asarray(features, dtype=np.float64), 1)
    own = [records[np.asarray(labels) == class_] for class_ in range(classes)]
    return np.stack([_finite_mean(x, 0) for x in own])


def _placed(names: list[str]) -> Any:
    """MNE's description of electrodes, with their places in head coordinates."""
    import mne

    info = mne.create_info(names, 1.0, "eeg", verbose="ERROR")
    info.set_montage(montage(), verbose="ERROR")
    return info


def _finite_mean(values: Array, axis: int) -> Array:
    """Mean of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis)
    total = np.where(finite, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _map(figure: Any, axes: Array, info: Any, maps: Sequence[Array], colours: str, limits: tuple[float, float]) -> None:
    """Draw one column of maps that share a scale, and the scale."""
    import mne

    front, back = (np.array(x["loc"][:3]) for x in _placed(["Fpz", "Oz"])["chs"])  # the circle drawn goes through both
    sphere = (*(front + back) / 2, np.linalg.norm(front - back) / 2)
    for axis, values in zip(axes, maps, strict=True):
        image, _ = mne.viz.plot_topomap(
            values, info, axes=axis, show=False, cmap=colours, vlim=limits, contours=0, sensors="k.", sphere=sphere
        )
    bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.6, fraction=0.06, pad=0.02)
    bar.ax.tick_params(labelsize=6)
