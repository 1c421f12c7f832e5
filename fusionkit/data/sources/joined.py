"""Two sources as one: records with labels, and after them records of a second source that have none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from fusionkit.core.errors import DataError, did_you_mean, located
from fusionkit.data.records import ROLES
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.unlabelled import PREFIX

KEY = "data.unlabelled"


@dataclass(frozen=True)
class Grouping:
    """What a split goes by: groups of ``by``, and the ``column`` that says the parts, if there is one.

    ``transductive`` lets records in of which nobody can say whether they are of tested groups.
    """

    by: str
    column: str | None = None
    transductive: bool = False

    @property
    def columns(self) -> list[str]:
        """Columns of the table that it needs."""
        asked = (self.by, self.column)
        return [name for name in asked if name is not None and name not in (*ROLES, "record")]


class Joined(Source):
    """The records of one source, then those of another without their labels.

    A record of the second is called ``unlabelled/ID``, and its subject ``unlabelled/SUBJECT``: whatever is known of a
    person over all of its records (statistics, alignment, calibration) is of one source alone. Where the second source
    only counts its records, they are called ``unlabelled/row N``, for the number says nothing; `fusionkit.data.unlabelled`
    tells who is meant. A file that both name is read and stored once.

    Args:
        first: the source with labels.
        second: the other; it may lack columns of sensors (which are absent from its records) and of labels.
        labels: columns of labels, which are not looked at where the second source has them.
        split: what the records of the first are divided by, which those of the second must tell too.
    """

    kind = "joined"

    def __init__(self, first: Source, second: Source, labels: Collection[str], split: Grouping) -> None:
        self.first, self.second, self.labels, self.split = first, second, tuple(labels), split

    @cached_property
    def _own(self) -> list[Row]:
        return self.first.rows()

    @cached_property
    def _others(self) -> list[Row]:
        with located(KEY):
            rows = self.second.rows()
            self._check_groups(rows)
        numbered = all(row.id == str(number) for number, row in enumerate(rows, start=1))
        nameless = _nameless(rows)
        made = []
        for number, row in enumerate(rows, start=1):
            name = f"{PREFIX}row {number}" if numbered else f"{PREFIX}{row.id}"
            subject = name if nameless else f"{PREFIX}{row.subject}"
            kept = {column: row.labels.get(column) for column in self.split.columns}
            labels = dict.fromkeys(self.first.columns()) | kept
            made.append(replace(row, id=name, subject=subject, labels=labels))
        taken = {row.id for row in self._own} & {row.id for row in made}
        if taken:
            raise DataError(f"{self.title}: no record may be called as one of {KEY}, but {min(taken)!r} is")
        return made

    def _check_groups(self, rows: list[Row]) -> None:
        """Refuse records of which nobody can say whether they are of a tested group."""
        if self.split.transductive:
            return
        more = f"; or give {KEY}.transductive a reason"
        lacking = [name for name in self.split.columns if name not in self.second.columns()]
        if lacking:
            near = did_you_mean(lacking[0], self.second.columns())
            raise DataError(
                f"{self.second.title} must have the column {lacking[0]!r}, by which data.split goes{near}{more}"
            )
        if self.split.by != "record" and _nameless(rows) and not _nameless(self._own):
            raise DataError(
                f"{self.second.title} must name subjects as {self.first.title} does, or nobody can say whose records are "
                f"tested{more}"
            )

    def columns(self) -> list[str]:
        """Those of the first."""
        return self.first.columns()

    def rows(self) -> list[Row]:
        """Every record of the first, then every one of the second."""
        return [*self._own, *self._others]

    @property
    def unlabelled(self) -> int:
        """How many rows the second has."""
        return len(self._others)

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """One sensor of one record; of the second source, None where that lacks the sensor."""
        count = len(self._own)
        if row < count:
            cell = self.first.cell(row, sensor)
            return cell if cell is None or not cell.from_file else replace(cell, key=cell.stamp())
        if not self._has(sensor):
            return None
        cell = self.second.cell(row - count, sensor)
        if cell is None:
            return None
        return replace(
            cell,
            key=cell.stamp() if cell.from_file else f"{PREFIX}{cell.key}",
            where=f"{KEY}: {cell.where}",
            name=cell.name if cell.from_file else f"{PREFIX}{cell.name}",
        )

    def fingerprint(self) -> str:
        """Hash of both, and of what of the second is kept."""
        with located(KEY):
            second = self.second.fingerprint()
        return hashed(self.kind, self.first.fingerprint(), second, self.split.columns)

    def sensors(self) -> Mapping[str, Mapping[str, object]]:
        """Those of the first."""
        return self.first.sensors()

    def notes(self, sensors: Mapping[str, SensorColumn]) -> list[str]:
        """Those of both, and what of the second is absent or not looked at."""
        notes = self.first.notes(sensors)
        absent = [name for name, sensor in sensors.items() if not self._has(sensor)]
        there = {name: sensor for name, sensor in sensors.items() if name not in absent}
        notes += [f"{KEY}: {note}" for note in self.second.notes(there)]
        ignored = [name for name in self.labels if name in self.second.columns()]
        if absent:
            notes.append(f"{KEY}: {self.second.title} has no {' and no '.join(absent)}: absent from its records")
        if ignored:
            notes.append(f"{KEY}: the labels of {self.second.title} are not looked at: {', '.join(ignored)}")
        return notes

    @property
    def title(self) -> str:
        """The first source's."""
        return self.first.title

    def where(self, row: int) -> str:
        """How errors call a record of either."""
        count = len(self._own)
        return self.first.where(row) if row < count else f"{KEY}: {self.second.where(row - count)}"

    def columns_of(self, sensors: Mapping[str, SensorColumn]) -> dict[str, str | None]:
        """Those that the first must have; of the second, any sensor will do.

        Raises:
            DataError: the second has none of the sensors, or lacks the column of a start or a stop.
        """
        here = [self._has(sensor) for sensor in sensors.values()]
        if not any(here):
            asked, known = [sensor.column for sensor in sensors.values()], sorted(self.second.columns())
            raise DataError(f"{KEY}: {self.second.title} must have a column of {asked}, but it has {known}")
        return self.first.columns_of(sensors)

    def check_columns(self, asked: Mapping[str, str | None]) -> None:
        """Refuse columns that the first lacks."""
        self.first.check_columns(asked)

    def _has(self, sensor: SensorColumn) -> bool:
        """Whether the second source has a sensor; where it has, it must have what says when a record starts and stops."""
        with located(KEY):
            known = self.second.columns()
            asked = self.second.columns_of({sensor.name: sensor})
            if sensor.column not in known and (asked or sensor.name not in known):
                return False
            self.second.check_columns(asked)
        return True


def _nameless(rows: list[Row]) -> bool:
    """Whether every record is its own subject."""
    return all(row.subject == row.id for row in rows)
