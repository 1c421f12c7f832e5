"""One window of every sensor as a picture: traces, a photograph, a sentence, told apart by how they are stored."""

import io
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Array, Stored
from fusionkit.data.checks import layout
from fusionkit.data.inspect import Facts, FileFacts, StudyFacts, read_as_sensors
from fusionkit.data.study import Study
from fusionkit.training.checkpoint import write_atomically

FORMATS = (".png", ".svg", ".pdf")
TRACES = 16
POINTS = 4000
WIDTH = 8.0


def plot_facts(facts: Facts, output: Path) -> None:
    """Draw what was inspected, a study or a recording, into a file.

    Raises:
        ConfigError: it is neither, or the file's ending is none that can be drawn.
        DataError: nothing in it can be read.
    """
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot must end in one of {list(FORMATS)}, but got {str(output)!r}")
    if isinstance(facts, StudyFacts):
        with Study.open(facts.path) as study:
            record, windows = study_windows(study)
            figure = draw_windows(windows, f"{facts.path.name}: {record}")
    elif isinstance(facts, FileFacts) and facts.kinds:
        read, _ = read_as_sensors(facts)
        windows = {kind: (one.values, layout(one, str(facts.path))) for kind, one in read.items()}
        figure = draw_windows(windows, facts.path.name)
    else:
        raise ConfigError(f"--plot draws studies and recordings, but {facts.path} is neither")
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        figure.savefig(content, format=output.suffix[1:].lower(), dpi=120)
    write_atomically(output, content.getvalue())


def study_windows(study: Study) -> tuple[str, dict[str, tuple[Array, Stored]]]:
    """The record with the most sensors (the first such): its id, and what it holds of each.

    Raises:
        DataError: no record has a sensor.
    """
    here = np.array([sensor.present for sensor in study.sensors.values()], dtype=np.int64)
    if not here.any():
        raise DataError(f"{study.path}: a record must have a sensor to be drawn, but none has")
    row = int(here.sum(0).argmax())
    chosen = {name: sensor for name, sensor in study.sensors.items() if sensor.present[row]}
    return study.records.id[row], {name: (sensor.slice(row), sensor.stored) for name, sensor in chosen.items()}


def draw_windows(windows: Mapping[str, tuple[Array, Stored]], title: str = "") -> Figure:
    """Draw stored samples, a row a sensor.

    Args:
        windows: by name, samples with time (or item) first, and what is known of their sensor.
        title: above all.
    """
    heights = [_height(stored) for _, stored in windows.values()]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
        rows = figure.subplots(len(windows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, (values, stored)) in zip(rows, windows.items(), strict=True):
            axes.set_title(name, loc="left", fontsize=9, parse_math=False)
            if stored.sample_rate is not None:
                _draw_traces(axes, values, stored)
            elif len(stored.item) == 3:
                _draw_image(axes, values)
            elif _is_text(stored):
                _draw_text(axes, values)
            else:
                _draw_vector(axes, values, stored)
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _is_text(stored: Stored) -> bool:
    return stored.sample_rate is None and not stored.item and np.dtype(stored.dtype) == np.uint8


def _height(stored: Stored) -> float:
    """Inches of a sensor's row."""
    if _is_text(stored):
        return 0.8
    return 2.2 if len(stored.item) == 3 else 1.2 + 0.12 * min(TRACES, int(np.prod(stored.item)))


def _draw_traces(axes: Axes, values: Array, stored: Stored) -> None:
    """Channels above each other, each shifted by six of the common deviation."""
    assert stored.sample_rate is not None
    step = -(-len(values) // POINTS)
    lines = np.asarray(values[::step], dtype=np.float64).reshape(-1, max(1, int(np.prod(stored.item))))[:, :TRACES]
    seconds = np.arange(len(lines)) * step / stored.sample_rate
    known = np.nan_to_num(lines, posinf=0, neginf=0)
    lines = np.where(np.isfinite(lines), lines, np.nan) - known.mean(0)  # what is no number leaves a gap
    gap = 6 * float(np.median(known.std(0))) or 1.0
    count = lines.shape[1]
    places = gap * np.arange(count)[::-1]
    axes.plot(seconds, lines + (places if count > 1 else 0), color="#2563eb", linewidth=0.6)
    if count > 1:
        names = stored.channels[:count] or tuple(str(channel + 1) for channel in range(count))
        axes.set_yticks(places, names, fontsize=7, parse_math=False)
    elif stored.unit:
        axes.set_ylabel(stored.unit, parse_math=False)
    axes.set_xlabel("seconds")
    axes.margins(x=0)


def _draw_image(axes: Axes, values: Array) -> None:
    axes.imshow(np.moveaxis(np.asarray(values[0]), 0, -1))
    axes.set_anchor("W")
    axes.set_axis_off()


def _draw_text(axes: Axes, values: Array) -> None:
    text = textwrap.shorten(bytes(values).decode("utf-8", errors="replace"), 300, placeholder=" ...")
    axes.text(0, 1, textwrap.fill(text, 110), va="top", parse_math=False)
    axes.set_axis_off()


def _draw_vector(axes: Axes, values: Array, stored: Stored) -> None:
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    axes.bar(range(len(numbers)), numbers, color="#93c5fd")
    if len(stored.channels) == len(numbers) <= TRACES:
        axes.set_xticks(range(len(numbers)), stored.channels, fontsize=7, parse_math=False)
