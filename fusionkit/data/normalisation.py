"""Statistics of a recording, a subject or a calibration segment, which features are normalised by."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import PurePath
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array, FrontEnd, Modality
from fusionkit.data.features import CPU, CachedFeatures, Windows, run_front_end
from fusionkit.data.records import Records
from fusionkit.data.study import StoredSensor, Study

CHUNK_BYTES = 2**25


class NormaliseOptions(BaseModel):
    """Where the statistics of a sensor's features come from.

    `training`: the training records (fitted in the model, once a fold). `subject` and `recording`: all records of
    each subject or stored recording, without their labels, which is transductive. `calibration`: the first
    ``seconds`` of a recording of each subject, which works in a closed loop. `none`: features stay as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[
        Literal["none", "training", "recording", "subject", "calibration"], Field(description="whose statistics")
    ] = "training"
    seconds: Annotated[float | None, Field(gt=0, description="calibration: length of the segment")] = None
    recording: Annotated[
        str | None,
        Field(description="calibration: pattern of the recording's name, such as '*_rest'; default: the first one"),
    ] = None

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "NormaliseOptions":
        calibrates = self.kind == "calibration"
        if calibrates and self.seconds is None:
            raise PydanticCustomError("normalise", "calibration needs seconds")
        for name in ("seconds", "recording"):
            if not calibrates and getattr(self, name) is not None:
                raise PydanticCustomError(
                    "normalise", "only calibration takes {name}, but kind is {kind}", {"name": name, "kind": self.kind}
                )
        return self


@dataclass(frozen=True)
class Statistics:
    """What features of each record are normalised by: ``(feature - shift) / scale``.

    Attributes:
        group: number of each record's group; the last one holds shift 0 and scale 1, for records without statistics.
        group_shift: mean of each group.
        group_scale: standard deviation of each group; 1 where a feature does not vary.
        calibration_records: records whose window overlaps a calibration segment, not to be scored.
        note: what a report should say of it; empty if nothing.
    """

    group: Int[np.ndarray, " record"]
    group_shift: Float[np.ndarray, "group channel subchannel"]
    group_scale: Float[np.ndarray, "group channel subchannel"]
    calibration_records: Bool[np.ndarray, " record"]
    note: str = ""

    @cached_property
    def shift(self) -> Float[np.ndarray, "record channel subchannel"]:
        """Mean per record."""
        shift: Array = self.group_shift[self.group]
        return shift

    @cached_property
    def scale(self) -> Float[np.ndarray, "record channel subchannel"]:
        """Standard deviation per record."""
        scale: Array = self.group_scale[self.group]
        return scale


def statistics(
    options: NormaliseOptions,
    cached: CachedFeatures,
    study: Study,
    sensor_name: str,
    modality: Modality,
    front_end: FrontEnd,
    *,
    device: torch.device = CPU,
) -> Statistics | None:
    """Statistics of one sensor's features; None for kinds ``none`` and ``training``.

    Args:
        options: where they come from.
        cached: the features.
        study: the study.
        sensor_name: which sensor.
        modality: makes a window of a calibration segment.
        front_end: makes features of it.
        device: where the front end runs.

    Raises:
        DataError: a subject has no recording to calibrate on, or one that is too short.
    """
    sensor = study.sensor(sensor_name)
    if options.kind == "calibration":
        windows = Windows(sensor_name, sensor, modality)
        return _calibrate(options, study, windows, front_end, cached.values.shape[2:], device)
    if options.kind in ("none", "training"):
        return None
    recording = np.asarray(sensor.recording)
    groups = study.records.group("subject") if options.kind == "subject" else recording
    group = np.where(sensor.present & (cached.steps > 0), groups, -1)
    shift, scale = _group_statistics(cached, group)
    return Statistics(
        group % len(shift),
        shift,
        scale,
        np.zeros(len(study.records), np.bool_),
        f"{sensor_name}: normalised by all records of each {options.kind}, without labels: transductive",
    )


def warn_of_erased_labels(
    options: NormaliseOptions, study: Study, sensor_name: str, tasks: Mapping[str, str]
) -> list[str]:
    """Say which tasks lose their labels where features are normalised per recording or per subject.

    Where every recording has one class, what tells the classes apart on average goes with its mean.

    Args:
        options: the sensor's normalisation.
        study: the study.
        sensor_name: the sensor.
        tasks: the label column of each task that has classes.
    """
    if options.kind not in ("recording", "subject"):
        return []
    sensor, records = study.sensor(sensor_name), study.records
    groups = (sensor.recording if options.kind == "recording" else records.group("subject")).tolist()
    warnings = []
    for task, column in tasks.items():
        classes: dict[int, set[str]] = {}
        for group, label, present in zip(groups, records.labels[column], sensor.present, strict=True):
            if label and present:
                classes.setdefault(group, set()).add(label)
        if len(set().union(*classes.values())) > 1 and all(len(seen) == 1 for seen in classes.values()):
            warnings.append(
                f"{sensor_name}: normalisation per {options.kind} erases task {task!r}, for each of its {len(classes)} "
                f"{options.kind}s has one class"
            )
    return warnings


