"""The one person of a study, as a bundle will know them: alignment and statistics of all that they recorded."""

from collections.abc import Mapping

import numpy as np

from fusionkit.core.errors import located
from fusionkit.core.modality import Array, Modality
from fusionkit.data.features import Windows
from fusionkit.data.loading import LoaderInput
from fusionkit.data.normalisation import NormaliseOptions
from fusionkit.data.segments import find_segments, overlapping, time_order
from fusionkit.data.study import Study
from fusionkit.evaluation.worn import of_wearer
from fusionkit.recipe.sections import Recipe
from fusionkit.runtime import Session
from fusionkit.runtime.wearer import Wearer

CHUNK = 64


def take_wearer(session: Session, recipe: Recipe, study: Study, modalities: Mapping[str, Modality]) -> Wearer:
    """Alignment and statistics of a study of one person, by the graphs of a bundle.

    They are of the calibration segments where the recipe gives ``seconds`` (and with ``update`` of every record after
    them), else of all records.

    Args:
        session: of the bundle.
        recipe: of the bundle.
        study: of one person.
        modalities: of the recipe, fitted.

    Raises:
        DataError: a recording is too short to calibrate on.
        BundleError: a segment has no more samples than channels.
    """
    wearer = Wearer(session)
    for name, entry in recipe.modalities.items():
        sensor, align = study.sensor(name), entry.align
        if not sensor.present.any():
            continue
        with located(f"modalities.{name}.align"):
            if align.kind != "none" and align.seconds is None:
                wearer.align_by_all(name, (sensor.slice(row).T for row in np.flatnonzero(sensor.present).tolist()))
            elif align.kind != "none":
                found = find_segments(name, sensor, study.records, align.seconds or 0, align.recording, "subject")
                wearer.align_by(name, sensor.values[found[0].first : found[0].first + found[0].count].T)
        windows = Windows(name, sensor, modalities[name], of_wearer(wearer, name, len(study.records))[0])
        if session.sensors[name].statistics is not None:
            with located(f"modalities.{name}.normalise"):
                _normalise(wearer, entry.normalise, study, windows)
    return wearer


def worn_inputs(wearer: Wearer, study: Study, modalities: Mapping[str, Modality]) -> dict[str, LoaderInput]:
    """What every record of the person is loaded with: the wearer's alignment and statistics, the same for all."""
    inputs = {}
    for name, modality in modalities.items():
        alignment, statistics = of_wearer(wearer, name, len(study.records))
        inputs[name] = LoaderInput(modality, statistics, alignment=alignment)
    return inputs


def _normalise(wearer: Wearer, options: NormaliseOptions, study: Study, windows: Windows) -> None:
    """Let statistics see the calibration segments, or all records."""
    name, sensor = windows.name, windows.sensor
    rows: Array = time_order(sensor)
    if options.kind == "calibration":
        over = options.over or "subject"
        segments = find_segments(name, sensor, study.records, options.seconds or 0, options.recording, over)
        for one in segments:
            wearer.normalise_by(name, windows.stretch(one.row, one.first, one.count))
        rows = rows[~overlapping(segments, sensor)[rows]] if options.update else rows[:0]
    for chunk in np.array_split(rows, -(-len(rows) // CHUNK)) if len(rows) else []:
        wearer.normalise_by(name, *windows.read(chunk))
