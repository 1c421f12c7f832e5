"""New records as a bundle is asked with them: windows aligned, and wearers' statistics taken by the runtime alone."""

import numpy as np

from fusionkit.core.errors import located
from fusionkit.core.modality import Array, Modality
from fusionkit.data.alignment import Alignment, fit_alignment
from fusionkit.data.features import Windows
from fusionkit.data.loading import LoaderInput
from fusionkit.data.normalisation import (
    NormaliseOptions,
    Person,
    Statistics,
    by_segments,
    check_segment,
    transductive_note,
    warn_of_erased_labels,
)
from fusionkit.data.segments import Over, Segment, sensor_groups
from fusionkit.data.study import Study
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.streaming import notes_of_future
from fusionkit.runtime import Session
from fusionkit.runtime.features import FeatureGraphs
from fusionkit.runtime.wearer import Wearer
from fusionkit.training.records import build_source, sensor_columns

CHUNK = 64


class Worn:
    """A study's windows with alignment and statistics, for a bundle: what `fusionkit.training.material.Material` is for torch.

    A wearer is whoever the recipe normalises by: each subject or recording, with all of its records (transductive) or
    with the first seconds, after which statistics go on with every record where the recipe says so. A bundle that was
    adapted to somebody takes all records for theirs.

    Args:
        session: of the bundle; its graphs make the features that statistics are taken of.
        recipe: of the bundle, with the sensors that are asked.
        study: the new data.
        modalities: of the recipe, fitted.

    Attributes:
        excluded: records that overlap a calibration segment, not to be scored.
        notes: what a report should say.

    Raises:
        DataError: a subject has no recording to calibrate on, or one that is too short.
    """

    def __init__(self, session: Session, recipe: Recipe, study: Study, modalities: dict[str, Modality]) -> None:
        self.excluded: Array = np.zeros(len(study.records), dtype=bool)
        self.notes: list[str] = build_source(recipe).notes(sensor_columns(recipe, modalities))
        self.notes += notes_of_future(recipe)
        self._alignment: dict[str, Alignment | None] = {}
        self._statistics: dict[str, Statistics | None] = {}
        graphs, known = FeatureGraphs(session), session.wearer()
        classed = {task: entry.column for task, entry in recipe.tasks.items() if entry.kind != "regression"}
        for name, entry in recipe.modalities.items():
            if known is not None and name in {*known.matrix, *known.running}:
                self._alignment[name], self._statistics[name] = of_wearer(known, name, len(study.records))
                self.notes.append(f"{name}: aligned and normalised by whom the bundle was adapted to")
                continue
            with located(f"modalities.{name}.align"):
                alignment = fit_alignment(entry.align, study, name)
            windows = Windows(name, study.sensor(name), modalities[name], alignment)
            with located(f"modalities.{name}.normalise"):
                statistics = wearers(graphs, entry.normalise, study, windows)
            for found in (alignment, statistics):
                if found is not None:
                    self.excluded |= found.calibration_records
                    self.notes.append(found.note)
            self.notes += warn_of_erased_labels(entry.normalise, study, name, classed)
            self._alignment[name], self._statistics[name] = alignment, statistics

    def windows(self, name: str, modality: Modality) -> LoaderInput:
        """What the bundle is asked with."""
        return LoaderInput(modality, self._statistics[name], alignment=self._alignment[name])


def wearers(graphs: FeatureGraphs, options: NormaliseOptions, study: Study, windows: Windows) -> Statistics | None:
    """Statistics of one sensor's wearers; None for kinds ``none`` and ``training``.

    Args:
        graphs: make features.
        options: where statistics come from.
        study: the study.
        windows: of the sensor, aligned.

    Raises:
        DataError: a subject has no recording to calibrate on, or one that is too short.
    """
    name, session = windows.name, graphs.session
    if options.kind in ("none", "training"):
        return None
    shape = session.sensors[name].statistics
    assert shape is not None
    if options.kind == "calibration":

        def begin(segment: Segment) -> Person:
            return _Worn(Wearer(session, graphs), windows, segment, options.seconds or 0.0)

        return by_segments(options, study, name, shape, begin)
    sensor = study.sensor(name)
    over: Over = "subject" if options.kind == "subject" else "recording"
    groups = np.where(sensor.present, sensor_groups(over, sensor, study.records), -1)
    shift, scale = (np.full((int(groups.max(initial=-1)) + 2, *shape), fill, np.float32) for fill in (0, 1))
    for group in range(len(shift) - 1):
        wearer, rows = Wearer(session, graphs), np.flatnonzero(groups == group)
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)) if len(rows) else []:
            wearer.normalise_by(name, *windows.read(chunk))
        if name in wearer.running:
            shift[group], scale[group] = wearer.running[name].shift, wearer.running[name].scale
    unused = np.zeros(len(study.records), np.bool_)
    return Statistics(groups % len(shift), shift, scale, unused, transductive_note(name, options.kind))


def of_wearer(wearer: Wearer, name: str, records: int) -> tuple[Alignment | None, Statistics | None]:
    """Alignment and statistics of one sensor, the same for all records; None where the wearer has none of it."""
    group, unused = np.zeros(records, np.int64), np.zeros(records, np.bool_)
    alignment = statistics = None
    if name in wearer.matrix:
        alignment = Alignment(group, wearer.matrix[name][None], unused, "")
    if name in wearer.running:
        one = wearer.running[name]
        statistics = Statistics(group, one.shift[None], one.scale[None], unused)
    return alignment, statistics


class _Worn:
    """Somebody whose records' features the bundle makes."""

    def __init__(self, wearer: Wearer, windows: Windows, segment: Segment, seconds: float) -> None:
        self._wearer, self._windows, self._name = wearer, windows, windows.name
        window = windows.stretch(segment.row, segment.first, segment.count)
        features = wearer.features(self._name, window)
        check_segment(features, segment, self._name, seconds, lacks=wearer.session.sensors[self._name].lacks)
        wearer.see(self._name, features)

    @property
    def shift(self) -> Array:
        return self._wearer.running[self._name].shift

    @property
    def scale(self) -> Array:
        return self._wearer.running[self._name].scale

    def see(self, row: int) -> None:
        self._wearer.normalise_by(self._name, *self._windows.read(np.array([row])))
