"""What is drawn of a sensor's signal by class, for the report and for `data inspect`, which know no sensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure, SubFigure

from fusionkit.core.recording import Array, Stored
from fusionkit.evaluation.browser import Example, choose_examples, draw_page, page_size
from fusionkit.evaluation.spectra import SIZE, class_spectra, draw_spectra
from fusionkit.evaluation.traces import is_series


@dataclass(frozen=True)
class Picture:
    """Something to be drawn: inches of width and height, and what draws it on an empty figure."""

    size: tuple[float, float]
    draw: Callable[[Figure | SubFigure], None]

    def figure(self) -> Figure:
        """On a figure of its own."""
        figure = Figure(figsize=self.size, layout="constrained")
        self.draw(figure)
        return figure


@dataclass(frozen=True)
class Signals:
    """The records of one sensor.

    Attributes:
        stored: what is known of the sensor.
        read: samples of a record by its row, time first.
        present: which records have the sensor.
        ids, subjects: of every record.
        bands: of frequency, by name: lower and upper edge in hertz.
    """

    stored: Stored
    read: Callable[[int], Array]
    present: Array
    ids: Sequence[str]
    subjects: Sequence[str]
    bands: Mapping[str, tuple[float, float]]


def class_pictures(
    signals: Signals, targets: Array, classes: Sequence[str], *, few: bool = False
) -> Mapping[str, Picture]:
    """Windows of some records of every class; spectra by class, of sensors that know bands of frequency.

    Of what is no time series nothing is drawn, nor of windows of a single sample.

    Args:
        signals: the records.
        targets: number of the class of every record; any other number, NaN too, where it is missing.
        classes: their names.
        few: take spectra of the records shown alone, where reading one is slow.
    """
    if not is_series(signals.stored):
        return {}
    shown = choose_examples(targets, signals.subjects, signals.present, len(classes))
    if not any(shown):
        return {}
    read = {row: signals.read(row) for one in shown for row in one}
    if max(map(len, read.values())) < 2:
        return {}
    pages = [
        [Example(signals.ids[row], signals.subjects[row], classes[class_], read[row]) for row in one]
        for class_, one in enumerate(shown)
    ]
    size = page_size([page for page in pages if page], signals.stored)
    found = {"windows by class": Picture(size, partial(draw_page, pages=pages, stored=signals.stored))}
    if not signals.bands:
        return found
    every = [(signals.present & (targets == class_)).nonzero()[0].tolist() for class_ in range(len(classes))]
    spectra = class_spectra(read.__getitem__ if few else signals.read, shown if few else every, signals.stored)
    if spectra is not None:
        hertz, density = spectra
        draw = partial(
            draw_spectra, hertz=hertz, density=density, classes=classes, stored=signals.stored, bands=signals.bands
        )
        found["spectra by class"] = Picture(SIZE, draw)
    return found
