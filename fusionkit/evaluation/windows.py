"""What `data inspect --plot` draws: a window of every sensor, told apart by how they are stored, then its classes."""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities, sources
from fusionkit.data.checks import layout, window
from fusionkit.data.inspect import (
    Facts,
    FileFacts,
    FolderFacts,
    SourceFacts,
    StudyFacts,
    describe_column,
    read_as_sensors,
    source_cells,
)
from fusionkit.data.records import ROLES
from fusionkit.data.sources.source import Cell, SensorColumn
from fusionkit.data.study import Study
from fusionkit.evaluation.browser import CLASSES
from fusionkit.evaluation.pictures import Picture, Signals, class_pictures
from fusionkit.evaluation.traces import beginning, draw_traces, is_series
from fusionkit.training.checkpoint import write_atomically

FORMATS = (".png", ".svg", ".pdf")
TRACES = 16
NAMES = 64
SECONDS = 10.0
WIDTH = 9.0


def plot_facts(facts: Facts, output: Path) -> None:
    """Draw what was inspected, a study, a data set or a recording, into a file.

    Raises:
        ConfigError: it is none of them, or the file's ending is none that can be drawn.
        DataError: nothing in it can be read.
    """
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot must end in one of {list(FORMATS)}, but got {str(output)!r}")
    found = facts.sources if isinstance(facts, FolderFacts) else (facts,) if isinstance(facts, SourceFacts) else ()
    if isinstance(facts, StudyFacts):
        with Study.open(facts.path) as study:
            pictures = study_pictures(study)
    elif found:
        pictures = {title: picture for source in found for title, picture in source_pictures(source).items()}
    elif isinstance(facts, FileFacts) and facts.kinds:
        read, _ = read_as_sensors(facts)
        windows = {kind: (one.values, layout(one, str(facts.path))) for kind, one in read.items()}
        pictures = {facts.path.name: windows_picture(windows)}
    else:
        raise ConfigError(f"--plot draws studies, data sets and recordings, but {facts.path} is none of them")
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        compose(pictures).savefig(content, format=output.suffix[1:].lower(), dpi=120)
    write_atomically(output, content.getvalue())