def _group_statistics(cached: CachedFeatures, group: Int[np.ndarray, " record"]) -> tuple[Array, Array]:
    """Mean and standard deviation of each group's real steps, in two passes; the row after the last is 0 and 1."""
    groups, shape = int(group.max(initial=-1)) + 1, cached.values.shape
    count = np.zeros(groups)
    np.add.at(count, group[group >= 0], cached.steps[group >= 0])
    count = np.maximum(count, 1)[:, None, None]
    mean = np.zeros((groups, *shape[2:]))
    square = np.zeros_like(mean)
    chunk = max(1, CHUNK_BYTES // max(1, 8 * int(np.prod(shape[1:]))))
    for second in (False, True):
        for start in range(0, shape[0], chunk):
            mine = group[start : start + chunk]
            rows = np.flatnonzero(mine >= 0)
            mine = mine[rows]
            values = np.asarray(cached.values[start : start + chunk], np.float64)[rows]
            if second:
                values -= mean[mine][:, None]
                values *= values
            values *= (np.arange(shape[1]) < cached.steps[start : start + chunk][rows, None])[:, :, None, None]
            np.add.at(square if second else mean, mine, values.sum(1))
        if not second:
            mean /= count
    return _finish(mean, np.sqrt(square / count))


def _finish(mean: Array, deviation: Array) -> tuple[Array, Array]:
    """Leave the scale of what does not vary, add the row of records without statistics."""
    one = (1, *mean.shape[1:])
    shift = np.concatenate([mean, np.zeros(one)])
    scale = np.concatenate([np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0), np.ones(one)])
    return shift.astype(np.float32), scale.astype(np.float32)


def _calibrate(
    options: NormaliseOptions,
    study: Study,
    windows: Windows,
    front_end: FrontEnd,
    shape: tuple[int, ...],
    device: torch.device,
) -> Statistics:
    sensor, name, seconds = windows.sensor, windows.name, options.seconds
    assert seconds is not None
    if sensor.stored.sample_rate is None:
        raise DataError(f"a sensor must have time to be calibrated by its first {seconds:g} s, but {name} has none")
    samples = round(seconds * sensor.stored.sample_rate)
    subjects = study.records.group("subject")
    names = study.records.group_names("subject")
    mean, deviation = np.zeros((len(names), *shape)), np.ones((len(names), *shape))
    used = np.zeros(len(study.records), np.bool_)
    for subject, subject_name in enumerate(names):
        rows = np.flatnonzero((subjects == subject) & sensor.present)
        if not rows.size:
            continue
        recording = _calibration_recording(options, study.records, sensor, rows)
        if recording is None:
            pattern = "" if options.recording is None else f" that matches {options.recording!r}"
            seen = sorted({sensor.recording_name[int(r)] for r in sensor.recording[rows]})
            raise DataError(
                f"subject {subject_name!r} must have a recording of {name}{pattern} to calibrate {seconds:g} s on, but "
                f"has {seen[:5]}"
            )
        if samples > sensor.recording_count[recording]:
            raise DataError(
                f"subject {subject_name!r} must have {seconds:g} s of {name} to calibrate on, but "
                f"{sensor.recording_name[recording]!r} has "
                f"{sensor.recording_count[recording] / sensor.stored.sample_rate:g} s"
            )
        start = int(sensor.recording_offset[recording])
        window = windows.modality.window(sensor.values[start : start + samples])
        features, steps = run_front_end(front_end, window[None].copy(), np.array([window.shape[-1]]), device)
        if steps[0] < 2:
            raise DataError(
                f"calibration needs two steps of features or more, but {seconds:g} s of {name} of subject "
                f"{subject_name!r} give {steps[0]}"
            )
        real = features[0, : steps[0]].astype(np.float64)
        if not np.isfinite(real).all():
            raise DataError(
                f"features must be finite, but those of the calibration of subject {subject_name!r} are not"
            )
        mean[subject], deviation[subject] = real.mean(0), real.std(0)
        used |= (sensor.offset < start + samples) & (sensor.offset + sensor.count > start) & sensor.present
    shift, scale = _finish(mean, deviation)
    return Statistics(
        np.where(sensor.present, subjects, len(names)),
        shift,
        scale,
        used,
        f"{name}: normalised by the first {seconds:g} s of a recording of each subject"
        + (f" ({options.recording})" if options.recording else "")
        + f", whose {int(used.sum())} records are not scored",
    )


def _calibration_recording(
    options: NormaliseOptions, records: Records, sensor: StoredSensor, rows: Int[np.ndarray, " row"]
) -> int | None:
    """The first stored recording of these rows whose file, stem or name in the table matches."""
    for row in rows.tolist():
        recording = int(sensor.recording[row])
        stored = sensor.recording_name[recording]
        names = (stored, PurePath(stored).stem, records.recording[row])
        if options.recording is None or any(fnmatchcase(name, options.recording) for name in names):
            return recording
    return None
