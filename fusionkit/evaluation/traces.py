"""Time series as lines above each other, with a bar that says how much is how high."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from fusionkit.core.recording import Array, Stored

INK, ACCENT = "#1f2937", "#2563eb"
POINTS = 4000


def is_series(stored: Stored) -> bool:
    """Whether samples have time and channels (or one), and no bands beside them."""
    return stored.sample_rate is not None and len(stored.item) < 2


def shown_unit(stored: Stored) -> tuple[float, str]:
    """What samples are multiplied by to be read, and the unit they then have: volts become microvolts."""
    return (1e6, "µV") if stored.unit == "V" else (1.0, stored.unit)


def beginning(values: Array, stored: Stored, seconds: float, samples: int = 500) -> Array:
    """The first ``seconds`` of a window, or so many samples where that is longer: more could not be told apart."""
    assert stored.sample_rate is not None
    return values[: max(round(seconds * stored.sample_rate), samples)]


def spread(values: Array) -> float:
    """The common deviation of channels that are not flat; 0 where all are."""
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(0), 1)
    centred = np.where(finite, np.where(finite, values, 0) - np.where(finite, values, 0).sum(0) / count, 0)
    deviations = np.sqrt(np.square(centred).sum(0) / count)
    lively = deviations[deviations > 0]
    return float(np.median(lively)) if lively.size else 0.0


def lines(values: Array, stored: Stored, most: int) -> Float[np.ndarray, "time channel"]:
    """The first ``most`` channels in the unit shown."""
    factor, _ = shown_unit(stored)
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)[:, :most] * factor


def draw_traces(
    axes: Axes,
    values: Array,
    stored: Stored,
    *,
    most: int,
    gap: float | None = None,
    colour: str = ACCENT,
    bar: bool = True,
) -> None:
    """Draw channels above each other, the first on top.

    Args:
        axes: where.
        values: ``(time,)`` or ``(time, channel)``.
        stored: what is known of the sensor.
        most: how many channels are drawn.
        gap: from one line to the next; default: six times the common deviation.
        colour: of the lines.
        bar: draw the bar that says how high a line is.
    """
    assert stored.sample_rate is not None
    step = -(-len(values) // POINTS)
    shown = lines(values, stored, most)[::step]
    seconds = np.arange(len(shown)) * step / stored.sample_rate
    finite = np.isfinite(shown)
    count = np.maximum(finite.sum(0), 1)
    shown = np.where(finite, shown, np.nan) - np.where(finite, shown, 0).sum(0) / count  # no number leaves a gap
    gap = gap or 6 * spread(shown) or 1.0
    number = shown.shape[1]
    places = gap * np.arange(number)[::-1]
    axes.plot(seconds, shown + places, color=colour, linewidth=0.6)
    names = stored.channels[:number] or tuple(str(channel + 1) for channel in range(number))
    axes.set_yticks(places, names if number > 1 else [""], fontsize=7, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7 * gap, gap * (number - 0.3))
    axes.margins(x=0)
    if bar:
        _draw_bar(axes, gap, stored)


def _draw_bar(axes: Axes, gap: float, stored: Stored) -> None:
    """A bar at the lower right, of a round height of about one gap."""
    power = 10.0 ** math.floor(math.log10(gap))
    height = power * max(digit for digit in (1, 2, 5) if digit * power <= gap)
    _, unit = shown_unit(stored)
    side = axes.get_yaxis_transform()
    beside = side + ScaledTranslation(5 / 72, 0, axes.figure.dpi_scale_trans)
    axes.vlines(1, -gap / 2, -gap / 2 + height, INK, linewidth=1.5, transform=beside, clip_on=False)
    axes.annotate(
        f"{height:g} {unit}".strip(),
        (1, -gap / 2),
        (9, 0),
        xycoords=side,
        textcoords="offset points",
        fontsize=7,
        parse_math=False,
    )
