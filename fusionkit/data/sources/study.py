"""A study that is there already, as a source of rows and cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError, located
from fusionkit.core.recording import Recording
from fusionkit.core.registry import sources
from fusionkit.data.records import ROLES
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed, label_uses
from fusionkit.data.study import StoredSensor, Study

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredCell(Cell):
    """A recording that a study holds, taken as it is."""

    sensor: StoredSensor
    index: int

    def _load(self, modality: "Modality") -> Recording:
        first, count = int(self.sensor.recording_offset[self.index]), int(self.sensor.recording_count[self.index])
        stored = self.sensor.stored
        values = np.array(self.sensor.values[first : first + count])
        return Recording(values, stored.sample_rate, stored.channels, stored.unit)


@sources.register("study")
class StudySource(Source):
    """Use a study that was ingested before.

    A sensor of the recipe is the study's sensor of that name, else the one that its ``column`` names. What was read
    when the study was made (channels, the size of images) stays as it was.

    Args:
        path: the study.

    Raises:
        DataError: the file is missing, truncated, or no study, or holds the unlabelled records of a second source.

    Example:
        ``data: {kind: study, path: lab.h5}``
    """

    def __init__(self, *, path: Annotated[Path, Field(description="the study, an .h5 file")]) -> None:
        self.path = Path(path)

    @cached_property
    def study(self) -> Study:
        """The study, opened once."""
        study = Study.open(self.path)
        beside = study.records.unlabelled
        if beside:  # people of both sources go by two names there, which a split would take for two people
            study.close()
            raise DataError(
                f"{self.path}: a study must be of one source to be divided, but its last {beside} records are those of a "
                f"run's data.unlabelled: ingest each source alone"
            )
        return study

    def columns(self) -> list[str]:
        """Its sensors and its labels."""
        return list(dict.fromkeys([*self.study.sensors, *self.study.records.labels]))

    def columns_of(self, sensors: Mapping[str, SensorColumn]) -> dict[str, str | None]:
        """None: sensors are known by their names, too, and windows are stored."""
        del sensors
        return {}

    def rows(self) -> list[Row]:
        """Its records."""
        records = self.study.records
        return [
            Row(
                **{role: getattr(records, role)[row] for role in ROLES},
                labels={label: column[row] for label, column in records.labels.items()},
            )
            for row in range(len(records))
        ]

    @property
    def title(self) -> str:
        """Name of the file."""
        return self.path.name

    def stored(self, sensor: SensorColumn) -> StoredSensor:
        """What the study holds for a sensor of the recipe.

        Raises:
            UnknownNameError: neither its name nor its column is a sensor of the study.
        """
        name = sensor.name if sensor.name in self.study.sensors else sensor.column
        with located(f"modalities.{sensor.name}"):
            return self.study.sensor(name)

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """The stored recording of one record, and where its window lies."""
        stored = self.stored(sensor)
        index = int(stored.recording[row])
        if index < 0:
            return None
        name, where = stored.recording_name[index], f"{self.where(row)}, column {sensor.column}"
        start = stop = None
        if stored.stored.sample_rate is not None:
            first = int(stored.offset[row] - stored.recording_offset[index])
            start = first / stored.stored.sample_rate
            stop = (first + int(stored.count[row])) / stored.stored.sample_rate
        return StoredCell(key=str(index), where=where, name=name, start=start, stop=stop, sensor=stored, index=index)

    def fingerprint(self) -> str:
        """Hash of the study's digest and place."""
        return hashed(self.kind, str(self.path.resolve()), self.study.digest)

    def view(self, sensors: Sequence[SensorColumn], labels: Sequence[str] | Mapping[str, str]) -> Study:
        """The study itself with the sensors that are asked for, under the recipe's names; nothing is copied.

        Raises:
            DataError: the study lacks a label column.
            UnknownNameError: it lacks a sensor.
        """
        self.check_columns(label_uses(labels))
        chosen = {sensor.name: self.stored(sensor) for sensor in sensors}
        renamed = {
            sensor.name: sensor.column
            for sensor in sensors
            if chosen[sensor.name] is not self.study.sensors.get(sensor.name)
        }
        digest = hashed(self.study.digest, renamed) if renamed else self.study.digest
        return replace(self.study, sensors=chosen, digest=digest)