def compose(pictures: Mapping[str, Picture]) -> Figure:
    """Pictures under each other, each below its title."""
    sizes = [picture.size for picture in pictures.values()]
    heights = [height + 0.3 for _, height in sizes]
    figure = Figure(figsize=(max(width for width, _ in sizes), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(pictures), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (title, picture) in zip(parts, pictures.items(), strict=True):
        picture.draw(part)
        part.suptitle(title, fontsize=10, parse_math=False)
    return figure


def study_pictures(study: Study) -> dict[str, Picture]:
    """A window of every sensor, and of each time series windows and spectra by the first label that has classes.

    Raises:
        DataError: no record has a sensor.
    """
    record, windows = study_windows(study)
    found = {f"{study.path.name}: {record}": windows_picture(windows)}
    label = class_label(study.records.labels)
    for name, sensor in study.sensors.items():
        if label is None:
            break
        modality = modalities.build(sensor.kind)
        signals = Signals(
            sensor.stored, sensor.slice, sensor.present, study.records.id, study.records.subject, modality.hertz()
        )
        for what, picture in class_pictures(signals, *encode(study.records.labels[label])).items():
            found[f"{name}: {what} of {label}"] = picture
    return found


def source_pictures(facts: SourceFacts) -> dict[str, Picture]:
    """As `study_pictures`, of a data set in each of its forms; of each class a few records are read.

    Raises:
        DataError: a recording cannot be read.
    """
    found: dict[str, Picture] = {}
    for reading in facts.readings:
        source = sources.build(facts.kind, dict(reading.options))
        rows, windows, series = source.rows(), {}, {}
        for sensor in reading.sensors:
            if sensor.first is None:
                continue
            options = {name: value for name, value in sensor.entry.items() if name != "kind"}
            column = SensorColumn(sensor.name, modalities.build(sensor.entry["kind"], options), sensor.name)
            cells = source_cells(source, column)
            read = partial(_read_cell, cells, column)
            present = np.array([cell is not None for cell in cells])
            first = int(present.argmax())
            window = read(first)
            if is_series(sensor.first) and len(window) > 1:
                windows[sensor.name] = window, sensor.first
            else:
                windows[f"{sensor.name}: a whole recording"] = _load(cells, column, first).values, sensor.first
            ids, subjects = [row.id for row in rows], [row.subject for row in rows]
            series[sensor.name] = Signals(sensor.first, read, present, ids, subjects, column.modality.hertz())
        form = ", ".join(f"{name} {value}" for name, value in reading.options.items() if name != "path")
        title = f"{facts.kind}{f' ({form})' if form else ''}"
        if windows:
            found[f"{title}: {rows[0].id}"] = windows_picture(windows)
        labels = {one.name: [row.labels.get(one.name) for row in rows] for one in reading.labels}
        label = class_label(labels)
        for name, signals in series.items():
            if label is None:
                break
            for what, picture in class_pictures(signals, *encode(labels[label]), few=True).items():
                found[f"{title}, {name}: {what} of {label}"] = picture
    if not found:
        raise DataError("\n".join(facts.problems) or f"{facts.path}: a data set must hold a sensor to be drawn")
    return found


def _load(cells: Sequence[Cell | None], column: SensorColumn, row: int) -> Recording:
    """The recording that a record lies in."""
    cell = cells[row]
    assert cell is not None
    return cell.load(column.modality)


def _read_cell(cells: Sequence[Cell | None], column: SensorColumn, row: int) -> Array:
    """The samples of one record."""
    cell, recording = cells[row], _load(cells, column, row)
    assert cell is not None
    first, count = window(cell.start, cell.stop, len(recording.values), recording.sample_rate)
    return recording.values[first : first + count]


def class_label(labels: Mapping[str, Sequence[str | None]]) -> str | None:
    """The first column that says which of a few classes records are of, and is no name of records."""
    for name, cells in labels.items():
        counts = describe_column(name, cells).counts
        if name not in ROLES and 2 <= len(counts) <= CLASSES and max(counts.values()) > 1:
            return name
    return None


def encode(cells: Sequence[str | None]) -> tuple[Array, list[str]]:
    """Number of every record's class, -1 where it is missing, and the classes in order."""
    classes = list(describe_column("", cells).counts)
    return np.array([classes.index(cell) if cell is not None else -1 for cell in cells]), classes


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


def windows_picture(windows: Mapping[str, tuple[Array, Stored]]) -> Picture:
    """Stored samples, a row a sensor; of long series the first seconds, of many channels the first.

    Args:
        windows: by name, samples with time (or item) first, and what is known of their sensor.
    """
    heights = [_height(stored) for _, stored in windows.values()]
    return Picture((WIDTH, 0.2 + sum(heights)), partial(_draw_windows, windows=windows, heights=heights))


def _draw_windows(
    figure: Figure | SubFigure, windows: Mapping[str, tuple[Array, Stored]], heights: Sequence[float]
) -> None:
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        rows = figure.subplots(len(windows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, (values, stored)) in zip(rows, windows.items(), strict=True):
            if is_series(stored) and len(values) > 1:
                draw_traces(axes, beginning(values, stored, SECONDS), stored, most=TRACES)
                axes.set_xlabel("seconds")
            elif len(stored.item) == 2:
                _draw_bands(axes, values, stored)
            elif len(stored.item) == 3:
                _draw_image(axes, values)
            elif _is_text(stored):
                _draw_text(axes, values)
            else:
                _draw_vector(axes, values, stored)
            axes.set_title(f"{name}{_part(values, stored)}", loc="left", fontsize=9, parse_math=False)


def _part(values: Array, stored: Stored) -> str:
    """What of a series is drawn, where it is not all."""
    if not is_series(stored) or stored.sample_rate is None:
        return ""
    parts = []
    shown, channels = len(beginning(values, stored, SECONDS)), int(np.prod(stored.item))
    if channels > TRACES:
        parts.append(f"{TRACES} of {channels} channels")
    if shown < len(values):
        parts.append(f"the first {shown / stored.sample_rate:g} of {len(values) / stored.sample_rate:g} s")
    return ": " + ", ".join(parts) if parts else ""


def _is_text(stored: Stored) -> bool:
    return stored.sample_rate is None and not stored.item and np.dtype(stored.dtype) == np.uint8


def _height(stored: Stored) -> float:
    """Inches of a sensor's row."""
    if _is_text(stored):
        return 0.8
    if len(stored.item) > 1:
        return 2.4
    return 1.2 + 0.14 * min(TRACES, int(np.prod(stored.item)))


def _draw_bands(axes: Axes, values: Array, stored: Stored) -> None:
    """``(time, channel, band)`` as a picture: a stripe of channels for every band."""
    assert stored.sample_rate is not None
    channels, bands = stored.item[0], int(np.prod(stored.item[1:]))
    stripes = np.asarray(values, dtype=np.float64).reshape(len(values), channels, bands)
    image = axes.imshow(
        stripes.transpose(2, 1, 0).reshape(bands * channels, -1),
        aspect="auto",
        interpolation="nearest",
        extent=(0, len(values) / stored.sample_rate, bands, 0),
    )
    for border in range(1, bands):
        axes.axhline(border, color="white", linewidth=1)
    axes.set_yticks(np.arange(bands) + 0.5, [f"band {band + 1}" for band in range(bands)], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=7)
    axes.set_ylabel(f"{channels} channels each", fontsize=7)


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
    if len(stored.channels) == len(numbers) <= NAMES:
        upright = 0 if len(numbers) <= TRACES else 90
        axes.set_xticks(range(len(numbers)), stored.channels, fontsize=7, rotation=upright, parse_math=False)
