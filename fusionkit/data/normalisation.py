"""Statistics of a recording, a subject or a calibration segment, which features are normalised by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array, FrontEnd, Modality
from fusionkit.data.alignment import Alignment
from fusionkit.data.features import CPU, CachedFeatures, Windows, run_front_end
from fusionkit.data.segments import Over, Segment, find_segments, overlapping, sensor_groups, time_order
from fusionkit.data.study import Study
from fusionkit.runtime.statistics import RunningStatistics, spread

CHUNK_BYTES = 2**22


class NormaliseOptions(BaseModel):
    """Where the statistics of a sensor's features come from.

    `training`: the training records (fitted in the model, once a fold). `subject` and `recording`: all records of
    each subject or stored recording, without their labels, which is transductive. `calibration`: the first
    ``seconds`` of a recording of each subject (or of each recording), which works in a closed loop; with ``update``,
    they go on with every record of it in order of time, each of which is normalised by what came before. `none`:
    features stay as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[
        Literal["none", "training", "recording", "subject", "calibration"], Field(description="whose statistics")
    ] = "training"
    seconds: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="calibration: length of the segment")
    ] = None
    recording: Annotated[
        str | None,
        Field(description="calibration: pattern of the recording's name, such as '*_rest'; default: the first one"),
    ] = None
    over: Annotated[
        Over | None, Field(description="calibration: who has a segment, each subject (default) or each recording")
    ] = None
    update: Annotated[bool | None, Field(description="calibration: go on with every later record (default: false)")] = (
        None
    )

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "NormaliseOptions":
        calibrates = self.kind == "calibration"
        if calibrates and self.seconds is None:
            raise PydanticCustomError("normalise", "calibration needs seconds")
        for name in ("seconds", "recording", "over", "update"):
            if not calibrates and getattr(self, name) is not None:
                raise PydanticCustomError(
                    "normalise", "only calibration takes {name}, but kind is {kind}", {"name": name, "kind": self.kind}
                )
        if self.recording is not None and self.over == "recording":
            raise PydanticCustomError("normalise", "recording chooses one of a subject's, but over is recording")
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
    alignment: Alignment | None = None,
    smooth: Callable[[Array], Array] | None = None,
    device: torch.device = CPU,
) -> Statistics | None:
    """Statistics of one sensor's features, NaN not counted; None for kinds ``none`` and ``training``.

    Args:
        options: where they come from.
        cached: the features.
        study: the study.
        sensor_name: which sensor.
        modality: makes a window of a calibration segment.
        front_end: makes features of it.
        alignment: what its samples are multiplied by first.
        smooth: what is done to the steps of a calibration segment, where features are smoothed across records.
        device: where the front end runs.

    Raises:
        DataError: a subject has no recording to calibrate on, or one that is too short.
    """
    sensor = study.sensor(sensor_name)
    if options.kind == "calibration":
        windows, seconds = Windows(sensor_name, sensor, modality, alignment), options.seconds
        assert seconds is not None

        def begin(segment: Segment) -> Person:
            features = _segment_features(segment, windows, front_end, seconds, device)
            return _Cached(features if smooth is None else smooth(features), cached)

        return by_segments(options, study, sensor_name, cached.values.shape[2:], begin)
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
        transductive_note(sensor_name, options.kind),
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
        for group, label, present in zip(groups, records.known(column), sensor.present, strict=True):
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
    mean = np.zeros((groups, *shape[2:]))
    square, count = np.zeros_like(mean), np.zeros_like(mean)
    chunk = max(1, CHUNK_BYTES // max(1, 8 * int(np.prod(shape[1:]))))
    for second in (False, True):
        for start in range(0, shape[0], chunk):
            mine = group[start : start + chunk]
            rows = np.flatnonzero(mine >= 0)
            mine = mine[rows]
            values = np.asarray(cached.values[start : start + chunk], np.float64)[rows]
            real = (np.arange(shape[1]) < cached.steps[start : start + chunk][rows, None])[:, :, None, None]
            real = real & ~np.isnan(values)
            if second:
                values -= mean[mine][:, None]
                values *= values
            else:
                np.add.at(count, mine, real.sum(1))
            np.add.at(square if second else mean, mine, np.where(real, values, 0).sum(1))
        if not second:
            mean /= np.maximum(count, 1)
    one = (1, *shape[2:])
    scale = spread(mean, np.sqrt(square / np.maximum(count, 1)))
    return (
        np.concatenate([mean, np.zeros(one)]).astype(np.float32),
        np.concatenate([scale, np.ones(one, np.float32)]),
    )


class Person(Protocol):
    """Somebody whose calibration segment was seen, and whose statistics may go on with later records."""

    @property
    def shift(self) -> Array:
        """Mean ``(channel, subchannel)`` of what was seen."""

    @property
    def scale(self) -> Array:
        """Standard deviation, likewise."""

    def see(self, row: int) -> None:
        """Go on with a record."""


def by_segments(
    options: NormaliseOptions,
    study: Study,
    sensor_name: str,
    shape: tuple[int, ...],
    begin: Callable[[Segment], Person],
) -> Statistics:
    """Statistics of calibration segments, and with ``update`` of every record before.

    Args:
        options: of kind ``calibration``.
        study: the study.
        sensor_name: which sensor.
        shape: ``(channel, subchannel)`` of its features.
        begin: sees a segment.

    Raises:
        DataError: a subject has no recording to calibrate on, or one that is too short.
    """
    sensor, seconds, over = study.sensor(sensor_name), options.seconds, options.over or "subject"
    assert seconds is not None
    segments = find_segments(sensor_name, sensor, study.records, seconds, options.recording, over)
    used = overlapping(segments, sensor)
    groups = np.where(sensor.present, sensor_groups(over, sensor, study.records), -1)
    count = len(groups) if options.update else int(groups.max(initial=-1)) + 1
    shift, scale = (np.full((count + 1, *shape), fill, np.float32) for fill in (0, 1))
    order = time_order(sensor)
    for segment in segments:
        person = begin(segment)
        if not options.update:
            shift[segment.group], scale[segment.group] = person.shift, person.scale
            continue
        for row in order[groups[order] == segment.group].tolist():
            shift[row], scale[row] = person.shift, person.scale
            if not used[row]:  # whose samples the segment has brought already
                person.see(row)
    number = np.arange(count) if options.update else groups
    return Statistics(
        np.where(sensor.present, number, count),
        shift,
        scale,
        used,
        f"{sensor_name}: normalised by the first {seconds:g} s of "
        + ("a recording of each subject" if over == "subject" else "each recording")
        + (f" ({options.recording})" if options.recording else "")
        + (" and every record before" if options.update else "")
        + f", whose {int(used.sum())} records are not scored",
    )


def transductive_note(sensor_name: str, kind: str) -> str:
    """What a report should say of statistics of all records."""
    return f"{sensor_name}: normalised by all records of each {kind}, without labels: transductive"


class _Cached:
    """Somebody whose records' features lie in a cache."""

    def __init__(self, segment: Array, cached: CachedFeatures) -> None:
        self._cached = cached
        self._running = RunningStatistics(cached.values.shape[2:])
        self._running.update(segment)

    @property
    def shift(self) -> Array:
        return self._running.shift

    @property
    def scale(self) -> Array:
        return self._running.scale

    def see(self, row: int) -> None:
        self._running.update(self._cached.values[row, : self._cached.steps[row]])


def _segment_features(
    segment: Segment, windows: Windows, front_end: FrontEnd, seconds: float, device: torch.device
) -> Array:
    """Features ``(step, channel, subchannel)`` of a calibration segment."""
    window = windows.stretch(segment.row, segment.first, segment.count)
    features, steps = run_front_end(front_end, window[None].copy(), np.array([window.shape[-1]]), device)
    real = features[0, : steps[0]]
    check_segment(real, segment, windows.name, seconds, lacks=front_end.lacks)
    return real


def check_segment(features: Array, segment: Segment, sensor_name: str, seconds: float, *, lacks: bool) -> None:
    """Refuse features ``(step, channel, subchannel)`` of a segment that nothing can be normalised by.

    Raises:
        DataError: they are of less than two steps, or not finite (NaN may say that a channel ``lacks``).
    """
    if len(features) < 2:
        raise DataError(
            f"calibration needs two steps of features or more, but {seconds:g} s of {sensor_name} of {segment.name} "
            f"give {len(features)}"
        )
    if not (np.isfinite(features) | (np.isnan(features) & lacks)).all():
        raise DataError(f"features must be finite, but those of the calibration of {segment.name} are not")
