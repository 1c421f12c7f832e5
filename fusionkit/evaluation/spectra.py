"""Power spectra of a time series, a line a class."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fusionkit.core.recording import Array, Stored
from fusionkit.evaluation.browser import COLOURS
from fusionkit.evaluation.traces import INK, lines, shown_unit

RECORDS = 24
SECONDS = 2.0
LEAST = 32
SIZE = (6.4, 3.0)


def class_spectra(
    read: Callable[[int], Array], rows: Sequence[Sequence[int]], stored: Stored
) -> tuple[Float[np.ndarray, " bin"], Float[np.ndarray, "class_ bin"]] | None:
    """Power spectral density by Welch's method of every class: mean over channels, then over records.

    Segments are `SECONDS` long, or as long as the shortest record. Channels that are flat were not measured and do
    not count. White noise of variance 1 at 100 Hz has 0.02 per hertz at every frequency.

    Args:
        read: samples of a record by its row, time first.
        rows: records of every class; of many, `RECORDS` spread evenly are read.
        stored: what is known of the sensor.

    Returns:
        Hertz, and the density in the shown unit squared per hertz, NaN for a class without records; None where
        records are too short for a spectrum.
    """
    from scipy.signal import welch  # a second to import

    assert stored.sample_rate is not None
    chosen = [[one[i] for i in _even(len(one))] for one in rows]
    signals = [[lines(read(row), stored, int(np.prod(stored.item))) for row in one] for one in chosen]
    shortest = min((len(values) for one in signals for values in one), default=0)
    if shortest < LEAST:
        return None
    segment = min(shortest, max(LEAST, round(SECONDS * stored.sample_rate)))
    hertz = np.fft.rfftfreq(segment, 1 / stored.sample_rate)
    density = np.full((len(rows), len(hertz)), np.nan)
    for class_, one in enumerate(signals):
        means = []
        for values in one:
            lively = values[:, np.isfinite(values).all(0) & (np.ptp(values, axis=0) > 0)]
            if lively.shape[1]:
                means.append(welch(lively, stored.sample_rate, nperseg=segment, axis=0)[1].mean(1))
        if means:
            density[class_] = np.mean(means, axis=0)
    return (hertz, density) if np.isfinite(density).any() else None


def draw_spectra(
    figure: Figure | SubFigure,
    hertz: Float[np.ndarray, " bin"],
    density: Float[np.ndarray, "class_ bin"],
    classes: Sequence[str],
    stored: Stored,
    bands: Mapping[str, tuple[float, float]],
) -> None:
    """Draw what `class_spectra` gives, with the bands that features are made of as shaded columns.

    Args:
        figure: an empty one, of the layout ``constrained``.
        hertz, density: the spectra.
        classes: names of the classes.
        stored: what is known of the sensor.
        bands: by name, lower and upper edge in hertz; above the highest no more than a tenth is shown.
    """
    end = min(hertz[-1], 1.1 * max(high for _, high in bands.values())) if bands else hertz[-1]
    inside = (hertz > 0) & (hertz <= end)
    _, unit = shown_unit(stored)
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        axes = figure.subplots()
        for number, (name, (low, high)) in enumerate(sorted(bands.items(), key=lambda item: item[1])):
            if low < end:
                axes.axvspan(low, min(high, end), color="#e5e7eb" if number % 2 else "#f3f4f6", linewidth=0)
                axes.annotate(
                    name,
                    ((low + min(high, end)) / 2, 1),
                    (0, 2),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    color=INK,
                )
        for place, (name, power) in enumerate(zip(classes, density, strict=True)):
            if np.isfinite(power).any():
                axes.semilogy(hertz[inside], power[inside], color=COLOURS[place % len(COLOURS)], label=name)
        axes.set_xlim(0, end)
        axes.set_xlabel("hertz")
        axes.set_ylabel(f"{unit}² per hertz" if unit else "power per hertz", parse_math=False)
        axes.grid(axis="y", color="#e5e7eb")
        _write_powers(axes)
        legend = axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        for text in legend.get_texts():
            text.set_parse_math(False)


def _write_powers(axes: Axes) -> None:
    """Plain numbers along an axis of less than two decades, where powers of ten alone would be few."""
    low, high = axes.get_ylim()
    if high / low < 100:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if high / low < 10 else "")
        axes.tick_params(axis="y", which="both", labelsize=8)


def _even(count: int) -> list[int]:
    """Up to `RECORDS` places spread over ``count``."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, RECORDS))})
