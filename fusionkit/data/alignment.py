"""Euclidean alignment: windows of every subject or recording get one mean covariance, before any feature is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Stored
from fusionkit.data.segments import Over, find_segments, overlapping, sensor_groups
from fusionkit.data.study import Study
from fusionkit.runtime.alignment import MeanCovariance, align, alignment_matrix, calibrate_alignment

VOLTS = 1e-5
"""Spread of an aligned channel that is stored in volts, about that of EEG: logarithms and floors stay in their range."""


class AlignOptions(BaseModel):
    """Whether windows are aligned, and by what.

    `euclidean`: windows of each subject (or recording) are multiplied by the inverse square root of their mean
    covariance, so that all have the same one: uncorrelated channels with a spread of 10 microvolts (1 where samples are no
    volts). Without ``seconds`` the covariance is that of all records, which is transductive; with them, of the first
    ``seconds`` of a recording, which works in a closed loop. `none`: windows stay as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[Literal["none", "euclidean"], Field(description="how windows are aligned")] = "none"
    over: Annotated[Over | None, Field(description="whose windows are aligned together; default: subject")] = None
    seconds: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False, description="length of the calibration segment")
    ] = None
    recording: Annotated[
        str | None,
        Field(description="pattern of the calibration's recording, such as '*_rest'; default: the first one"),
    ] = None

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "AlignOptions":
        for name in ("over", "seconds", "recording"):
            if self.kind == "none" and getattr(self, name) is not None:
                raise PydanticCustomError("align", "only euclidean takes {name}, but kind is none", {"name": name})
        if self.recording is not None and (self.seconds is None or self.over == "recording"):
            raise PydanticCustomError("align", "recording says where the seconds of a subject are, but there are none")
        return self


@dataclass(frozen=True)
class Alignment:
    """What each record's samples are multiplied by.

    Attributes:
        group: number of each record's matrix; -1 where it lacks the sensor.
        matrix: one a group.
        calibration_records: records whose window overlaps a calibration segment, not to be scored.
        note: what a report should say of it.
    """

    group: Int[np.ndarray, " record"]
    matrix: Float[np.ndarray, "group channel channel"]
    calibration_records: Bool[np.ndarray, " record"]
    note: str

    def apply(self, row: int, stored: Array) -> Array:
        """Align stored samples ``(time, channel)`` of the recording that a record lies in; what is all 0 stays 0."""
        return align(self.matrix[self.group[row]], stored.T).T


def fit_alignment(options: AlignOptions, study: Study, sensor_name: str) -> Alignment | None:
    """The matrices of one sensor; None where it is not aligned. Reads every record once, one in memory at a time.

    Raises:
        DataError: the sensor is no time series of channels, or a subject has nothing to calibrate on, or no more
            samples than channels.
    """
    if options.kind == "none":
        return None
    sensor, records = study.sensor(sensor_name), study.records
    stored, over = sensor.stored, options.over or "subject"
    if stored.sample_rate is None or len(stored.item) != 1:
        raise DataError(
            f"only channels that vary in time can be aligned, but {sensor_name} is stored as {list(stored.item)} "
            f"{'values without time' if stored.sample_rate is None else 'values a sample'}"
        )
    groups = np.where(sensor.present, sensor_groups(over, sensor, records), -1)
    matrix = np.zeros((int(groups.max(initial=-1)) + 1, stored.item[0], stored.item[0]), np.float32)
    scale, used = scale_of(stored), np.zeros(len(records), np.bool_)
    if options.seconds is None:
        for group in range(len(matrix)):
            covariance = MeanCovariance(stored.item[0])
            for row in np.flatnonzero(groups == group).tolist():
                covariance.update(sensor.slice(row).T)
            matrix[group] = alignment_matrix(covariance.value, scale)
        note = f"{sensor_name}: aligned by all records of each {over}, without labels: transductive"
        return Alignment(groups, matrix, used, note)
    segments = find_segments(sensor_name, sensor, records, options.seconds, options.recording, over)
    for segment in segments:
        if segment.count <= stored.item[0]:
            raise DataError(
                f"seconds must hold more samples than {sensor_name} has channels, {stored.item[0]}, but "
                f"{options.seconds:g} s hold {segment.count}"
            )
        values = sensor.values[segment.first : segment.first + segment.count].T
        matrix[segment.group] = calibrate_alignment(values, stored.longest, scale)
    used = overlapping(segments, sensor)
    where = "a recording of each subject" if over == "subject" else "each recording"
    note = (
        f"{sensor_name}: aligned by the first {options.seconds:g} s of {where}"
        + (f" ({options.recording})" if options.recording else "")
        + f", whose {int(used.sum())} records are not scored"
    )
    return Alignment(groups, matrix, used, note)


def scale_of(stored: Stored) -> float:
    """Spread of an aligned channel, in the sensor's unit."""
    return VOLTS if stored.unit == "V" else 1.0


def describe_alignment(options: AlignOptions, stored: Stored) -> Mapping[str, Any] | None:
    """What a bundle says of the windows it takes: arguments for `fusionkit.runtime.alignment.calibrate_alignment`."""
    if options.kind == "none":
        return None
    return {**options.model_dump(mode="json"), "samples": stored.longest, "scale": scale_of(stored)}
